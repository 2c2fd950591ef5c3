"""`onnx-ghn predict`: fill a model with predicted weights."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.checks import check_included, check_output
from onnx_ghn.cli.commands import Command, speak_of_options
from onnx_ghn.cli.terminal import console, say, spinner
from onnx_ghn.errors import printable
from onnx_ghn.prediction.options import DRAWN, PredictOptions
from onnx_ghn.settings import ghn_setting

if TYPE_CHECKING:
    from onnx_ghn.prediction import Prediction

__all__ = ["predict"]


@click.command(cls=Command, short_help="Fill every trainable tensor of MODEL with a prediction.")
@cli_options.model
def predict(
    model: str,
    options: PredictOptions,
    output: str = cli_options.output("Where to write the filled model, an .onnx file."),
    ghn: str | None = ghn_setting("The GHN that predicts"),
    force: bool = cli_options.force(),
    as_json: bool = cli_options.as_json("the coverage report"),
) -> None:
    """Fill every trainable tensor of MODEL with predicted weights."""
    check_output(output, [".onnx"], "an ONNX model", force, [model, ghn, os.fspath(options.calibrate)])
    from onnx_ghn.prediction import predict as run
    from onnx_ghn.prediction import resolve_ghn

    with spinner("loading the GHN"):
        network = resolve_ghn(ghn)
    if not network.config.trained:
        name = printable(network.config.name) or "this GHN"
        say(f"{name} is untrained (seed {network.config.seed}): a well-scaled random initialisation")
    with spinner(f"predicting {model}"):
        prediction = run(
            model,
            None if options.include else output,  # patterns that select nothing are told before anything is written
            ghn=network,
            options=options,
            force=force,
        )
        if options.include:
            check_included(options.include, [entry.parameter.name for entry in prediction.coverage.entries])
            prediction.save(output, force=force)
    _print(prediction, model, output, as_json)
    if not as_json and str(options.calibrate) in DRAWN and prediction.coverage.count("statistic"):
        click.echo(
            "running statistics are those of drawn inputs; "
            "to use the file untrained, give your images: --calibrate FOLDER"
        )


def _print(prediction: Prediction, model: str, output: str, as_json: bool) -> None:
    coverage = prediction.coverage
    if as_json:
        report = {"input": model, "output": output, "ghn": prediction.ghn_name, **coverage.to_dict()}
        click.echo(json.dumps(report, indent=2))
        return
    from onnx_ghn.cli.tables import coverage_table, print_notes

    out = console()
    out.print(coverage_table(coverage))
    print_notes(out, coverage)
    told = speak_of_options(coverage.sentence, click.get_current_context())
    out.print(printable(f"{output}: {told}"), highlight=False)
