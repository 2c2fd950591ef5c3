"""The command line: each command a few lines that call the library. Heavy imports happen inside commands."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from onnx_ghn._version import __version__
from onnx_ghn.cli.commands import Group
from onnx_ghn.cli.deepnets import deepnets
from onnx_ghn.cli.eval_ghn import eval_ghn
from onnx_ghn.cli.exporters import export, load
from onnx_ghn.cli.finetune import finetune
from onnx_ghn.cli.nas import nas
from onnx_ghn.cli.profile import profile
from onnx_ghn.cli.properties import properties
from onnx_ghn.cli.report import report
from onnx_ghn.cli.running import run_command
from onnx_ghn.cli.terminal import console, say, spinner
from onnx_ghn.cli.train_detector import train_detector
from onnx_ghn.cli.train_ghn import train_ghn
from onnx_ghn.cli.train_net import train_net
from onnx_ghn.errors import printable

__all__ = ["cli", "main"]


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="onnx-ghn")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Any ONNX model in, the same model with predicted weights out."""
    ctx.obj = {"debug": debug}


@cli.command(short_help="Fill every trainable tensor of MODEL with a prediction.")
@click.argument("model")
@click.option("-o", "--output", required=True, metavar="FILE", help="Where to write the filled model.")
@click.option("--ghn", metavar="GHN", help="A shipped name (see `ghns`), a folder, or a published .pt file.")
@click.option("--include", multiple=True, metavar="REGEX", help="Fill only parameters whose name matches.")
@click.option("--exclude", multiple=True, metavar="REGEX", help="Leave parameters whose name matches as they are.")
@click.option(
    "--fallback",
    type=click.Choice(["standard", "keep"]),
    default="standard",
    show_default=True,
    help="For what no GHN predicts: the standard initialisation of its role, or its own values.",
)
@click.option(
    "--post",
    type=click.Choice(["none", "noise", "orthogonal"]),
    default="none",
    show_default=True,
    help="Against copies in tensors wider than the GHN decodes.",
)
@click.option("--post-strength", type=float, help="Of that: noise 0.1, orthogonal 0.5 unless told.")
@click.option(
    "--calibrate",
    default="noise",
    show_default=True,
    metavar="none|noise|FOLDER|ZIP",
    help="BatchNorm running statistics from noise, or from a folder or zip archive of images.",
)
@click.option(
    "--unfold-batchnorm", is_flag=True, help="Put back the batch norms that an exporter folded into convolutions."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all random numbers.")
@click.option("--force", is_flag=True, help="Overwrite the output file.")
@click.option("--json", "as_json", is_flag=True, help="Print the coverage report as JSON.")
def predict(model: str, output: str, as_json: bool, **options: Any) -> None:
    """Fill every trainable tensor of MODEL with predicted weights."""
    from onnx_ghn.prediction.predicting import predict as run
    from onnx_ghn.prediction.predicting import resolve_ghn

    with spinner("loading the GHN"):
        ghn = resolve_ghn(options.pop("ghn"))
    if not ghn.config.trained:
        name = printable(ghn.config.name) or "this GHN"
        say(f"{name} is untrained (seed {ghn.config.seed}): a well-scaled random initialisation")
    with spinner(f"predicting {model}"):
        prediction = run(model, output, ghn=ghn, **options)
    if as_json:
        report = {"input": model, "output": output, "ghn": prediction.ghn_name, **prediction.coverage.to_dict()}
        click.echo(json.dumps(report, indent=2))
        return
    from onnx_ghn.cli.tables import coverage_table

    out = console()
    out.print(coverage_table(prediction.coverage))
    for note in prediction.coverage.notes:
        out.print(printable(note), style="dim", highlight=False)
    out.print(f"{output}: weights by {printable(prediction.ghn_name)}", highlight=False)


@cli.command(short_help="Show what of MODEL would be predicted, and what not.")
@click.argument("model")
@click.option("--ghn", metavar="GHN", help="The GHN that would predict; its graph rules and vocabulary apply.")
@click.option("--nodes", is_flag=True, help="List the nodes of the graph too.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def inspect(model: str, ghn: str | None, nodes: bool, as_json: bool) -> None:
    """Show the parameters and nodes of MODEL: what would be predicted, what not, and why."""
    from onnx_ghn.inspection import inspect_model

    with spinner(f"reading {model}"):
        found = inspect_model(model, ghn)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
        return
    from onnx_ghn.cli.tables import coverage_table, nodes_table, parameters_table

    out = console()
    if nodes:
        out.print(nodes_table(found.graph))
    out.print(parameters_table(found.coverage))
    out.print(coverage_table(found.coverage))
    out.print(repr(found.graph), highlight=False)


@cli.command()
@click.argument("model")
@click.option("-o", "--output", required=True, metavar="FILE", help="An .svg, .png or .dot file.")
@click.option(
    "--rules",
    type=click.Choice(["onnx", "ppuda", "ghn3"]),
    default="onnx",
    show_default=True,
    help="Draw the graph as onnx-ghn, PPUDA or GHN-3 reads it.",
)
@click.option("--labels/--no-labels", default=None, help="Node names in the picture; by default where there is room.")
@click.option("--force", is_flag=True, help="Overwrite the output file.")
def draw(model: str, output: str, rules: str, labels: bool | None, force: bool) -> None:
    """Draw the graph of MODEL, coloured by primitive."""
    from onnx_ghn.drawing.pictures import draw as run
    from onnx_ghn.graph import build_graph

    with spinner(f"drawing {model}"):
        graph = build_graph(model, rules=rules)
        path = run(graph, output, force=force, labels=labels)
    click.echo(f"{path}: {len(graph)} nodes, {len(graph.edges)} edges")


@cli.command(short_help="Write a copy of MODEL without weights, a few KB in all.")
@click.argument("model")
@click.option("-o", "--output", required=True, metavar="FILE", help="Where to write the architecture.")
@click.option("--force", is_flag=True, help="Overwrite the output file.")
def strip(model: str, output: str, force: bool) -> None:
    """Write an architecture-only copy of MODEL: its weights become ConstantOfShape nodes, a few KB in all."""
    from onnx_ghn.passes.stripping import strip as run

    path = run(model, output, force=force)
    click.echo(f"{path}: {os.path.getsize(path):,} bytes, from {os.path.getsize(model):,}")


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def ghns(as_json: bool) -> None:
    """List the GHNs that `predict --ghn NAME` takes."""
    from onnx_ghn.ghn import list_ghns

    found = list_ghns()
    if as_json:
        rows = [
            {"name": info.name, "path": str(info.path), "description": info.description, "dataset": info.config.dataset}
            for info in found
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    if not found:
        click.echo(
            "no GHN is bundled; predict then uses an untrained GHN-2 (seed 0). --ghn takes a folder or a published .pt"
        )
        return
    from onnx_ghn.cli.tables import ghns_table

    console().print(ghns_table(found))


cli.add_command(export)
cli.add_command(load)
cli.add_command(deepnets)
cli.add_command(train_ghn)
cli.add_command(eval_ghn)
cli.add_command(train_net)
cli.add_command(train_detector)
cli.add_command(finetune)
cli.add_command(profile)
cli.add_command(properties)
cli.add_command(nas)
cli.add_command(report)


def main(argv: list[str] | None = None) -> None:
    """Entry point of `onnx-ghn`."""
    run_command(cli, argv, "onnx-ghn")
