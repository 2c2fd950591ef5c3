"""`onnx-ghn deepnets`: files of random architectures. Heavy imports happen inside commands."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.commands import Group, Option

__all__ = ["deepnets"]


@click.group(cls=Group)
def deepnets() -> None:
    """Make, read and export DeepNets-1M architectures."""


@deepnets.command()
@click.argument("split", type=click.Choice(cli_options.SPLITS))
@click.option(
    "--count", cls=Option, aliases=["-n"], required=True, type=click.IntRange(min=1), help="How many architectures."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all random numbers.")
@cli_options.jobs
@click.option("-o", "--output", required=True, metavar="FILE", help="A .jsonl file, or .hdf5 for the official form.")
@click.option("--official", is_flag=True, help="Insist on the official HDF5 and JSON pair.")
@click.option("--force", is_flag=True, help="Overwrite an output file that holds something else.")
def generate(split: str, count: int, output: str, official: bool, **options: Any) -> None:
    """Write random architectures of SPLIT by the published rules.

    A run that was stopped goes on where it was when started again. One seed gives one file, whatever the workers.
    """
    from onnx_ghn.deepnets1m.files import is_official, open_deepnets
    from onnx_ghn.deepnets1m.generation import generate as run

    if official and not is_official(output):
        raise click.UsageError(f"--official: {output} must end in .hdf5, where the published loader looks for it")
    seed = options.pop("seed")
    with _bar(f"{split} architectures", count) as progress:
        n_before = run(split, count, seed, output, progress=progress, **options)
    total = count
    if not is_official(output):
        with open_deepnets(output) as file:
            total = len(file)
    reused = f", {n_before:,} of them from before" if n_before else ""
    click.echo(f"{output}: {total:,} architectures of split {split}, seed {seed}{reused}")


@deepnets.command(short_help="Write the network of an architecture in FILE as ONNX.")
@click.argument("file")
@click.option("--split", help="Of FILE; needed where it has several.")
@click.option("--index", required=True, type=int, help="Of the architecture in its split.")
@click.option("-o", "--output", required=True, metavar="FILE", help="Where to write the .onnx file.")
@click.option("--C", "channels", type=click.IntRange(min=1), help="Channels of the first cell, instead of the file's.")
@click.option("--fc-dim", type=click.IntRange(min=1), help="Hidden width of the classifier, instead of the file's.")
@click.option("--num-classes", type=click.IntRange(min=1), help="10, or 1000 with --large-images, unless told.")
@click.option("--large-images", is_flag=True, help="For 224 × 224 images instead of 32 × 32.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the random weights.")
@click.option("--force", is_flag=True, help="Overwrite the output file.")
def export(
    file: str,
    split: str | None,
    index: int,
    output: str,
    channels: int | None,
    fc_dim: int | None,
    num_classes: int | None,
    large_images: bool,
    seed: int,
    force: bool,
) -> None:
    """Write the network of an architecture in FILE as ONNX, with random weights."""
    from onnx_ghn.deepnets1m.export import export_network
    from onnx_ghn.deepnets1m.files import open_deepnets
    from onnx_ghn.errors import OptionError

    with open_deepnets(file) as nets:
        if split is None:
            if len(nets.splits) > 1:
                raise OptionError(f"{file}: holds several splits; choose one with --split: {', '.join(nets.splits)}")
            split = nets.splits[0]
        architecture = nets.architecture(split, index, large_images=large_images)
    changes = {name: value for name, value in (("C", channels), ("fc_dim", fc_dim)) if value is not None}
    architecture = architecture.replace(**changes)
    if num_classes is None:
        num_classes = 1000 if large_images else 10
    export_network(architecture, output, num_classes, large_images=large_images, seed=seed, force=force)
    click.echo(f"{output}: {split} {index}, {architecture.n_cells} cells, C = {architecture.C}, {num_classes} classes")


@deepnets.command(short_help="Show the splits of FILE: architectures and nodes.")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def info(file: str, as_json: bool) -> None:
    """Show the splits of FILE, and how many architectures and nodes they have."""
    from onnx_ghn.deepnets1m.files import is_official, open_deepnets

    rows = []
    with open_deepnets(file) as nets:
        for split in nets.splits:
            n_nodes = nets.n_nodes(split)
            row: dict[str, Any] = {"split": split, "architectures": len(n_nodes)}
            if len(n_nodes):
                row["nodes"] = {
                    "min": int(n_nodes.min()),
                    "mean": round(float(n_nodes.mean()), 2),
                    "std": round(float(n_nodes.std()), 2),
                    "max": int(n_nodes.max()),
                }
            rows.append(row)
        seed = getattr(nets, "seed", None)
    if as_json:
        found = {"file": file, "format": "official" if is_official(file) else "compact", "seed": seed, "splits": rows}
        click.echo(json.dumps(found, indent=2))
        return
    for row in rows:
        nodes = row.get("nodes")
        sizes = "" if nodes is None else f", {nodes['min']} to {nodes['max']} nodes ({nodes['mean']} ± {nodes['std']})"
        click.echo(f"{row['split']}: {row['architectures']:,} architectures{sizes}")


@contextlib.contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[str, int], None] | None]:
    """A progress bar with the rate and the time left; silent where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda doing, done: progress.update(task, description=f"{doing} {what}", completed=done)
