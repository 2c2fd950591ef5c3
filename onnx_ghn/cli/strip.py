"""`onnx-ghn strip`: a model without its weights."""

from __future__ import annotations

import os

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.checks import check_output
from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.light_imports import import_onnx_ir
from onnx_ghn.cli.terminal import spinner, tell

__all__ = ["strip"]


@click.command(cls=Command, short_help="Write a copy of MODEL without weights, a few KB in all.")
@cli_options.model
def strip(
    model: str,
    output: str = cli_options.output("Where to write the architecture, an .onnx file."),
    force: bool = cli_options.force(),
) -> None:
    """Write an architecture-only copy of MODEL: its weights become ConstantOfShape nodes, a few KB in all.

    No trained values stay, small ones (biases, slopes, scales) included. What the computation means literally does:
    shapes, indices, masks, and small settings such as the channel means that inputs are normalised by.
    """
    check_output(output, [".onnx"], "an ONNX model", force, [model])
    import_onnx_ir()
    from onnx_ghn import strip as run

    with spinner(f"stripping {model}"):
        path = run(model, output, force=force)
    tell(f"{path}: {os.path.getsize(path):,} bytes, from {os.path.getsize(model):,}")
