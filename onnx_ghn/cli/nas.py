"""Search architectures by predicted properties: none of them is trained or run to be ranked.

    python training/nas.py --split search --count 10000 --top 10 -o out/nas
    python training/nas.py --max-latency-ms 2 --by noisy_accuracy -o out/nas
    python training/nas.py --count 10000 -o out/nas --train 1 -D DATA --epochs 600

The same as `onnx-ghn nas`, and as facebookresearch/ppuda (experiments/property_prediction.py) does with its split
`search`; --train is its protocol for the best (600 epochs, cutout, drop path, auxiliary classifier).
"""

from __future__ import annotations

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
from onnx_ghn.training.nas.settings import SearchConfig, Trained, published_protocol
from onnx_ghn.training.trackers import Tracking

if TYPE_CHECKING:
    from onnx_ghn.training.nas.search import SearchResult

__all__ = ["nas"]


@click.command("nas", cls=Command, short_help="Rank architectures by predicted properties; export the best.")
def nas(
    config: SearchConfig,
    trained: Trained,
    jobs: Jobs,
    output: str = cli_options.output("Folder for the tables, the picture and the ONNX files.", "FOLDER"),
    picture: bool = setting(True, "Draw the front as front.svg.", shown=False),
    force: bool = cli_options.force("Write into a folder that is not empty."),
    as_json: bool = cli_options.as_json(),
) -> None:
    """Rank architectures by predicted properties; export the best, draw the Pareto front, train if asked."""
    from onnx_ghn.cli.terminal import bar
    from onnx_ghn.profiling.picture import check_picture
    from onnx_ghn.training.nas.comparison import compare
    from onnx_ghn.training.nas.output import new_folder, write_results
    from onnx_ghn.training.nas.search import search, space_of
    from onnx_ghn.training.properties.settings import Brief

    # Whatever would fail after the search fails before it.
    if picture:
        check_picture("front.svg")
    if trained.download and (trained.compare or trained.train):
        from onnx_ghn.vision import fetch_dataset

        fetch_dataset(trained.dataset, trained.data_dir)  # once, before workers read it
    space = space_of(config)
    folder = new_folder(output, force)
    with bar("predicting properties", config.count) as advance:
        found = search(config, space, jobs, told=advance)
    with bar("exporting", len(found.best)) as advance:
        write_results(folder, config, found, picture=picture, told=advance)
    compared = None
    if trained.compare:
        brief = Brief(
            dataset=trained.dataset, channels=space.channels, n_images=trained.n_images, steps=trained.compare_steps
        )
        compared = compare(config, found, trained.compare, brief, trained.data_dir, folder, jobs, bar=bar)
    if as_json:
        click.echo(json.dumps(_as_json(config, found, compared), indent=2))
    else:
        _print(config, found, compared, trained.compare_steps, folder)
    for index in found.best.indices[: trained.train or 0].tolist():
        settings = published_protocol(config, trained, index, space.channels)
        train_and_tell(settings, folder / f"{config.split}-{index}", Machine().set_up(), None, as_json, Tracking())


def _as_json(config: SearchConfig, found: SearchResult, compared: list[Json] | None) -> Json:
    from onnx_ghn.training.nas.output import rows

    counts = {"drawn": len(found.every), "within_limits": len(found.good), "wall_s": round(found.wall_s, 1)}
    trained = {} if compared is None else {"compared": compared}
    return {**counts, **trained, "best": rows(found.best, config.split), "front": rows(found.edge, config.split)}


def _print(config: SearchConfig, found: SearchResult, compared: list[Json] | None, steps: int, folder: Path) -> None:
    from onnx_ghn.cli.narrow import print_table
    from onnx_ghn.cli.properties_tables import rows_table
    from onnx_ghn.cli.terminal import console
    from onnx_ghn.training.nas.output import rows

    out = console()
    top = rows(found.best, config.split)
    print_table(out, rows_table(top, f"the best {len(top)} by predicted {config.by.replace('_', ' ')}"))
    if compared is not None:
        print_table(out, rows_table(compared, f"trained alike for {steps} steps"))
    out.print(
        f"{len(found.every):,} architectures in {found.wall_s:.0f} s, {len(found.good):,} within the limits, "
        f"{len(found.edge)} on the front; {folder}: ranking.csv, front.csv, {len(top)} ONNX files",
        highlight=False,
    )
