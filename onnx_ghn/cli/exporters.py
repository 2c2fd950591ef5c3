"""`onnx-ghn export` and `onnx-ghn load`: models of any framework, there and back."""

from __future__ import annotations

import ast
import json
from typing import TYPE_CHECKING, Any

import click

from onnx_ghn.cli.options import together
from onnx_ghn.errors import printable

if TYPE_CHECKING:
    from onnx_ghn.exporters.reports import ExportReport, LoadReport

__all__ = ["export", "load"]

_LISTED = 12  # weights named; --json has them all


def _shape(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[tuple[int, ...]]:
    shapes = []
    for value in values:
        try:
            shapes.append(tuple(int(part) for part in value.split(",")))
        except ValueError as error:
            raise click.BadParameter(f"{value!r} is no shape; write 1,3,32,32") from error
    return shapes


def _options(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{value!r} must be NAME=VALUE")
        try:
            options[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[name] = text
    return options


_shared = together(
    click.argument("target", metavar="FRAMEWORK:TARGET"),
    click.option("--shape", "shapes", multiple=True, callback=_shape, help="Of an example input, as 1,3,32,32."),
    click.option(
        "--set", "options", multiple=True, callback=_options, metavar="NAME=VALUE", help="For the model's constructor."
    ),
    click.option("--force", is_flag=True, help="Overwrite the output file."),
    click.option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
)


@click.command(short_help="Write a framework's model as an ONNX file to predict.")
@_shared
@click.option("-o", "--output", required=True, metavar="FILE", help="Where to write the .onnx file.")
@click.option(
    "--exporter",
    type=click.Choice(["auto", "torchscript", "dynamo"]),
    help="Of PyTorch's two; auto takes the second where the first fails.",
)
@click.option("--auxiliary", is_flag=True, help="PyTorch: export the heads that only training computes, too.")
def export(
    target: str,
    output: str,
    shapes: list[tuple[int, ...]],
    options: dict[str, Any],
    exporter: str | None,
    auxiliary: bool,
    force: bool,
    as_json: bool,
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
    from onnx_ghn.exporters.registry import resolve
    from onnx_ghn.onnx_io import check_target

    check_target(output, force)
    found = resolve(target, shapes, options)
    more: dict[str, Any] = {"exporter": exporter} if exporter else {}
    if auxiliary:
        more["auxiliary"] = True
    if more and not found.exporter.__name__.endswith(("pytorch", "huggingface")):
        raise click.UsageError("--exporter and --auxiliary are for PyTorch's models")
    report = found.exporter.export(found.model, output, found.example_inputs, force=force, **more)
    _print(report, f"{output} from {target}, {report.exporter}", "traced", as_json)


@click.command(short_help="Take the weights in MODEL back into its framework.")
@_shared
@click.argument("model")
@click.option("-o", "--output", required=True, metavar="FILE", help="Where to write the framework's own file.")
def load(
    target: str,
    model: str,
    output: str,
    shapes: list[tuple[int, ...]],
    options: dict[str, Any],
    force: bool,
    as_json: bool,
) -> None:
    """Write the weights in MODEL, an ONNX file of FRAMEWORK:TARGET, as a file that the framework loads.

    A state_dict as .safetensors (PyTorch, Hugging Face), .weights.h5 (Keras), .tf (a folder with a
    TensorFlow checkpoint), .msgpack or .orbax (Flax), .eqx (Equinox), .pdparams (Paddle), .ckpt (MindSpore), .npz
    (scikit-learn).
    """
    from onnx_ghn.exporters.registry import resolve
    from onnx_ghn.exporters.weight_files import check_weights_target, write_weights

    found = resolve(target, shapes, options)
    check_weights_target(found, output, force)
    report = found.exporter.load(found.model, model, found.example_inputs)
    write_weights(found, output, force=force)
    _print(report, f"{output} for {target}", "loaded", as_json)


def _print(report: ExportReport | LoadReport, first: str, verb: str, as_json: bool) -> None:
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
