"""Whether a search was worth it: the best of it against random ones, trained alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from onnx_ghn.errors import OptionError
from onnx_ghn.json_types import Json
from onnx_ghn.parallel import Jobs, in_order
from onnx_ghn.progress import Bar, no_bar
from onnx_ghn.training.nas.output import rows
from onnx_ghn.training.nas.search import SearchResult
from onnx_ghn.training.nas.settings import SearchConfig
from onnx_ghn.training.properties.ground_truth import train_briefly
from onnx_ghn.training.properties.settings import Brief
from onnx_ghn.training.results import ResultsFile

__all__ = ["compare"]


def compare(
    config: SearchConfig,
    found: SearchResult,
    n: int,
    brief: Brief,
    data_dir: str,
    folder: Path,
    jobs: Jobs | None = None,
    *,
    bar: Bar = no_bar,
) -> list[Json]:
    """Train the n best and n random ones of the rest from random weights, all alike.

    What is measured is kept in compared.jsonl of the folder; a run that was stopped goes on from there.

    Returns:
        One row a network: name, chosen (best or random), predicted, top1, noisy_top1.

    Raises:
        OptionError: fewer than 2n architectures, or what `in_order` refuses. DataError: images that cannot be read.
    """
    good = found.good
    if len(good) < 2 * n:
        raise OptionError(
            f"`compare` {n}: only {len(good)} architectures are within the limits; draw more with `count`"
        )
    drawn = np.random.default_rng(config.seed).choice(np.arange(n, len(good)), n, replace=False)
    chosen = good[np.concatenate([np.arange(n), np.sort(drawn)])]
    settings = {"split": config.split, "file": config.file, "seed": config.seed, "by": config.by}
    entries = rows(chosen, config.split)
    figures = ("top1", "noisy_top1")
    with ResultsFile(folder / "compared.jsonl", settings | dataclasses.asdict(brief), figures) as results:
        todo = [i for i, entry in enumerate(entries) if entry["name"] not in results.records]
        tasks = [(found.space.architecture(int(chosen.indices[i])), brief, data_dir) for i in todo]
        with bar("training", len(entries), len(entries) - len(todo)) as advance:
            for i, record in zip(todo, in_order(train_briefly, tasks, **vars(jobs or Jobs())), strict=True):
                results.add(entries[i]["name"], record)
                advance(1)
    measured = (results.records[entry["name"]] for entry in entries)
    return [
        {"name": entry["name"], "chosen": "best" if i < n else "random", "predicted": entry[config.by],
         "top1": record["top1"], "noisy_top1": record["noisy_top1"]}
        for i, (entry, record) in enumerate(zip(entries, measured, strict=True))
    ]  # fmt: skip
