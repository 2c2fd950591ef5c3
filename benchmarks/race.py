"""The judge of starts: networks × data × starts × rates × seeds, and what each start gains or loses beside the own.

    python benchmarks/race.py --suite small --out small.jsonl            # goes on where it was stopped
    python benchmarks/race.py --suite small --out small.jsonl --table    # prints what is there, and runs nothing
    python benchmarks/race.py --suite images --out images.jsonl --device cuda --budget-factor 2

The rate of each network and start is the one whose run of seed 0 ends best on a held-out part of the data that is not
judged, of three, and of up to two more where the best of these is the largest or smallest; then each seed is judged on
another part. Batches, augmentation and the network's own values depend
on the seed alone, so all starts of a seed meet the same. A run is a line of --out. Budgets are in steps.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import click
import torch
from racing.entrants import SUITES, select
from racing.picture import draw
from racing.rows import read, repair
from racing.schedule import Settings, race
from racing.starts import STARTS
from racing.summary import results
from racing.table import tables

from onnx_ghn.errors import OnnxGhnError
from onnx_ghn.ghn import load_ghn

_DEFAULT_STARTS = ("own", "all", "spatial", "lsuv")


def _check_device(device: str) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises either, with lines of advice
        raise click.BadParameter(f"{device}: {str(error).splitlines()[0]}", param_hint="--device") from error


def _picture(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() not in (".png", ".svg"):
        raise click.BadParameter(f"{path} must end in .png or .svg")
    return path


@click.command()
@click.option(
    "--suite",
    "suites",
    multiple=True,
    type=click.Choice(SUITES),
    help="May be given several times. [default: every suite]",
)
@click.option("--net", "names", multiple=True, help="Only the network of this name, or those whose name contains it.")
@click.option(
    "--start", "starts", multiple=True, type=click.Choice(list(STARTS)), default=_DEFAULT_STARTS, show_default=True
)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Lines of results.")
@click.option(
    "--data-root",
    default="../shared/datasets",
    show_default=True,
    type=click.Path(path_type=Path),
    help="A folder with a folder for each data set.",
)
@click.option("-C", "--ghn", help="Which GHN predicts.  [default: the shipped one]")
@click.option(
    "--jobs", default=1, show_default=True, type=click.IntRange(min=1), help="Runs side by side, on one thread each."
)
@click.option("--device", default="cpu", show_default=True, help="On cuda, runs follow each other, in bfloat16.")
@click.option(
    "--budget-factor",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Multiplies the steps of every network.",
)
@click.option("--minutes", type=click.FloatRange(min=0), help="Begin no further run after so many.")
@click.option("--table", is_flag=True, help="Print the tables of what is there, and run nothing.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_picture,
    help="Draw what is there as a .png or .svg, and run nothing.",
)
def main(
    suites: tuple[str, ...], names: tuple[str, ...], starts: tuple[str, ...], seeds: int, out: Path, data_root: Path,
    ghn: str | None, jobs: int, device: str, budget_factor: float, minutes: float | None, table: bool,
    plot: Path | None,
) -> None:  # fmt: skip
    """Run what is missing, and print the tables."""
    entrants = select(suites, names)
    if not entrants:
        raise click.UsageError("there is no such network: leave out --net, or give a part of a name")
    grids = {entrant.name: entrant.rates for entrant in entrants}
    try:
        rows = read(out)  # before anything is appended: is it a file of rows?
        if not table and plot is None:
            warnings.simplefilter("ignore")
            _check_device(device)
            if ghn is not None:
                load_ghn(ghn)  # before the work, not in the middle of it
            repair(out)
            until = float("inf") if minutes is None else time.monotonic() + 60 * minutes
            settings = Settings(out, data_root.resolve(), device, budget_factor, ghn, until)
            race(entrants, starts, seeds, settings, jobs, lambda line: click.echo(line, err=True))
            rows = read(out)
        rows = [row for row in rows if row.network in grids]
        found = results(rows, grids)
        if plot is not None:
            draw(found, plot)
            click.echo(f"{plot}: {len(found)} networks, {len(rows)} runs")
        else:
            click.echo(tables(found, rows))
    except OnnxGhnError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
