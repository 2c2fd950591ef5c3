"""What `onnx-ghn export` and `onnx-ghn load` share: the framework's model, and the report on its weights."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import TYPE_CHECKING

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.commands import checked
from onnx_ghn.cli.terminal import tell
from onnx_ghn.errors import OptionError, printable
from onnx_ghn.settings import Settings, setting

if TYPE_CHECKING:
    from onnx_ghn.exporters.reports import ExportReport, LoadReport

__all__ = ["ModelOptions", "files_of", "print_report", "target"]

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


target = click.argument("target", metavar="FRAMEWORK:TARGET", callback=checked(_check_target))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelOptions(Settings):
    """How the framework's model is made, and what is printed."""

    shapes: tuple[tuple[int, ...], ...] = setting(
        (),
        "Shape of an example input, such as 1x3x224x224; may be given several times.",
        option="--shape",
        form="shape",
        metavar="DIMS",
    )
    arguments: tuple[tuple[str, object], ...] = setting(
        (),
        "A keyword argument of the model's constructor, function, or configuration (hf); may be given several times.",
        option="--set",
        aliases=["--config"],
        form="assignment",
        metavar="NAME=VALUE",
    )
    force: bool = cli_options.force()
    as_json: bool = cli_options.as_json("the report")


def print_report(report: ExportReport | LoadReport, first: str, verb: str, as_json: bool) -> None:
    """Say how many weights were exported or loaded, and name those that were not."""
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))
        return
    whole = report.n_weights - len(report.unmatched)
    share = f"{report.share:.2%} of {report.n_elements:,} elements"
    tell(f"{first}: {whole} of {report.n_weights} weights {verb} ({share})")
    for remark in report.notes:
        tell(f"  {printable(remark)}")
    for note in report.unmatched[:_LISTED]:
        tell(f"  {printable(str(note))}")
    if len(report.unmatched) > _LISTED:
        tell(f"  … and {len(report.unmatched) - _LISTED} more (--json lists them)")
