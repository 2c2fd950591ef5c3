"""`onnx-ghn inspect`: what of a model would be predicted."""

from __future__ import annotations

import json

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.terminal import console, spinner
from onnx_ghn.settings import ghn_setting, setting

__all__ = ["inspect"]


@click.command(cls=Command, short_help="Show what of MODEL would be predicted, and what not.")
@cli_options.model
def inspect(
    model: str,
    ghn: str | None = ghn_setting("The GHN that would predict, whose graph rules and vocabulary apply"),
    nodes: bool = setting(False, "List the nodes of the graph, too."),
    as_json: bool = cli_options.as_json(),
) -> None:
    """Show the parameters and nodes of MODEL: what would be predicted, what not, and why."""
    from onnx_ghn.inspection import inspect_model

    with spinner(f"reading {model}"):
        found = inspect_model(model, ghn)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
        return
    from onnx_ghn.cli.tables import coverage_table, nodes_table, parameters_table, print_notes

    out = console()
    if nodes:
        out.print(nodes_table(found.graph))
    out.print(parameters_table(found.coverage))
    out.print(coverage_table(found.coverage))
    print_notes(out, found.coverage)
    out.print(repr(found.graph), highlight=False)
