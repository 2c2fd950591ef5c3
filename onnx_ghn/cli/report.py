"""`onnx-ghn report`: one self-contained HTML page about a model. Heavy imports happen inside the command."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.terminal import spinner

if TYPE_CHECKING:
    from onnx_ghn.profiling import ProfileReport

__all__ = ["report"]


@click.command(cls=Command, short_help="Write a page about MODEL: graph, coverage, weights, speed.")
@click.argument("model")
@click.option("-o", "--output", required=True, metavar="FILE", help="The .html file to write.")
@click.option("--ghn", metavar="GHN", help="The GHN that predicts: a shipped name, a folder, or a published .pt file.")
@click.option("--no-predict", is_flag=True, help="Graph and coverage only: no GHN, no distributions of weights.")
@click.option("--profile", "measured", is_flag=True, help="Run MODEL through onnxruntime and show its speed too.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=3.0,
    show_default=True,
    help="How long --profile measures.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Of --profile; all cores unless told.")
@click.option("--batch", type=click.IntRange(min=1), help="Of --profile; as the file says unless told.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all random numbers.")
@click.option("--force", is_flag=True, help="Overwrite the output file.")
@click.option("--json", "as_json", is_flag=True, help="Print what the page shows as JSON.")
def report(model: str, output: str, **options: Any) -> None:
    """Write a page about MODEL: its graph, coverage, predicted weights, speed. It opens anywhere, without a network."""
    from onnx_ghn.onnx_io import check_target
    from onnx_ghn.report.writing import report_data, write_page

    check_target(output, options["force"])  # before the work, not after it
    profile = None
    if options["measured"]:
        with spinner(f"measuring {model}"):
            profile = _measure(model, options)
    with spinner(f"reporting on {model}"):
        data = report_data(
            model, ghn=options["ghn"], predict=not options["no_predict"], profile=profile, seed=options["seed"]
        )
        path = write_page(data, output, force=options["force"])
    if options["as_json"]:
        click.echo(json.dumps(data, indent=2))
        return
    graph = data["graph"]
    size_bytes = os.path.getsize(path)
    click.echo(f"{path}: {len(graph['nodes']['x']):,} nodes, {graph['n_edges']:,} edges, {size_bytes:,} bytes")


def _measure(model: str, options: dict[str, Any]) -> ProfileReport:
    from onnx_ghn.profiling import profile
    from onnx_ghn.profiling.settings import Settings

    batch, threads = (() if options[key] is None else (options[key],) for key in ("batch", "threads"))
    settings = Settings(seconds=options["seconds"], seed=options["seed"])
    return profile(model, batch=batch, threads=threads, settings=settings)
