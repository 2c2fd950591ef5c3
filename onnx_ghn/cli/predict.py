"""`onnx-ghn predict`: fill a model with predicted weights."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.checks import check_included, check_output
from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.light_imports import import_onnx_ir
from onnx_ghn.cli.terminal import bar, console, say, spinner
from onnx_ghn.errors import OptionError, printable
from onnx_ghn.garbage import no_garbage_collection
from onnx_ghn.prediction.options import DRAWN, PredictOptions
from onnx_ghn.settings import ghn_setting, setting

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
    data: str | None = setting(
        None,
        "Data of your own, images or (in an .npz, .npy or .txt file) samples for any model: running statistics are set "
        "by them, layers of classifiers without norms are scaled by them where that was measured to pay and, with "
        "--budget, starts are raced on class folders of images.",
        "-d",
        metavar="FOLDER|ZIP|NPZ|TXT",
    ),
    budget: float | None = setting(
        None,
        "Seconds to race starts for on --data, class folders of images: the one that trains best is written. "
        "Needs the extra finetune.",
        above=0,
    ),
    explain: bool = setting(False, "Say for each tensor which donor's tensor it comes from, and by which rule."),
    alignment: str | None = setting(
        None, "Where to draw the model beside its donor, block by block, an .svg file.", metavar="FILE.svg"
    ),
    force: bool = cli_options.force(),
    as_json: bool = cli_options.as_json("the coverage report"),
) -> None:
    """Fill trainable tensors of MODEL with predicted weights, and keep the author's start where that trains better.

    --policy says which: those whose prediction was measured to pay (auto), everything (all), or nothing (none).
    """
    if (explain or alignment is not None) and not options.donors:
        raise OptionError("`explain` and `alignment` tell of donors, and there are none: name one with `donors`")
    if budget is not None:
        _check_race(options, explain=explain, alignment=alignment)
    if data is not None:
        options = _fed_by(data, options, races=budget is not None)
    if budget is not None:
        with _inputs_named("calibrate" if data is None else "data"):
            _race(model, options, output, data, budget, ghn, force, as_json)
        return
    check_output(output, [".onnx"], "an ONNX model", force, [model, ghn, os.fspath(options.calibrate), *options.donors])
    if alignment is not None:
        check_output(alignment, [".svg"], "a picture", force, [model, *options.donors])
    with no_garbage_collection():  # imports make most of the objects
        import_onnx_ir()
        from onnx_ghn.prediction import predict as run
        from onnx_ghn.prediction import resolve_ghn

    with spinner("loading the GHN"):
        network = resolve_ghn(ghn)
    if not network.config.trained:
        name = printable(network.config.name) or "this GHN"
        say(f"{name} is untrained (seed {network.config.seed}): a well-scaled random initialisation")
    with spinner(f"predicting {model}"), _inputs_named("calibrate" if data is None else "data"):
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
    if alignment is not None and prediction.inheritance is not None:
        from onnx_ghn.prediction.explaining import draw_alignment

        draw_alignment(prediction.inheritance, alignment, force=force)
    if explain and not as_json:
        from onnx_ghn.cli.tables import origins_table

        console().print(origins_table(prediction.coverage))
    _print(prediction, model, output, as_json)
    choice = prediction.coverage.choice
    if not as_json and not options.donors and choice is not None and choice.is_foreign:
        click.echo("a trained file of another size, family or framework can give its weights: --from DONOR.onnx")
    filled = prediction.coverage.count("predicted") + prediction.coverage.count("fallback")
    if not as_json and filled and str(options.calibrate) in DRAWN and prediction.coverage.n_running_statistics:
        click.echo(
            "running statistics are those of drawn inputs; "
            "to use the file untrained, give your images: --calibrate FOLDER"
        )


def _check_race(options: PredictOptions, *, explain: bool, alignment: str | None) -> None:
    """Refuse donors in a race of starts. Raises OptionError."""
    if not options.donors:
        return
    named = ["`donors`", *(["`explain`"] if explain else []), *(["`alignment`"] if alignment is not None else [])]
    raise OptionError(
        "`budget` races the GHN's starts against the author's, and with a donor all of them would hold its weights: "
        f"leave out `budget`, or {' and '.join(named)}"
    )


def _fed_by(data: str, options: PredictOptions, *, races: bool) -> PredictOptions:
    """The options with the user's own data for what has to be measured, unless they name other inputs for that."""
    if options.calibrate == PredictOptions().calibrate:
        return dataclasses.replace(options, calibrate=data)
    if not races:
        raise OptionError(f"`data` {data} and `calibrate` {options.calibrate} name inputs for the same: leave one out")
    return options


@contextlib.contextmanager
def _inputs_named(option: str) -> Iterator[None]:
    """Errors in the inputs by the option that gave them."""
    try:
        yield
    except OptionError as error:
        if option == "calibrate" or not str(error).startswith("`calibrate`"):
            raise
        raise OptionError(f"`{option}`{str(error).removeprefix('`calibrate`')}") from error


def _race(
    model: str,
    options: PredictOptions,
    output: str,
    data: str | None,
    budget: float,
    ghn: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Race starts, and write the winner."""
    if data is None:
        raise OptionError("`budget` needs labelled images: give class folders of them with `data`")
    check_output(output, [".onnx"], "an ONNX model", force, [model, ghn, data])
    from onnx_ghn.finetuning import choose_start
    from onnx_ghn.graph import build_graph

    if options.include:  # before the race, not after it
        check_included(options.include, [parameter.name for parameter in build_graph(model).parameters])
    race = choose_start(model, data, output, ghn=ghn, budget_s=budget, force=force, options=options, bar=bar)
    if as_json:
        coverage = race.prediction.coverage.to_dict()
        report = {"input": model, "output": output, "ghn": race.prediction.ghn_name, "race": race.to_dict(), **coverage}
        click.echo(json.dumps(report, indent=2))
        return
    from onnx_ghn.cli.narrow import print_table
    from onnx_ghn.cli.tables import print_sentence, race_table

    out = console()
    print_table(out, race_table(race))
    print_sentence(out, race.prediction.coverage, output)


def _print(prediction: Prediction, model: str, output: str, as_json: bool) -> None:
    coverage = prediction.coverage
    if as_json:
        report = {"input": model, "output": output, "ghn": prediction.ghn_name, **coverage.to_dict()}
        click.echo(json.dumps(report, indent=2))
        return
    from onnx_ghn.cli.narrow import print_table
    from onnx_ghn.cli.tables import coverage_table, print_notes, print_sentence

    out = console()
    print_table(out, coverage_table(coverage))
    print_notes(out, coverage)
    print_sentence(out, coverage, output)
