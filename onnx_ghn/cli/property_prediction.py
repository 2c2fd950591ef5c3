"""Predict properties of networks from their graphs: clean and noisy accuracy, latency, speed of convergence.

    python training/property_prediction.py measure -D DATA --out out/properties --workers 2
    python training/property_prediction.py measure --out out/properties --only speed
    python training/property_prediction.py fit --out out/properties --save checkpoints/properties-cifar10

The ground truth is measured here, one JSON line a network; a run that was killed goes on where it was. The regression
is that of facebookresearch/ppuda (experiments/property_prediction.py): trained on networks of split `val`, tested on
those of split `test`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.commands import Group, Option
from onnx_ghn.cli.terminal import bar
from onnx_ghn.errors import DataError
from onnx_ghn.training.results import ResultsFile

__all__ = ["property_prediction"]


@click.group("property-prediction", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def property_prediction() -> None:
    """Measure properties of networks, fit regressions that predict them, and say how well they do."""


@property_prediction.command()
@click.option("--out", default="./out/properties", show_default=True, help="Folder of the measurements.")
@click.option("--only", type=click.Choice(["training", "speed", "ghn"]), default="training", show_default=True)
@click.option("--split", "splits", type=click.Choice(["val", "test"]), multiple=True, help="Both unless told.")
@click.option(
    "--count",
    cls=Option,
    aliases=["-n"],
    type=click.IntRange(min=1),
    default=104,
    show_default=True,
    help="Networks a split.",
)
@click.option("--file", help="DeepNets-1M architectures (.hdf5 or .jsonl); without one they are sampled.")
@click.option("--arch-seed", type=click.IntRange(min=0), default=1111, show_default=True, help="Of sampled networks.")
@click.option("-d", "--dataset", default="cifar10", show_default=True, help="cifar10, or a folder or zip.")
@cli_options.data_dir
@click.option("--channels", type=int, default=16, show_default=True, help="Width of the networks.")
@click.option("--image-size", type=int, default=16, show_default=True, help="Scale training images to this size.")
@click.option("--steps", type=int, default=100, show_default=True, help="Of training.")
@click.option("-b", "--batch-size", type=int, default=32, show_default=True, help="Of training.")
@click.option("--opt", type=click.Choice(["sgd", "adam", "adamw"]), default="adam", show_default=True)
@click.option("--lr", type=float, default=0.002, show_default=True)
@click.option("--n-images", type=int, default=1500, show_default=True, help="Validation images to judge on.")
@click.option("-s", "--seed", type=click.IntRange(min=0), default=1111, show_default=True, help="Of training.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Visits to each network.")
@click.option("--runs", type=click.IntRange(min=1), default=20, show_default=True, help="Of a network at each visit.")
@click.option("--latency-batch", type=click.IntRange(min=1), default=1, show_default=True, help="Images a run.")
@click.option(
    "-C", "--ghn", "ckpt", cls=Option, aliases=["--ckpt"], help="The GHN of --only ghn; the default one unless told."
)
@click.option("--workers", type=int, default=1, show_default=True, help="Processes; -1 for one a core.")
@click.option("--backend", type=click.Choice(["loky", "threading", "ray", "dask"]), help="Of joblib.")
def measure(**options: Any) -> None:
    """Train networks of splits val and test briefly; what is there already is kept.

    --only speed times them instead, --only ghn judges them with predicted weights.
    """
    for split in options["splits"] or ("val", "test"):
        path = Path(options["out"]) / f"{options['only']}-{split}.jsonl"
        with ResultsFile(path, _settings(options)) as results:
            _MEASURES[options["only"]](split, results, options)
        click.echo(f"{path}: {len(results.records)} records")


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """What the results of each kind depend on."""
    shared = {key: options[key] for key in ("file", "arch_seed", "channels")}
    match options["only"]:
        case "training":
            return shared | dataclasses.asdict(_brief(options))
        case "ghn":
            return shared | {key: options[key] for key in ("dataset", "image_size", "n_images", "ckpt")}
    return shared | {key: options[key] for key in ("latency_batch", "runs")}


def _brief(options: dict[str, Any]) -> Any:
    from onnx_ghn.training.properties.ground_truth import Brief

    return Brief(**{field.name: options[field.name] for field in dataclasses.fields(Brief) if field.name in options})


def _training(split: str, results: ResultsFile, options: dict[str, Any]) -> None:
    from onnx_ghn.training.properties.ground_truth import train_briefly

    _by_jobs(train_briefly, (_brief(options), options["data_dir"]), f"training {split}", split, results, options)


def _ghn(split: str, results: ResultsFile, options: dict[str, Any]) -> None:
    from onnx_ghn.training.properties.ground_truth import judge_predicted

    told = (_brief(options), options["data_dir"], options["ckpt"])
    _by_jobs(judge_predicted, told, f"predicting {split}", split, results, options)


def _by_jobs(
    job: Callable[..., Any], told: tuple[Any, ...], what: str, split: str, results: ResultsFile, options: dict[str, Any]
) -> None:
    """job(architecture, *told) for each network that has no record yet."""
    from onnx_ghn.parallel import in_order

    nets = _networks(split, options)
    todo = [(name, net) for name, net in nets if name not in results.records]
    found = in_order(job, [(net, *told) for _, net in todo], options["workers"], options["backend"])
    with contextlib.closing(found), bar(what, len(nets), len(nets) - len(todo)) as advance:
        for (name, _), record in zip(todo, found, strict=True):
            results.add(name, record)
            advance(1)


def _speed(split: str, results: ResultsFile, options: dict[str, Any]) -> None:
    """Always one at a time: networks that are timed side by side are in each other's way."""
    from onnx_ghn.training.properties.speed import export_all, round_of

    nets = [(name, net.replace(C=options["channels"])) for name, net in _networks(split, options)]
    with bar(f"exporting {split}", len(nets)) as advance:
        paths = export_all(nets, Path(options["out"]) / "onnx", 10, advance)
    visits = [(f"{name}/{number}", name) for number in range(options["rounds"]) for name, _ in nets]
    with bar(f"timing {split}", len(visits)) as advance:
        for visit, name in visits:
            if visit not in results.records:
                results.add(visit, round_of(paths[name], options["latency_batch"], 1, options["runs"]))
            advance(1)


