"""`onnx-ghn properties`: what a model would reach and cost, before anybody has trained or run it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.light_imports import import_onnx_ir
from onnx_ghn.cli.terminal import console, spinner
from onnx_ghn.errors import printable
from onnx_ghn.settings import setting

if TYPE_CHECKING:
    from onnx_ghn.properties.prediction import PropertyReport

__all__ = ["properties"]


@click.command(cls=Command, short_help="Predict accuracy and latency of MODEL from its graph.")
@cli_options.model
def properties(
    model: str,
    predictor: str | None = setting(
        None, "Folder of a predictor that was fitted elsewhere (default: the bundled one).", metavar="FOLDER"
    ),
    as_json: bool = cli_options.as_json(),
) -> None:
    """Predict accuracy, noisy accuracy, latency and convergence of MODEL from its graph, without running it."""
    import_onnx_ir()
    from onnx_ghn.properties import predict_properties

    with spinner(f"reading {model}"):
        found = predict_properties(model, predictor)
    if as_json:
        click.echo(json.dumps({"model": model, **found.to_dict(), "measured": found.report.get("measured")}, indent=2))
        return
    _print(model, found)


def _print(model: str, found: PropertyReport) -> None:
    from onnx_ghn.cli.narrow import print_table
    from onnx_ghn.cli.properties_tables import properties_table

    out = console()
    print_table(out, properties_table(found))
    out.print(
        f"{printable(model)}: {found.n_params:,} parameters, {found.n_macs / 1e6:,.1f} M multiply-accumulates an image",
        highlight=False,
    )
    told = found.report.get("measured", {})
    if "steps" in told:
        out.print(
            f"accuracies as after {told['steps']} steps of {told['batch_size']} images of {told['image_size']} × "
            f"{told['image_size']} ({told['dataset']}), from {found.report['networks']} measured networks of width "
            f"{told['channels']}",
            style="dim",
            highlight=False,
        )
    nearer = f"{found.percentile:.0f} % of those networks lie nearer to their neighbours"
    if found.far:
        why = nearer + (f"; outside their range: {', '.join(found.outside)}" if found.outside else "")
        out.print(f"far from what the predictor has seen ({why}): take the figures for guesses", style="yellow")
    else:
        out.print(f"like what the predictor has seen: {nearer}", style="dim", highlight=False)
