"""Evaluate a GHN on networks that it has not seen, or any ONNX classifier.

    python training/eval_ghn.py -d cifar10 --ghn out/EXP/ghn --split test --count 100 --results out/test.jsonl
    python training/eval_ghn.py -d cifar10 --ghn ghn2_cifar10.pt --arch ResNet-50
    python training/eval_ghn.py -d cifar10 --model init.onnx

The same as `onnx-ghn eval`. Networks are judged on batches of 64 with batch statistics, as published
(facebookresearch/ppuda, experiments/eval_ghn.py), since a GHN predicts no running statistics.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.commands import Command, Option
from onnx_ghn.cli.terminal import bar

if TYPE_CHECKING:
    from onnx_ghn.evaluate import Accuracy, Logits
    from onnx_ghn.ghn import GHN
    from onnx_ghn.training.nets.networks import Choice

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
    help="A GHN: a shipped name, a folder, a .pt. The default one unless told.",
)
@click.option("--model", help="An ONNX file to evaluate, instead of networks that a GHN fills.")
@click.option("--init", type=click.Choice(["ghn", "kaiming"]), default="ghn", show_default=True, help="Weights.")
@click.option(
    "--split", type=click.Choice(cli_options.NETWORK_SPLITS), default="test", show_default=True, help="Of DeepNets-1M."
)
@click.option(
    "--arch", help="One network: an index of the split, ResNet-50, ViT, DARTS, PDARTS, or a torchvision name."
)
@click.option("--file", help="DeepNets-1M architectures (.hdf5 or .jsonl); without one they are sampled.")
@click.option("--count", cls=Option, aliases=["-n"], type=click.IntRange(min=1), help="How many networks of the split.")
@click.option(
    "--width",
    type=click.Choice(["split", "train"]),
    default="split",
    show_default=True,
    help="Widths of the split (32; wide: 128), or drawn by the published training rule.",
)
@click.option("-b", "--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--image-size", type=click.IntRange(min=1), help="Scale images to this size.")
@click.option("--n-images", type=click.IntRange(min=1), help="Only so many images.")
@click.option("--noise", is_flag=True, help="Judge on images with Gaussian noise too.")
@click.option("--amp", is_flag=True, help="Networks in bfloat16.")
@click.option(
    "--statistics", type=click.Choice(["stored", "batch"]), help="Of --model's batch norms: stored unless told."
)
@click.option(
    "--backend", type=click.Choice(["onnxruntime", "torch"]), default="onnxruntime", help="That runs --model."
)
@click.option("-s", "--seed", type=click.IntRange(min=0), default=1111, show_default=True, help="Of sampled networks.")
@click.option("--results", help="A .jsonl file of results by network; an interrupted run goes on from it.")
@cli_options.machine
@cli_options.as_json
def eval_ghn(**options: Any) -> None:
    """Measure the accuracy of networks with predicted weights, or of an ONNX file."""
    _check(options)
    told = options["device"]
    options["device"] = cli_options.set_up(options)
    rows = _model_rows(options, told) if options["model"] else _network_rows(options)
    if options["as_json"]:
        click.echo(json.dumps({"results": rows, "summary": _summary(rows)}, indent=2))
        return
    from rich.console import Console

    from onnx_ghn.cli.tables import accuracies_table

    Console(markup=False, emoji=False).print(accuracies_table(rows, _summary(rows)))


def _check(options: dict[str, Any]) -> None:
    """Refuse options that would be left out without a word."""
    from onnx_ghn.errors import OptionError

    if not options["model"]:
        if options["statistics"] is not None:
            raise OptionError("--statistics: of --model; networks that a GHN fills are judged with those of the batch")
        return
    told = [f"`{name}`" for name in ("ckpt", "arch", "file", "count", "results") if options[name] is not None]
    if told:
        raise OptionError(f"{', '.join(told)}: of networks that a GHN fills, not of a file; leave out --model or this")


def _network_rows(options: dict[str, Any]) -> list[dict[str, Any]]:
    from onnx_ghn.errors import GraphError
    from onnx_ghn.prediction.predicting import resolve_ghn
    from onnx_ghn.training.nets.networks import choose, n_nets
    from onnx_ghn.training.results import ResultsFile

    batches, n_classes = _batches(options)
    ghn = None if options["init"] == "kaiming" else resolve_ghn(options["ckpt"])
    large = options["dataset"] == "imagenet"
    told = {key: options[key] for key in ("arch", "file", "seed", "width")}
    nets = choose(options["split"], n=options["count"], large_images=large, **told)
    total = n_nets(options["split"], options["arch"], options["count"], options["file"])
    with ResultsFile(options["results"], _settings(options, ghn)) as results, bar("networks", total) as advance:
        rows = []
        for choice in nets:
            if choice.name not in results.records:
                try:
                    record = _evaluate(choice, ghn, n_classes, batches, options)
                except GraphError as error:  # one network of many: told in its row
                    if total == 1:
                        raise
                    record = {"error": str(error)}
                results.add(choice.name, record)
            rows.append({"name": choice.name, **results.records[choice.name]})
            advance(1)
    return rows


def _evaluate(choice: Choice, ghn: Any, n_classes: int, batches: Any, options: dict[str, Any]) -> dict[str, Any]:

    from onnx_ghn.deepnets1m import Architecture
    from onnx_ghn.evaluate import architecture_logits, batch_statistics_mode
    from onnx_ghn.training.nets.networks import make_module
    from onnx_ghn.training.weights import kaiming_, load_tensors, predict_architecture, predict_net

    device = options["device"]
    large = options["dataset"] == "imagenet"
    if isinstance(choice.net, Architecture):
        if ghn is None:
            module = kaiming_(make_module(choice, n_classes, small_images=not large), options["seed"])
            tensors = {name: p.detach() for name, p in module.named_parameters()}
        else:
            tensors = predict_architecture(ghn, choice.net, n_classes, large_images=large)
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        logits = architecture_logits(choice.net, tensors, large_images=large, bfloat16=options["amp"])
        return _measure(lambda images: logits(images.to(device)), batches)
    module = make_module(choice, n_classes, small_images=not large)
    if ghn is None:
        kaiming_(module, options["seed"])
    else:
        size = options["image_size"] or (224 if large else 32)
        load_tensors(module, predict_net(ghn, choice.net, module, n_classes, size))
    with batch_statistics_mode(module.to(device)) as run:
        return _measure(lambda images: run(images.to(device)), batches)


def _model_rows(options: dict[str, Any], device: str | None) -> list[dict[str, Any]]:
    from onnx_ghn.evaluate import onnx_logits

    batches, _ = _batches(options)
    statistics = options["statistics"] or "stored"
    with onnx_logits(options["model"], statistics=statistics, backend=options["backend"], device=device) as logits:
        return [{"name": Path(options["model"]).name, **_measure(logits, batches)}]


def _measure(logits: Logits, batches: Callable[[bool], Any]) -> dict[str, Any]:
    """Accuracies in percent: clean, and noisy where asked for."""
    from onnx_ghn.evaluate import accuracy

    found: dict[str, Accuracy] = {}
    for prefix, noisy in (("", False), ("noisy_", True)):
        images = batches(noisy)
        if images is not None:
            found[prefix] = accuracy(logits, images)
    return {
        f"{prefix}{key}": round(value, 4) if isinstance(value, float) else value
        for prefix, one in found.items()
        for key, value in dataclasses.asdict(one).items()
        if not (prefix and key == "n_images")
    }


def _batches(options: dict[str, Any]) -> tuple[Callable[[bool], Any], int]:
    """A function from `noisy` to the batches (None where no noise is wanted), and the number of classes."""
    import itertools

    from onnx_ghn.vision import eval_batches, load_dataset

    images = load_dataset(options["dataset"], options["data_dir"], options["images"])
    size, limit = options["batch_size"], options["n_images"]

    def batches(noisy: bool) -> Any:
        if noisy and not options["noise"]:
            return None
        found = eval_batches(images, size, noise=noisy, resize_to=options["image_size"], channels_last=True)
        return itertools.islice(found, None if limit is None else -(-limit // size))

    return batches, len(images.classes)


def _settings(options: dict[str, Any], ghn: GHN | None) -> dict[str, Any]:
    """What results depend on: of the GHN its weights, since a folder may come to hold others."""
    from onnx_ghn.ghn import fingerprint

    left_out = ("results", "threads", "device", "as_json", "count", "data_dir")
    left_out += ("model", "statistics", "backend", "ckpt")
    told = {key: value for key, value in options.items() if key not in left_out}
    return told | ({"ghn": fingerprint(ghn)} if ghn is not None and options["results"] else {})


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    import statistics

    good = [row for row in rows if "top1" in row]
    summary: dict[str, Any] = {"networks": len(good), "failed": len(rows) - len(good)}
    for key in ("top1", "top5", "noisy_top1", "noisy_top5"):
        values = [row[key] for row in good if key in row]
        if values:
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            summary[key] = {"mean": statistics.fmean(values), "std": spread, "max": max(values)}
    return summary
