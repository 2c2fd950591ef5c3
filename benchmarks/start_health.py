"""What starts look like before training: effective rank, attention entropy, cosine before the head, output scale.

python benchmarks/start_health.py --net "GPT, small" --net "ViT, small" --start own --start all --start auto
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import click
import torch
from racing.entrants import select
from racing.health import Health, health
from racing.parts import DataAbsentError
from racing.starts import STARTS, Situation, UnavailableError, begin

from onnx_ghn.errors import OnnxGhnError

_NETWORKS = (
    *("GPT, small", "BERT-like, small", "ViT, small", "swin_t on imagenette-128", "ResNet-1D, small", "M5, small"),
    *("vgg11_bn on imagenette-128", "MobileNetV2, thin"),
)
_HEADER = "| network | start | effective rank | attention entropy | cosine before the head | output scale |"


def row(network: str, start: str, found: Health) -> str:
    """A line of the table."""
    figures = (found.rank, found.entropy, found.cosine, found.scale)
    return f"| {network} | {start} | " + " | ".join("" if math.isnan(x) else f"{x:.3g}" for x in figures) + " |"


@click.command()
@click.option("--net", "names", multiple=True, default=_NETWORKS, show_default=True, help="Networks of the race.")
@click.option(
    "--start",
    "starts",
    multiple=True,
    type=click.Choice(list(STARTS)),
    default=("own", "all", "all+differences", "auto", "early"),
    show_default=True,
)
@click.option(
    "--data-root", default="../shared/datasets", show_default=True, type=click.Path(path_type=Path), help="Of the race."
)
@click.option("-C", "--ghn", help="Which GHN predicts.  [default: the shipped one]")
def main(names: tuple[str, ...], starts: tuple[str, ...], data_root: Path, ghn: str | None) -> None:
    """Print a table, measured on one batch of the training data of each network."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    click.echo(_HEADER + "\n|---|---|---:|---:|---:|---:|")
    for entrant in select((), names):
        situation = Situation(entrant, 0, data_root.resolve(), ghn)
        for start in starts:
            try:
                module = begin(situation, start)
                click.echo(row(entrant.name, start, health(module, situation.batch())))
            except (UnavailableError, DataAbsentError) as error:
                click.echo(f"{entrant.name}, {start} is left out: {error}", err=True)
            except OnnxGhnError as error:
                raise click.ClickException(f"{entrant.name}, {start}: {error}") from error


if __name__ == "__main__":
    main()
