"""`onnx-ghn inspect`: what of a model would be predicted."""

from __future__ import annotations

import json

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.light_imports import import_onnx_ir
from onnx_ghn.cli.terminal import console, spinner
from onnx_ghn.errors import printable
from onnx_ghn.prediction.options import PolicyName
from onnx_ghn.settings import ghn_setting, setting

__all__ = ["inspect"]


@click.command(cls=Command, short_help="Show what of MODEL would be predicted, and what not.")
@cli_options.model
def inspect(
    model: str,
    ghn: str | None = ghn_setting("The GHN that would predict, whose graph rules and vocabulary apply"),
    policy: PolicyName = setting("auto", "Which parameters would be predicted; see `predict`."),
    nodes: bool = setting(False, "List the nodes of the graph, too."),
    tool: str | None = setting(
        None,
        "Say what this runtime, trainer or file tool is known to refuse in MODEL or to compute otherwise, or all.",
        option="--for",
        metavar="TOOL|all",
    ),
    as_json: bool = cli_options.as_json(),
) -> None:
    """Show the parameters and nodes of MODEL: what would be predicted, what not, and why.

    With --for, show what a tool is known to refuse in MODEL or to compute otherwise than onnxruntime, instead.
    """
    if tool is not None:
        _show_behaviours(model, tool, as_json)
        return
    import_onnx_ir()
    from onnx_ghn.inspection import inspect_model

    with spinner(f"reading {model}"):
        found = inspect_model(model, ghn, policy=policy)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
        return
    from onnx_ghn.cli.narrow import print_table
    from onnx_ghn.cli.tables import coverage_table, nodes_table, parameters_table, print_notes, print_sentence

    out = console()
    if nodes:
        print_table(out, nodes_table(found.graph))
    print_table(out, parameters_table(found.coverage))
    print_table(out, coverage_table(found.coverage))
    print_notes(out, found.coverage)
    print_sentence(out, found.coverage)
    out.print(repr(found.graph), highlight=False)


def _show_behaviours(model: str, tool: str, as_json: bool) -> None:
    from onnx_ghn.compatibility.checking import find_behaviours

    with spinner(f"reading {model}"):
        found = find_behaviours(model, tool)
    if as_json:
        click.echo(json.dumps([finding.to_dict() for finding in found], indent=2))
        return
    from onnx_ghn.cli.narrow import print_table
    from onnx_ghn.cli.tables import new_table

    out = console()
    if not found:
        out.print("nothing is known that speaks against it, which is no proof that it runs", highlight=False)
        return
    table = new_table(
        ("tool", "left"), ("effect", "left"), ("what happens", "left"), ("nodes", "right"), ("first", "left")
    )
    for finding in found:
        by = finding.behaviour.tool
        first = printable(finding.nodes[0])
        table.add_row(
            f"{by.name} {by.version}", finding.behaviour.effect, finding.behaviour.what, str(len(finding.nodes)), first
        )
    print_table(out, table)
    out.print("as seen in these versions, against onnxruntime on the CPU; other versions may differ", highlight=False)
