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
from typing import Literal

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.commands import Group
from onnx_ghn.cli.terminal import bar, say, tell
from onnx_ghn.settings import ghn_setting, setting
from onnx_ghn.training.properties.settings import MeasureConfig

__all__ = ["property_prediction"]


_OUT: str = setting("./out/properties", "Folder of the measurements.")


@click.group("property-prediction", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def property_prediction() -> None:
    """Measure properties of networks, fit regressions that predict them, and say how well they do."""


@property_prediction.command()
def measure(
    config: MeasureConfig,
    out: str = _OUT,
    splits: tuple[Literal["val", "test"], ...] = setting((), "Split to measure; both by default.", option="--split"),
) -> None:
    """Train networks of splits val and test briefly; what is there already is kept.

    --only speed times them instead, --only ghn judges them with predicted weights.
    """
    from onnx_ghn.training.properties.measuring import measure as run

    for split in splits or ("val", "test"):
        path, n_records = run(split, Path(out), config, bar)
        tell(f"{path}: {n_records} records")


@property_prediction.command()
def fit(
    out: str = _OUT,
    measurements: str | None = setting(
        None, "File of measurements to use instead: measurements.jsonl beside a saved predictor."
    ),
    ckpt: str | None = ghn_setting("GHN whose embeddings are used instead of those of the default one"),
    threshold: float = setting(
        20.0, "Training accuracy, in percent, at which a network has converged.", above=0, most=100
    ),
    save: str | None = setting(
        None, "Write the predictor, fitted on both splits, and the measurements.", metavar="FOLDER"
    ),
    docs: str | None = setting(None, "Put the table between the marks of a Markdown page.", metavar="FILE"),
    force: bool = cli_options.force("Overwrite a saved predictor."),
    as_json: bool = cli_options.as_json(),
) -> None:
    """Fit on split val, test on split test, print Kendall's tau beside plain baselines; --save a predictor."""
    from onnx_ghn.errors import DataError
    from onnx_ghn.ghn import load_ghn
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
    ghn = load_ghn(ckpt)
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
        say(f"{folder}: a predictor of {', '.join(predictor.regressions)}")
    if docs:
        put_table(Path(docs), text)
    click.echo(json.dumps(found, indent=2) if as_json else text, nl=as_json)
