"""Evaluate a GHN on networks that it has not seen, or any ONNX classifier.

    python training/eval_ghn.py -d cifar10 --ghn out/EXP/ghn --split test --count 100 --results out/test.jsonl
    python training/eval_ghn.py -d cifar10 --ghn ghn2_cifar10.pt --arch ResNet-50
    python training/eval_ghn.py -d cifar10 --model init.onnx

The same as `onnx-ghn eval`. Networks are judged on batches of 64 with batch statistics, as published
(facebookresearch/ppuda, experiments/eval_ghn.py), since a GHN predicts no running statistics.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.checks import check_ghn, check_model
from onnx_ghn.cli.commands import Command, Option, checked
from onnx_ghn.cli.terminal import bar

if TYPE_CHECKING:
    from onnx_ghn.training.nets.networks import Width

__all__ = ["eval_ghn"]


@click.command("eval", cls=Command, short_help="Measure the accuracy of predicted networks, or of a file.")
@cli_options.dataset
@cli_options.data_dir
@click.option(
    "--images", type=click.Choice(["val", "test"]), default="test", show_default=True, help="Images to judge on."
)
@click.option(
    "-C",
    "--ghn",
    "ckpt",
    cls=Option,
    aliases=["--ckpt"],
    callback=checked(check_ghn),
    help="GHN to use: a shipped name, a folder or a .pt file; the default one if omitted.",
)
@click.option("--model", help="ONNX file to evaluate, instead of networks that a GHN fills.")
@click.option(
    "--init", type=click.Choice(["ghn", "kaiming"]), default="ghn", show_default=True, help="Weights of the networks."
)
@click.option(
    "--split",
    type=click.Choice(cli_options.NETWORK_SPLITS),
    default="test",
    show_default=True,
    help="Split of DeepNets-1M.",
)
@click.option(
    "--arch", help="One network: an index of the split, ResNet-50, ViT, DARTS, PDARTS, or a torchvision name."
)
@click.option("--file", help="DeepNets-1M architectures (.hdf5 or .jsonl); without one they are sampled.")
@click.option(
    "--count", cls=Option, aliases=["-n"], type=click.IntRange(min=1), help="Number of networks of the split."
)
@click.option(
    "--width",
    type=click.Choice(["split", "train"]),
    default="split",
    show_default=True,
    help="Widths of the split (32; wide: 128), or drawn by the published training rule.",
)
@click.option(
    "-b",
    "--batch-size",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Images of a batch, whose statistics the batch norms use.",
)
@click.option("--image-size", type=click.IntRange(min=1), help="Scale images to this size.")
@click.option("--n-images", type=click.IntRange(min=1), help="Number of images to judge on, instead of all.")
@click.option("--noise", is_flag=True, help="Judge on images with Gaussian noise, too.")
@click.option("--amp", is_flag=True, help="Run the networks in bfloat16.")
@click.option(
    "--statistics",
    type=click.Choice(["stored", "batch"]),
    help="Statistics that the batch norms of --model use: stored by default.",
)
@click.option(
    "--backend", type=click.Choice(["onnxruntime", "torch"]), default="onnxruntime", help="What runs --model."
)
@click.option(
    "-s", "--seed", type=click.IntRange(min=0), default=1111, show_default=True, help="Seed of sampled networks."
)
@click.option("--results", help="JSON Lines file of results by network; an interrupted run goes on from it.")
@cli_options.machine
@cli_options.as_json
def eval_ghn(
    dataset: str,
    data_dir: str,
    images: Literal["val", "test"],
    ckpt: str | None,
    model: str | None,
    init: Literal["ghn", "kaiming"],
    split: str,
    arch: str | None,
    file: str | None,
    count: int | None,
    width: Width,
    batch_size: int,
    image_size: int | None,
    n_images: int | None,
    noise: bool,
    amp: bool,
    statistics: Literal["stored", "batch"] | None,
    backend: Literal["onnxruntime", "torch"],
    seed: int,
    results: str | None,
    threads: int | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Measure the accuracy of networks with predicted weights, or of an ONNX file."""
    # Options that would be left out without a word are refused.
    only_networks = {"ckpt": ckpt, "arch": arch, "file": file, "count": count, "results": results}
    _check(model, statistics, [name for name, value in only_networks.items() if value is not None])
    if model is not None:
        check_model(model)
    place = cli_options.set_up({"threads": threads, "device": device})

    from onnx_ghn.prediction.predicting import resolve_ghn
    from onnx_ghn.training.evaluation import Images, ModelConfig, Networks, evaluate_model, evaluate_networks, summary

    judged_on = Images(dataset, data_dir, images, batch_size, image_size, n_images, noise)
    if model:
        rows = evaluate_model(model, judged_on, ModelConfig(statistics or "stored", backend, device))
    else:
        networks = Networks(init, split, arch, file, count, width, amp, seed)
        ghn = None if init == "kaiming" else resolve_ghn(ckpt)
        rows = evaluate_networks(networks, judged_on, ghn, device=place, results=results, bar=bar)
    if as_json:
        click.echo(json.dumps({"results": rows, "summary": summary(rows)}, indent=2))
        return
    from rich.console import Console

    from onnx_ghn.cli.tables import accuracies_table

    Console(markup=False, emoji=False).print(accuracies_table(rows, summary(rows)))


def _check(model: str | None, statistics: str | None, only_networks: list[str]) -> None:
    """Refuse options of networks beside a model, and of a model without one. Raises OptionError."""
    from onnx_ghn.errors import OptionError

    if not model and statistics is not None:
        raise OptionError("`statistics`: of `model`; networks that a GHN fills are judged with those of the batch")
    if model and only_networks:
        names = ", ".join(f"`{name}`" for name in only_networks)
        raise OptionError(f"{names}: of networks that a GHN fills, not of a file; leave out `model` or this")
