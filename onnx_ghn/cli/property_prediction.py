"""Predict properties of networks from their graphs: clean and noisy accuracy, latency, speed of convergence.

    python training/property_prediction.py measure -D DATA --out out/properties --workers 2
    python training/property_prediction.py measure --out out/properties --only speed
    python training/property_prediction.py fit --out out/properties --save checkpoints/properties-cifar10

The ground truth is measured here, one JSON line a network; a run that was killed goes on where it was. The regression
is that of facebookresearch/ppuda (experiments/property_prediction.py): trained on networks of split `val`, tested on
those of split `test`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.commands import Group, Option
from onnx_ghn.cli.terminal import bar

if TYPE_CHECKING:
    from onnx_ghn.training.properties.measuring import Kind

__all__ = ["property_prediction"]


@click.group("property-prediction", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def property_prediction() -> None:
    """Measure properties of networks, fit regressions that predict them, and say how well they do."""


@property_prediction.command()
@click.option("--out", default="./out/properties", show_default=True, help="Folder of the measurements.")
@click.option(
    "--only", type=click.Choice(["training", "speed", "ghn"]), default="training", show_default=True,
    help="What to measure: brief training, latency, or accuracy with predicted weights.",
)  # fmt: skip
@click.option(
    "--split", "splits", type=click.Choice(["val", "test"]), multiple=True, help="Split to measure; both by default."
)
@click.option(
    "--count",
    cls=Option,
    aliases=["-n"],
    type=click.IntRange(min=1),
    default=104,
    show_default=True,
    help="Number of networks in each split.",
)
@click.option("--file", help="DeepNets-1M architectures (.hdf5 or .jsonl); without one they are sampled.")
@click.option(
    "--arch-seed", type=click.IntRange(min=0), default=1111, show_default=True, help="Seed of the sampled networks."
)
@click.option(
    "-d", "--dataset", default="cifar10", show_default=True, help="cifar10, or a folder or zip file of images."
)
@cli_options.data_dir
@click.option("--channels", type=int, default=16, show_default=True, help="Width of the networks.")
@click.option("--image-size", type=int, default=16, show_default=True, help="Scale training images to this size.")
@click.option("--steps", type=int, default=100, show_default=True, help="Steps of training.")
@click.option("-b", "--batch-size", type=int, default=32, show_default=True, help="Images of a training step.")
@click.option(
    "--opt", type=click.Choice(["sgd", "adam", "adamw"]), default="adam", show_default=True, help="Optimizer."
)
@click.option("--lr", type=float, default=0.002, show_default=True, help="Highest learning rate.")
@click.option("--n-images", type=int, default=1500, show_default=True, help="Validation images to judge on.")
@click.option("-s", "--seed", type=click.IntRange(min=0), default=1111, show_default=True, help="Seed of training.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Visits to each network.")
@click.option(
    "--runs", type=click.IntRange(min=1), default=20, show_default=True, help="Runs of a network at each visit."
)
@click.option(
    "--latency-batch", type=click.IntRange(min=1), default=1, show_default=True, help="Images of a timed run."
)
@click.option(
    "-C", "--ghn", "ckpt", cls=Option, aliases=["--ckpt"], help="GHN of --only ghn; the default one if omitted."
)
@cli_options.jobs
def measure(
    out: str,
    only: Kind,
    splits: tuple[str, ...],
    count: int,
    file: str | None,
    arch_seed: int,
    dataset: str,
    data_dir: str,
    channels: int,
    image_size: int,
    steps: int,
    batch_size: int,
    opt: str,
    lr: float,
    n_images: int,
    seed: int,
    rounds: int,
    runs: int,
    latency_batch: int,
    ckpt: str | None,
    workers: int,
    backend: str | None,
) -> None:
    """Train networks of splits val and test briefly; what is there already is kept.

    --only speed times them instead, --only ghn judges them with predicted weights.
    """
    from onnx_ghn.training.properties import measuring
    from onnx_ghn.training.properties.ground_truth import Brief

    brief = Brief(
        dataset=dataset, channels=channels, image_size=image_size, steps=steps, batch_size=batch_size, opt=opt, lr=lr,
        n_images=n_images, seed=seed,
    )  # fmt: skip
    config = measuring.MeasureConfig(
        kind=only, brief=brief, count=count, file=file, arch_seed=arch_seed, data_dir=data_dir, ghn=ckpt, rounds=rounds,
        runs=runs, latency_batch=latency_batch, workers=workers, backend=backend,
    )  # fmt: skip
    for split in splits or ("val", "test"):
        path, n_records = measuring.measure(split, Path(out), config, bar)
        click.echo(f"{path}: {n_records} records")


@property_prediction.command()
@click.option("--out", default="./out/properties", show_default=True, help="Folder of the measurements.")
@click.option(
    "--measurements", help="File of measurements to use instead: measurements.jsonl beside a saved predictor."
)
@click.option(
    "-C",
    "--ghn",
    "ckpt",
    cls=Option,
    aliases=["--ckpt"],
    help="GHN whose embeddings are used; the default one if omitted.",
)
@click.option(
    "--threshold",
    type=float,
    default=20.0,
    show_default=True,
    help="Training accuracy, in percent, at which a network has converged.",
)
@click.option("--save", metavar="FOLDER", help="Write the predictor, fitted on both splits, and the measurements.")
@click.option("--docs", metavar="FILE", help="Put the table between the marks of a Markdown page.")
@click.option("--force", is_flag=True, help="Overwrite a saved predictor.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def fit(
    out: str,
    measurements: str | None,
    ckpt: str | None,
    threshold: float,
    save: str | None,
    docs: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Fit on split val, test on split test, print Kendall's tau beside plain baselines; --save a predictor."""
    from onnx_ghn.errors import DataError
    from onnx_ghn.prediction.predicting import resolve_ghn
    from onnx_ghn.properties import save_predictor
    from onnx_ghn.training.properties.fitting import evaluate, fit_predictor
    from onnx_ghn.training.properties.measurements import (
        gather,
        markdown,
        put_table,
        read_measurements,
        tables,
        write_measurements,
    )

    measured = read_measurements(Path(measurements)) if measurements else gather(Path(out), threshold)
    ghn = resolve_ghn(ckpt)
    train, test = tables(measured, ghn, None if measurements else Path(out))
    if not train.targets:
        raise DataError("no property is measured of every network; run `measure` to its end")
    with bar("fitting", len(train.targets)) as advance:
        found = evaluate(train, test, ghn.config.hid, advance)
    text = markdown(found, len(train), len(test))
    if save:
        report = {"measured": measured["settings"], "networks": len(train) + len(test), "test": found}
        predictor = fit_predictor(ghn, train, test, report)
        folder = save_predictor(predictor, save, force=force)
        write_measurements(measured, folder / "measurements.jsonl")
        click.echo(f"{folder}: a predictor of {', '.join(predictor.regressions)}", err=True)
    if docs:
        put_table(Path(docs), text)
    click.echo(json.dumps(found, indent=2) if as_json else text, nl=as_json)