_MEASURES = {"training": _training, "speed": _speed, "ghn": _ghn}


def _networks(split: str, options: dict[str, Any]) -> list[tuple[str, Any]]:
    from onnx_ghn.training.nets.networks import choose

    chosen = choose(split, n=options["count"], file=options["file"], seed=options["arch_seed"])
    return [(choice.name, choice.net) for choice in chosen]


@property_prediction.command()
@click.option("--out", default="./out/properties", show_default=True, help="Folder of the measurements.")
@click.option("--measurements", help="A file of measurements instead: measurements.jsonl beside a saved predictor.")
@click.option(
    "-C",
    "--ghn",
    "ckpt",
    cls=Option,
    aliases=["--ckpt"],
    help="The GHN whose embeddings are taken; the default one unless told.",
)
@click.option(
    "--threshold", type=float, default=20.0, show_default=True, help="Training accuracy of convergence, percent."
)
@click.option("--save", metavar="FOLDER", help="Write the predictor, fitted on both splits, and the measurements.")
@click.option("--docs", metavar="FILE", help="Put the table between the marks of a Markdown page.")
@click.option("--force", is_flag=True, help="Overwrite a saved predictor.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def fit(**options: Any) -> None:
    """Fit on split val, test on split test, print Kendall's tau beside plain baselines; --save a predictor."""
    import json

    from onnx_ghn.prediction.predicting import resolve_ghn
    from onnx_ghn.properties.predictor import PROPERTIES
    from onnx_ghn.training.properties.fitting import evaluate
    from onnx_ghn.training.properties.measurements import (
        gather,
        markdown,
        read_measurements,
        tables,
        write_measurements,
    )

    given = options["measurements"]
    measured = read_measurements(Path(given)) if given else gather(Path(options["out"]), options["threshold"])
    ghn = resolve_ghn(options["ckpt"])
    train, test = tables(measured, ghn, None if given else Path(options["out"]))
    if not train.targets:
        raise DataError("no property is measured of every network; run `measure` to its end")
    with bar("fitting", len(train.targets)) as advance:
        found = evaluate(train, test, ghn.config.hid, advance)
    text = markdown(found, len(train), len(test))
    if options["save"]:
        report = {"measured": measured["settings"], "networks": len(train) + len(test), "test": found}
        folder = _save(ghn, train, test, report, Path(options["save"]), options["force"])
        write_measurements(measured, folder / "measurements.jsonl")
        click.echo(
            f"{folder}: a predictor of {', '.join(p.name for p in PROPERTIES if p.name in train.targets)}", err=True
        )
    if options["docs"]:
        _put(Path(options["docs"]), text)
    click.echo(json.dumps(found, indent=2) if options["as_json"] else text, nl=options["as_json"])


def _save(ghn: Any, train: Any, test: Any, report: dict[str, Any], folder: Path, force: bool) -> Path:
    """Fitted on both splits, as the published code does for its search."""
    import numpy as np

    from onnx_ghn.properties import PropertyPredictor, save_predictor
    from onnx_ghn.properties.predictor import PROPERTIES
    from onnx_ghn.training.properties.fitting import Table, best_of_ours

    targets = {name: np.concatenate([train.targets[name], test.targets[name]]) for name in train.targets}
    every = Table(np.vstack([train.features, test.features]), targets, {})
    known = [one for one in PROPERTIES if one.name in targets]
    # Their order is the splits': folds of mixed networks.
    regressions = {one.name: best_of_ours(one, every, ghn.config.hid, seed=0).regression for one in known}
    return save_predictor(PropertyPredictor(ghn, regressions, every.features, report), folder, force=force)


_MARKS = ("<!-- table -->", "<!-- end of table -->")


def _put(page: Path, table: str) -> None:
    try:
        before, rest = page.read_text("utf-8").split(_MARKS[0])
        _, after = rest.split(_MARKS[1])
    except (OSError, ValueError) as error:
        raise DataError(f"{page}: no page with {_MARKS[0]} and {_MARKS[1]} in it, once each") from error
    new = page.with_name(f".{page.name}.tmp")
    new.write_text(f"{before}{_MARKS[0]}\n{table}{_MARKS[1]}{after}", "utf-8")
    new.replace(page)
