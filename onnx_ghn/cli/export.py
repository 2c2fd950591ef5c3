"""`onnx-ghn export`: a framework's model as an ONNX file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.checks import check_output
from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.exporting import ModelOptions, files_of, print_report, target
from onnx_ghn.cli.frameworks import building, framework_at_work
from onnx_ghn.cli.terminal import spinner
from onnx_ghn.settings import setting

if TYPE_CHECKING:
    from onnx_ghn.exporters.reports import ExportReport

__all__ = ["export"]


@click.command(cls=Command, short_help="Write a framework's model as an ONNX file to predict.")
@target
def export(
    target: str,
    options: ModelOptions,
    output: str = cli_options.output("Where to write the .onnx file."),
    exporter: Literal["auto", "torchscript", "dynamo"] | None = setting(
        None, "Which of PyTorch's two exporters to use (default: auto, the second where the first fails)."
    ),
    auxiliary: bool = setting(False, "Export the heads that only training computes, too (PyTorch)."),
) -> None:
    """Write a framework's model as ONNX, its batch norms kept and each of its weights traced.

    \b
    torchvision:resnet50   timm:convnext_atto   torch:net.py:build
    keras:ResNet50         keras:saved.keras    keras:net.py:build
    hf:bert                hf:FOLDER            flax:net.py:build
    paddle:resnet18        paddle:net.py:build  equinox:net.py:build   sklearn:net.py:build
    tensorflow:SAVEDMODEL  tensorflow:net.py:build                     mindspore:net.py:build

    The function in a file returns a model, or a model and its example inputs.
    """
    check_output(output, [".onnx"], "an ONNX model", options.force, files_of(target))
    with framework_at_work():
        report = _export(target, options, output, exporter, auxiliary)
    print_report(report, f"{output} from {target}, {report.exporter}", "traced", options.as_json)


def _export(target: str, options: ModelOptions, output: str, exporter: str | None, auxiliary: bool) -> ExportReport:
    with building(target):
        from onnx_ghn.exporters.registry import resolve

        found = resolve(target, options.shapes, dict(options.arguments))
    more: dict[str, str | bool] = {"exporter": exporter} if exporter else {}
    if auxiliary:
        more["auxiliary"] = True
    if more and not found.exporter.__name__.endswith(("pytorch", "huggingface")):
        raise click.UsageError("--exporter and --auxiliary are for PyTorch's models")
    with spinner(f"exporting {target}"):
        report: ExportReport = found.exporter.export(
            found.model, output, found.example_inputs, force=options.force, **more
        )
    return report
