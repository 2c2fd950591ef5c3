"""`onnx-ghn draw`: a picture of a model's graph."""

from __future__ import annotations

from typing import Literal

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.checks import check_output
from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.light_imports import import_onnx_ir
from onnx_ghn.cli.terminal import spinner, tell
from onnx_ghn.settings import setting

__all__ = ["draw"]

_ENDINGS = (".svg", ".png", ".dot", ".gv")


@click.command(cls=Command)
@cli_options.model
def draw(
    model: str,
    output: str = cli_options.output("Where to write the picture, an .svg, .png or .dot file."),
    rules: Literal["onnx", "ppuda", "ghn3"] = setting("onnx", "Draw the graph as onnx-ghn, PPUDA or GHN-3 reads it."),
    labels: bool | None = setting(None, "Write names beside the nodes (default: where there is room)."),
    force: bool = cli_options.force(),
) -> None:
    """Draw the graph of MODEL, coloured by primitive."""
    check_output(output, _ENDINGS, "a picture", force, [model])
    import_onnx_ir()
    from onnx_ghn.drawing import draw as run
    from onnx_ghn.graph import build_graph

    with spinner(f"drawing {model}"):
        graph = build_graph(model, rules=rules)
        path = run(graph, output, force=force, labels=labels)
    tell(f"{path}: {len(graph)} nodes, {len(graph.edges)} edges")
