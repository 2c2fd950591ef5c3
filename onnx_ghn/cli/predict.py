"""`onnx-ghn predict`: fill a model with predicted weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.checks import check_included, check_output
from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.terminal import console, say, spinner
from onnx_ghn.errors import printable

if TYPE_CHECKING:
    from onnx_ghn.prediction import Prediction

__all__ = ["predict"]


@click.command(cls=Command, short_help="Fill every trainable tensor of MODEL with a prediction.")
@cli_options.model
@cli_options.output("Where to write the filled model, an .onnx file.")
@cli_options.ghn("The GHN that predicts")
@cli_options.patterns("--include", "Fill only parameters whose name matches; may be given several times.")
@cli_options.patterns("--exclude", "Leave parameters whose name matches as they are; may be given several times.")
@click.option(
    "--fallback",
    type=click.Choice(["standard", "keep"]),
    default="standard",
    show_default=True,
    help="What parameters that no GHN predicts get: the standard initialisation of their role, or their own values.",
)
@click.option(
    "--post",
    type=click.Choice(["none", "noise", "orthogonal"]),
    default="none",
    show_default=True,
    help="How to break up the copies in tensors that are wider than what the GHN decodes.",
)
@click.option("--post-strength", type=float, help="Strength of --post (default: noise 0.1, orthogonal 0.5).")
@click.option(
    "--calibrate",
    default="noise",
    show_default=True,
    metavar="none|noise|FOLDER|ZIP",
    help="Inputs that set BatchNorm's running statistics: noise, or the images of a folder or zip archive.",
)
@click.option(
    "--unfold-batchnorm", is_flag=True, help="Put back the batch norms that an exporter folded into convolutions."
)
@cli_options.seed
@cli_options.force
@click.option("--json", "as_json", is_flag=True, help="Print the coverage report as JSON.")
def predict(
    model: str,
    output: str,
    ghn: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    fallback: Literal["standard", "keep"],
    post: Literal["none", "noise", "orthogonal"],
    post_strength: float | None,
    calibrate: str,
    unfold_batchnorm: bool,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Fill every trainable tensor of MODEL with predicted weights."""
    check_output(output, [".onnx"], "an ONNX model", force, [model, ghn, calibrate])
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
            None if include else output,  # patterns that select nothing are told before anything is written
            ghn=network,
            include=include,
            exclude=exclude,
            fallback=fallback,
            post=post,
            post_strength=post_strength,
            calibrate=calibrate,
            unfold_batchnorm=unfold_batchnorm,
            seed=seed,
            force=force,
        )
        if include:
            check_included(include, [entry.parameter.name for entry in prediction.coverage.entries])
            prediction.save(output, force=force)
    _print(prediction, model, output, as_json)


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
    out.print(f"{output}: weights by {printable(prediction.ghn_name)}", highlight=False)
