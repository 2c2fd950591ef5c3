"""The command `onnx-ghn`, of which all others are part."""

from __future__ import annotations

import click

from onnx_ghn._version import __version__
from onnx_ghn.cli.commands import Group
from onnx_ghn.cli.deepnets import deepnets
from onnx_ghn.cli.draw import draw
from onnx_ghn.cli.eval_ghn import eval_ghn
from onnx_ghn.cli.export import export
from onnx_ghn.cli.finetune import finetune
from onnx_ghn.cli.ghns import ghns
from onnx_ghn.cli.inspect import inspect
from onnx_ghn.cli.load import load
from onnx_ghn.cli.nas import nas
from onnx_ghn.cli.predict import predict
from onnx_ghn.cli.profile import profile
from onnx_ghn.cli.properties import properties
from onnx_ghn.cli.report import report
from onnx_ghn.cli.running import run_command
from onnx_ghn.cli.strip import strip
from onnx_ghn.cli.train_detector import train_detector
from onnx_ghn.cli.train_ghn import train_ghn
from onnx_ghn.cli.train_net import train_net

__all__ = ["cli", "main"]


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="onnx-ghn")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Any ONNX model in, the same model with predicted weights out."""
    ctx.obj = {"debug": debug}


_COMMANDS: list[click.Command] = [
    predict,
    inspect,
    draw,
    strip,
    ghns,
    export,
    load,
    deepnets,
    train_ghn,
    eval_ghn,
    train_net,
    train_detector,
    finetune,
    profile,
    properties,
    nas,
    report,
]
for _command in _COMMANDS:
    cli.add_command(_command)


def main(argv: list[str] | None = None) -> None:
    """Entry point of `onnx-ghn`."""
    run_command(cli, argv, "onnx-ghn")
