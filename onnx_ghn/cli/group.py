"""The command `onnx-ghn`, of which all others are part."""

from __future__ import annotations

import click

from onnx_ghn._version import __version__
from onnx_ghn.cli.commands import CommandsOnDemand, Group
from onnx_ghn.cli.running import run_command

__all__ = ["cli", "main"]

#: By name, the module that defines it, under the name of the module.
_COMMANDS = {
    "predict": "predict",
    "inspect": "inspect",
    "draw": "draw",
    "strip": "strip",
    "ghns": "ghns",
    "export": "export",
    "load": "load",
    "deepnets": "deepnets",
    "train": "train_ghn",
    "eval": "eval_ghn",
    "train-net": "train_net",
    "train-detector": "train_detector",
    "finetune": "finetune",
    "profile": "profile",
    "properties": "properties",
    "nas": "nas",
    "report": "report",
}


@click.group(
    cls=Group,
    commands=CommandsOnDemand("onnx_ghn.cli", _COMMANDS),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="onnx-ghn")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Any ONNX model in, the same model with predicted weights out."""
    ctx.obj = {"debug": debug}


def main(argv: list[str] | None = None) -> None:
    """Entry point of `onnx-ghn`."""
    run_command(cli, argv, "onnx-ghn")
