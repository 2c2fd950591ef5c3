"""What `onnx-ghn export` and `onnx-ghn load` share: the framework's model, and the report on its weights."""

from __future__ import annotations

import ast
import json
import os
from typing import TYPE_CHECKING

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.commands import checked
from onnx_ghn.errors import OptionError, printable

if TYPE_CHECKING:
    from onnx_ghn.exporters.reports import ExportReport, LoadReport

__all__ = ["print_report", "target_options"]

_LISTED = 12  # weights named; --json has them all


def files_of(target: str) -> list[str]:
    """What of a FRAMEWORK:TARGET may be the path of a file."""
    name = target.partition(":")[2]
    return [name, name.rpartition(":")[0]]


def _check_target(target: str) -> None:
    """Refuse a Python file that is not there. Raises OptionError."""
    path = target.partition(":")[2].rpartition(":")[0]
    if path.endswith(".py") and not os.path.isfile(path):
        raise OptionError(f"{path}: no such file")


def _settings(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, object]:
    settings: dict[str, object] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{value!r} must be NAME=VALUE")
        try:
            settings[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            settings[name] = text
    return settings


target_options = cli_options.together(
    click.argument("target", metavar="FRAMEWORK:TARGET", callback=checked(_check_target)),
    click.option(
        "--shape",
        "shapes",
        type=cli_options.shape,
        multiple=True,
        metavar="DIMS",
        help="Shape of an example input, such as 1x3x224x224; may be given several times.",
    ),
    click.option(
        "--set",
        "settings",
        multiple=True,
        callback=_settings,
        metavar="NAME=VALUE",
        help="A keyword argument of the model's constructor or function; may be given several times.",
    ),
    cli_options.force,
    click.option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
)


def print_report(report: ExportReport | LoadReport, first: str, verb: str, as_json: bool) -> None:
    """Say how many weights were exported or loaded, and name those that were not."""
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))
        return
    whole = report.n_weights - len(report.unmatched)
    share = f"{report.share:.2%} of {report.n_elements:,} elements"
    click.echo(f"{first}: {whole} of {report.n_weights} weights {verb} ({share})")
    for note in report.unmatched[:_LISTED]:
        click.echo(f"  {printable(str(note))}")
    if len(report.unmatched) > _LISTED:
        click.echo(f"  … and {len(report.unmatched) - _LISTED} more (--json lists them)")
