"""`onnx-ghn report`: one self-contained HTML page about a model."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.checks import check_output
from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.terminal import spinner

if TYPE_CHECKING:
    from onnx_ghn.profiling import ProfileReport

__all__ = ["report"]


@click.command(cls=Command, short_help="Write a page about MODEL: graph, coverage, weights, speed.")
@cli_options.model
@cli_options.output("Where to write the page, an .html file.")
@cli_options.ghn("The GHN that predicts")
@click.option("--no-predict", is_flag=True, help="Show graph and coverage only: no GHN, no distributions of weights.")
@click.option("--profile", "measured", is_flag=True, help="Run MODEL through onnxruntime and show its speed, too.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=3.0,
    show_default=True,
    help="How long --profile measures.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads that --profile uses (default: all cores).")
@click.option("--batch", type=click.IntRange(min=1), help="Batch size of --profile (default: as the file says).")
@cli_options.seed
@cli_options.force
@click.option("--json", "as_json", is_flag=True, help="Print what the page shows as JSON.")
def report(
    model: str,
    output: str,
    ghn: str | None,
    no_predict: bool,
    measured: bool,
    seconds: float,
    threads: int | None,
    batch: int | None,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Write a page about MODEL: its graph, coverage, predicted weights, speed. It opens anywhere, without a network."""
    check_output(output, [".html", ".htm"], "a page", force, [model, ghn])
    from onnx_ghn.report.writing import report_data, write_page

    profile = None
    if measured:
        with spinner(f"measuring {model}"):
            profile = _measure(model, seconds, threads, batch, seed)
    with spinner(f"reporting on {model}"):
        data = report_data(model, ghn=ghn, predict=not no_predict, profile=profile, seed=seed)
        path = write_page(data, output, force=force)
    if as_json:
        click.echo(json.dumps(data, indent=2))
        return
    graph = data["graph"]
    size_bytes = os.path.getsize(path)
    click.echo(f"{path}: {len(graph['nodes']['x']):,} nodes, {graph['n_edges']:,} edges, {size_bytes:,} bytes")


def _measure(model: str, seconds: float, threads: int | None, batch: int | None, seed: int) -> ProfileReport:
    from onnx_ghn.profiling import profile
    from onnx_ghn.profiling.settings import Settings

    return profile(
        model,
        batch=() if batch is None else (batch,),
        threads=() if threads is None else (threads,),
        settings=Settings(seconds=seconds, seed=seed),
    )
