"""Search architectures by predicted properties: none of them is trained or run to be ranked.

    python training/nas.py --split search --count 10000 --top 10 -o out/nas
    python training/nas.py --max-latency-ms 2 --by noisy_accuracy -o out/nas
    python training/nas.py --method evolution --latency-below 3 -o out/nas
    python training/nas.py --count 10000 -o out/nas --train 1 -D DATA --epochs 600

The same as `onnx-ghn nas`, and as facebookresearch/ppuda (experiments/property_prediction.py) does with its split
`search`; --train is its protocol for the best (600 epochs, cutout, drop path, auxiliary classifier).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.options import Machine
from onnx_ghn.cli.train_net import train_and_tell
from onnx_ghn.json_types import Json
from onnx_ghn.parallel import Jobs
from onnx_ghn.settings import setting
from onnx_ghn.training.nas.settings import Deployed, SearchConfig, Trained, published_protocol
from onnx_ghn.training.trackers import Tracking

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx_ghn.training.nas.deployed import Measured
    from onnx_ghn.training.nas.search import SearchResult, Space

__all__ = ["nas"]


@click.command("nas", cls=Command, short_help="Rank architectures by predicted properties; export the best.")
def nas(
    config: SearchConfig,
    deployed: Deployed,
    trained: Trained,
    jobs: Jobs,
    output: str = cli_options.output("Folder for the tables, the picture and the ONNX files.", "FOLDER"),
    picture: bool = setting(True, "Draw the front as front.svg.", shown=False),
    force: bool = cli_options.force("Write into a folder that is not empty."),
    as_json: bool = cli_options.as_json(),
) -> None:
    """Rank architectures by predicted properties; export the best, draw the Pareto front, train if asked.

    With --latency-below, the best are those that this machine runs fast enough, each measured in a process of its own.
    """
    from onnx_ghn.cli.terminal import bar
    from onnx_ghn.profiling.picture import check_picture
    from onnx_ghn.training.nas.comparison import compare
    from onnx_ghn.training.nas.output import new_folder, write_results
    from onnx_ghn.training.nas.search import space_of
    from onnx_ghn.training.properties.settings import Brief

    # Whatever would fail after the search fails before it.
    if picture:
        check_picture("front.svg")
    if deployed.latency_below is not None:
        from onnx_ghn.training.nas.deployed import check_deployed

        check_deployed(deployed)
    if config.method == "evolution":
        from onnx_ghn.training.nas.evolution import check_evolution

        check_evolution()
    if trained.download and (trained.compare or trained.train):
        from onnx_ghn.vision import fetch_dataset

        fetch_dataset(trained.dataset, trained.data_dir)  # once, before workers read it
    space = space_of(config)
    measured = None
    with new_folder(output, force) as folder:
        with bar("predicting properties", config.count) as advance:
            found = _searched(config, space, folder, jobs, advance)
        if deployed.latency_below is not None:
            found, measured = _measured(config, deployed, trained.random, found, folder, picture)
    with bar("exporting", len(found.best)) as advance:
        write_results(folder, config, found, picture=picture, told=advance)
    compared = None
    if trained.compare:
        brief = Brief(
            dataset=trained.dataset, channels=space.channels, n_images=trained.n_images, steps=trained.compare_steps
        )
        compared = compare(
            config, found, trained.compare, trained.random, brief, trained.data_dir, folder, jobs,
            measured=measured is not None, bar=bar,
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps(_as_json(found, measured, compared), indent=2))
    else:
        _print(config, found, measured, compared, trained.compare_steps, folder)
    stored = dataclasses.replace(config, file=found.space.file)
    for index in found.best.indices[: trained.train or 0].tolist():
        settings = published_protocol(stored, trained, index, space.channels)
        train_and_tell(settings, folder / found.space.name(index), Machine().set_up(), None, as_json, Tracking())


def _searched(
    config: SearchConfig, space: Space, folder: Path, jobs: Jobs, advance: Callable[[int], None]
) -> SearchResult:
    if config.method == "evolution":
        from onnx_ghn.training.nas.evolution import evolve

        return evolve(config, space, folder, jobs, told=advance)
    from onnx_ghn.training.nas.search import search

    return search(config, space, jobs, told=advance)


def _measured(
    config: SearchConfig, deployed: Deployed, n_random: int, found: SearchResult, folder: Path, picture: bool
) -> tuple[SearchResult, Measured]:
    """What was found, of which the best are those that are fast enough."""
    from onnx_ghn.cli.terminal import bar, say
    from onnx_ghn.training.nas.deployed import measure
    from onnx_ghn.training.nas.measured_output import write_measured

    with bar("measuring latencies", deployed.most_measured + n_random) as advance:
        measured = measure(config, deployed, n_random, found, folder, told=advance)
    assert deployed.latency_below is not None
    write_measured(folder, measured, config.by, deployed.latency_below, picture=picture)
    for line in measured.failures:
        say(f"not measured: {line}")
    return dataclasses.replace(found, best=measured.kept), measured


def _as_json(found: SearchResult, measured: Measured | None, compared: list[Json] | None) -> Json:
    from onnx_ghn.training.nas.output import rows

    told: Json = {"drawn": len(found.every), "within_limits": len(found.good), "wall_s": round(found.wall_s, 1)}
    if compared is not None:
        told["compared"] = compared
    if measured is not None:
        told |= {"measured": measured.rows, "measured_front": measured.front, "n_skipped": measured.n_skipped}
    return {**told, "best": rows(found.best, found.space), "front": rows(found.edge, found.space)}


def _print(
    config: SearchConfig,
    found: SearchResult,
    measured: Measured | None,
    compared: list[Json] | None,
    steps: int,
    folder: Path,
) -> None:
    from onnx_ghn.cli.narrow import print_table
    from onnx_ghn.cli.properties_tables import measured_table, rows_table
    from onnx_ghn.cli.terminal import console
    from onnx_ghn.training.nas.output import rows

    out = console()
    top = rows(found.best, found.space)
    by = config.by.replace("_", " ")
    print_table(out, rows_table(top, f"the best {len(top)} by predicted {by}"))
    files = "ranking.csv, front.csv"
    if measured is not None:
        front = {row["name"] for row in measured.front}
        print_table(out, measured_table(measured.rows, front, f"predicted {by} and measured latency"))
        files += ", measured.csv, measured_front.csv"
    if compared is not None:
        print_table(out, rows_table(compared, f"trained alike for {steps} steps"))
    how = "evolved" if config.method == "evolution" else "drawn"
    out.print(
        f"{len(found.every):,} architectures {how} in {found.wall_s:.0f} s, {len(found.good):,} within the limits, "
        f"{len(found.edge)} on the front; {folder}: {files}, {len(top)} ONNX files",
        highlight=False,
    )
