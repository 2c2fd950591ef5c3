"""`onnx-ghn deepnets`: files of random architectures. Heavy imports happen inside commands."""

from __future__ import annotations

import json
import os

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.checks import check_ending, check_output
from onnx_ghn.cli.commands import Group, checked
from onnx_ghn.cli.terminal import bar, tell
from onnx_ghn.errors import DataError, OptionError
from onnx_ghn.parallel import Jobs
from onnx_ghn.settings import required, setting
from onnx_ghn.training.nets.settings import SPLITS

__all__ = ["deepnets"]


def _check_file(path: str) -> None:
    if "\0" in path or not os.path.exists(path):
        raise DataError(f"{path}: no such file (deepnets generate makes one; published ones end in .hdf5)")


_file = click.argument("file", callback=checked(_check_file))


@click.group(cls=Group)
def deepnets() -> None:
    """Make, read and export DeepNets-1M architectures."""


@deepnets.command()
@click.argument("split", type=click.Choice(SPLITS))
def generate(
    split: str,
    jobs: Jobs,
    count: int = required("How many architectures to write.", aliases=["-n"], least=1),
    seed: int = setting(0, "Random seed.", least=0),
    output: str = cli_options.output("Where to write them, a .jsonl file, or .hdf5 for the official form."),
    official: bool = setting(False, "Insist on the official HDF5 and JSON pair."),
    force: bool = cli_options.force("Overwrite an output file that holds something else."),
) -> None:
    """Write random architectures of SPLIT by the published rules.

    A run that was stopped goes on where it was when started again. One seed gives one file, whatever the workers.
    """
    check_ending(output, (".jsonl", ".hdf5", ".h5"), "a file of architectures")
    from onnx_ghn.deepnets1m.files import is_official, open_deepnets
    from onnx_ghn.deepnets1m.generation import generate as run

    if official and not is_official(output):
        raise click.UsageError(f"--official: {output} must end in .hdf5, where the published loader looks for it")
    what = f"{split} architectures"
    with bar(what, count) as shown:

        def progress(doing: str, done: int) -> None:
            shown.show(done, text=f"{doing} {what}")

        n_before = run(split, count, seed, output, **vars(jobs), force=force, progress=progress)
    total = count
    if not is_official(output):
        with open_deepnets(output) as file:
            total = len(file)
    reused = f", {n_before:,} of them from before" if n_before else ""
    tell(f"{output}: {total:,} architectures of split {split}, seed {seed}{reused}")


@deepnets.command(short_help="Write the network of an architecture in FILE as ONNX.")
@_file
def export(
    file: str,
    split: str | None = setting(None, "Split of the architecture; needed where FILE has several."),
    index: int = required("Index of the architecture in its split."),
    output: str = cli_options.output("Where to write the network, an .onnx file."),
    channels: int | None = setting(None, "Channels of the first cell, instead of the file's.", option="--C", least=1),
    fc_dim: int | None = setting(None, "Hidden width of the classifier, instead of the file's.", least=1),
    num_classes: int | None = setting(None, "Classes (default: 10, or 1000 with --large-images).", least=1),
    large_images: bool = setting(False, "Make the network for 224 × 224 images instead of 32 × 32."),
    seed: int = setting(0, "Random seed of the weights.", least=0),
    force: bool = cli_options.force(),
) -> None:
    """Write the network of an architecture in FILE as ONNX, with random weights."""
    check_output(output, [".onnx"], "an ONNX model", force, [file])
    from onnx_ghn.deepnets1m.export import export_network
    from onnx_ghn.deepnets1m.files import open_deepnets

    with open_deepnets(file) as nets:
        if split is None:
            if len(nets.splits) > 1:
                raise OptionError(f"{file}: holds several splits; choose one with --split: {', '.join(nets.splits)}")
            split = nets.splits[0]
        architecture = nets.architecture(split, index, large_images=large_images)
    changes = {name: value for name, value in (("C", channels), ("fc_dim", fc_dim)) if value is not None}
    architecture = architecture.replace(**changes)
    num_classes = num_classes or (1000 if large_images else 10)
    export_network(architecture, output, num_classes, large_images=large_images, seed=seed, force=force)
    tell(f"{output}: {split} {index}, {architecture.n_cells} cells, C = {architecture.C}, {num_classes} classes")


@deepnets.command(short_help="Show the splits of FILE: architectures and nodes.")
@_file
def info(file: str, as_json: bool = cli_options.as_json()) -> None:
    """Show the splits of FILE, and how many architectures and nodes they have."""
    from onnx_ghn.deepnets1m.files import is_official, open_deepnets

    with open_deepnets(file) as nets:
        n_nodes = {split: nets.n_nodes(split) for split in nets.splits}
        seed = getattr(nets, "seed", None)
    nodes: dict[str, dict[str, float]] = {
        split: {
            "min": int(found.min()),
            "mean": round(float(found.mean()), 2),
            "std": round(float(found.std()), 2),
            "max": int(found.max()),
        }
        for split, found in n_nodes.items()
        if len(found)
    }
    if as_json:
        rows = [
            {"split": split, "architectures": len(found), **({"nodes": nodes[split]} if split in nodes else {})}
            for split, found in n_nodes.items()
        ]
        kind = "official" if is_official(file) else "compact"
        click.echo(json.dumps({"file": file, "format": kind, "seed": seed, "splits": rows}, indent=2))
        return
    for split, found in n_nodes.items():
        sizes = ""
        if split in nodes:
            of = nodes[split]
            sizes = f", {of['min']} to {of['max']} nodes ({of['mean']} ± {of['std']})"
        tell(f"{split}: {len(found):,} architectures{sizes}")
