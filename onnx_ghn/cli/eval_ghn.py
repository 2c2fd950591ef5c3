"""Evaluate a GHN on networks that it has not seen, or any ONNX classifier.

    python training/eval_ghn.py -d cifar10 --ghn out/EXP/ghn --split test --count 100 --results out/test.jsonl
    python training/eval_ghn.py -d cifar10 --ghn ghn2_cifar10.pt --arch ResNet-50
    python training/eval_ghn.py -d cifar10 --model init.onnx

The same as `onnx-ghn eval`. Networks are judged on batches of 64 with batch statistics, as published
(facebookresearch/ppuda, experiments/eval_ghn.py), since a GHN predicts no running statistics.
"""

from __future__ import annotations

import json

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.checks import check_model
from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.options import Machine
from onnx_ghn.cli.terminal import bar, console
from onnx_ghn.errors import OptionError
from onnx_ghn.settings import ghn_setting, setting
from onnx_ghn.training.evaluation_settings import Images, ModelConfig, Networks

__all__ = ["eval_ghn"]


@click.command("eval", cls=Command, short_help="Measure the accuracy of predicted networks, or of a file.")
def eval_ghn(
    images: Images,
    networks: Networks,
    config: ModelConfig,
    machine: Machine,
    ckpt: str | None = ghn_setting("GHN to use instead of the default one"),
    model: str | None = setting(None, "ONNX file to evaluate, instead of networks that a GHN fills."),
    results: str | None = setting(None, "JSON Lines file of results by network; an interrupted run goes on from it."),
    as_json: bool = cli_options.as_json(),
) -> None:
    """Measure the accuracy of networks with predicted weights, or of an ONNX file."""
    _check_used(model)
    if model is not None:
        check_model(model)
    from onnx_ghn.training.summary import summary

    if model:
        from onnx_ghn.training.file_evaluation import evaluate_model

        if config.backend == "torch":
            machine.set_up()
        rows = evaluate_model(model, images, config, machine.device, machine.threads)
    else:
        place = machine.set_up()
        from onnx_ghn.ghn import load_ghn
        from onnx_ghn.training.evaluation import evaluate_networks

        ghn = None if networks.init == "kaiming" else load_ghn(ckpt)
        rows = evaluate_networks(networks, images, ghn, device=place, results=results, bar=bar)
    if as_json:
        click.echo(json.dumps({"results": rows, "summary": summary(rows)}, indent=2))
        return
    from onnx_ghn.cli.narrow import print_table
    from onnx_ghn.cli.tables import accuracies_table

    print_table(console(), accuracies_table(rows, summary(rows)))


def _check_used(model: str | None) -> None:
    """Refuse options that would be left out: of networks beside a model, of a model without one. Raises OptionError."""
    of_networks = {"ckpt", "results", *Networks.__dataclass_fields__}
    unused = [name for name in cli_options.given() if name in (of_networks if model else {"statistics", "backend"})]
    names = ", ".join(f"`{name}`" for name in unused)
    if unused and model:
        raise OptionError(f"{names}: of networks that a GHN fills, not of a file; leave out `model` or this")
    if unused:
        raise OptionError(f"{names}: of `model`; networks that a GHN fills run in torch, by statistics of the batch")
