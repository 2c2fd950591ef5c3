"""Whether features that a start makes alike, before any training, foretell that it ends lower.

    python benchmarks/collapse.py --race benchmarks/results/race.jsonl --out likeness.jsonl

For each network and start of a race: the mean cosine between the features of different inputs before the last layer.
A line of the table says what the race found where the start makes them more alike than `predict` lets pass with one
batch of data (`onnx_ghn.prediction.collapse`).
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path

import click
import torch
from figures.race import collapsed, raced_file
from racing.entrants import ENTRANTS
from racing.health import health
from racing.likeness import Likeness, read
from racing.parts import DataAbsentError
from racing.starts import Situation, UnavailableError, begin
from racing.summary import BASELINE

_STARTS = (BASELINE, "all", "conv2d+differences", "spatial", "own+drawn")


@click.command()
@click.option(
    "--race", "race_file", required=True, type=click.Path(exists=True, path_type=Path), help="Rows of a race."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="JSON lines; what they hold is not redone.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--data-root", default="../shared/datasets", show_default=True, type=click.Path(path_type=Path))
def main(race_file: Path, out: Path, seeds: int, data_root: Path) -> None:
    """Measure what is missing, and print the table."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    done = {(row.network, row.start, row.seed) for row in read(out)} if out.is_file() else set()
    found = raced_file(race_file)
    with out.open("a", encoding="utf-8") as file:
        for network, of in found.items():
            for seed in range(seeds):
                situation = Situation(ENTRANTS[network], seed, data_root.resolve())
                for start in (each for each in _STARTS if each in of and (network, each, seed) not in done):
                    try:
                        cosine = health(begin(situation, start), situation.batch()).cosine
                    except (UnavailableError, DataAbsentError) as error:
                        click.echo(f"{network}, {start} is left out: {error}", err=True)
                        continue
                    file.write(json.dumps(dataclasses.asdict(Likeness(network, start, seed, cosine))) + "\n")
                    file.flush()
    click.echo(collapsed(found, read(out)))


if __name__ == "__main__":
    main()
