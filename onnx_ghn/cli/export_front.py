"""`onnx-ghn export` for the models of one framework, which the scripts of the folder exporters/ run."""

from __future__ import annotations

import copy

import click

from onnx_ghn.cli.export import export
from onnx_ghn.exporters.registry import EXAMPLES, FRAMEWORKS

__all__ = ["export_front"]

_TORCH_MODULES = ("pytorch", "huggingface")
_TORCH_OPTIONS = ("exporter", "auxiliary")


def export_front(framework: str) -> click.Command:
    """The command `export` with a TARGET that does not repeat the framework's name.

    Args:
        framework: a key of `registry.FRAMEWORKS`.
    """

    def full_name(context: click.Context, parameter: click.Parameter, value: str) -> str:
        return f"{framework}:{value}"

    targets = ", ".join(EXAMPLES[framework])
    command = copy.copy(export)
    command.params = []
    for parameter in export.params:
        if isinstance(parameter, click.Argument):
            parameter = click.Argument([parameter.name or "target"], metavar="TARGET", callback=full_name)
        elif isinstance(parameter, click.Option) and parameter.name in _TORCH_OPTIONS:
            parameter = copy.copy(parameter)
            parameter.hidden = FRAMEWORKS[framework] not in _TORCH_MODULES
        command.params.append(parameter)
    command.help = (
        f"Write a model as ONNX: the same as `onnx-ghn export {framework}:TARGET`.\n\n"
        f"Targets are, for example: {targets}. The function in a file returns a model, or a model and its example "
        "inputs."
    )
    return command
