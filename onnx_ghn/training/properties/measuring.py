"""Measuring what properties are predicted of, network by network, into files that a stopped run goes on with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onnx_ghn.deepnets1m import Architecture
from onnx_ghn.json_types import Json
from onnx_ghn.parallel import in_order
from onnx_ghn.progress import Bar, no_bar
from onnx_ghn.training.nets.networks import choose
from onnx_ghn.training.properties.ground_truth import judge_predicted, train_briefly
from onnx_ghn.training.properties.settings import MeasureConfig
from onnx_ghn.training.properties.speed import export_all, round_of
from onnx_ghn.training.results import ResultsFile

__all__ = ["measure"]

_N_CLASSES = 10  # of the networks that are timed


def measure(split: str, folder: Path, config: MeasureConfig, bar: Bar = no_bar) -> tuple[Path, int]:
    """Measure the networks of a split that have no record in <folder>/<kind>-<split>.jsonl yet.

    Returns:
        the file, and how many records it has now.

    Raises:
        OptionError: no such split or backend. DataError: a damaged file, one of other settings, unreadable images.
        CheckpointError: no such GHN. RuntimeFailure: onnxruntime cannot run a network.
    """
    path = folder / f"{config.kind}-{split}.jsonl"
    chosen = choose(split, n=config.count, file=config.file, seed=config.arch_seed)
    with ResultsFile(path, config.settings()) as results:
        nets = [(choice.name, choice.net) for choice in chosen if isinstance(choice.net, Architecture)]
        match config.kind:
            case "training":
                _by_jobs(
                    train_briefly, (config.brief, config.data_dir), f"training {split}", nets, results, config, bar
                )
            case "ghn":
                judge = (config.brief, config.data_dir, config.ckpt)
                _by_jobs(judge_predicted, judge, f"predicting {split}", nets, results, config, bar)
            case "speed":
                _time(split, folder, nets, results, config, bar)
        return path, len(results.records)


def _by_jobs(
    job: Callable[..., Json], arguments: tuple[Any, ...], what: str, nets: list[tuple[str, Architecture]],
    results: ResultsFile, config: MeasureConfig, bar: Bar,
) -> None:  # fmt: skip
    """Keep job(architecture, *arguments) of each network that has no record yet."""
    todo = [(name, net) for name, net in nets if name not in results.records]
    found = in_order(job, [(net, *arguments) for _, net in todo], config.workers, config.backend)
    with contextlib.closing(found), bar(what, len(nets), len(nets) - len(todo)) as advance:
        for (name, _), record in zip(todo, found, strict=True):
            results.add(name, record)
            advance(1)


def _time(
    split: str, folder: Path, nets: list[tuple[str, Architecture]], results: ResultsFile, config: MeasureConfig,
    bar: Bar,
) -> None:  # fmt: skip
    """Always one at a time: networks that are timed side by side are in each other's way."""
    nets = [(name, net.replace(C=config.channels)) for name, net in nets]
    with bar(f"exporting {split}", len(nets)) as advance:
        paths = export_all(nets, folder / "onnx", _N_CLASSES, advance)
    visits = [(f"{name}/{number}", name) for number in range(config.rounds) for name, _ in nets]
    with bar(f"timing {split}", len(visits)) as advance:
        for visit, name in visits:
            if visit not in results.records:
                results.add(visit, round_of(paths[name], config.latency_batch, 1, config.runs))
            advance(1)
