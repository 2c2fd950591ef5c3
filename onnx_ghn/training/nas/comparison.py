"""Whether a search was worth it: the best of it against random ones, trained alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from onnx_ghn.errors import OptionError
from onnx_ghn.json_types import Json
from onnx_ghn.parallel import Jobs, in_order
from onnx_ghn.progress import Bar, no_bar
from onnx_ghn.training.nas.output import rows
from onnx_ghn.training.nas.search import SearchResult, joined, random_ones
from onnx_ghn.training.nas.settings import SearchConfig, ranking_settings
from onnx_ghn.training.properties.ground_truth import train_briefly
from onnx_ghn.training.properties.settings import Brief
from onnx_ghn.training.results import ResultsFile

__all__ = ["compare"]


def compare(
    config: SearchConfig,
    found: SearchResult,
    n: int,
    n_random: int,
    brief: Brief,
    data_dir: str,
    folder: Path,
    jobs: Jobs | None = None,
    *,
    measured: bool = False,
    bar: Bar = no_bar,
) -> list[Json]:
    """Train the n best and random ones of the rest from random weights, all alike.

    What is measured is kept in compared.jsonl of the folder; a run that was stopped goes on from there.

    Args:
        n_random: how many random ones.
        measured: the best are those whose latency was measured, and the random ones those that were measured, too.

    Returns:
        One row a network: name, chosen (best or random), predicted, top1, noisy_top1.

    Raises:
        OptionError: too few architectures, or what `in_order` refuses. DataError: images that cannot be read.
    """
    best = (found.best if measured else found.good)[slice(n)]
    if len(best) < n:
        raise OptionError(f"`compare` {n}: only {len(best)} of the best are fast enough; choose fewer, or allow more")
    n_ahead = min(config.top, len(found.good)) if measured else n
    chosen = joined(best, random_ones(found, n_ahead, n_random, config.seed, "compare"))
    settings = ranking_settings(config) | dataclasses.asdict(brief)
    entries = rows(chosen, found.space)
    figures = ("top1", "noisy_top1")
    with ResultsFile(folder / "compared.jsonl", settings, figures) as results:
        todo = [i for i, entry in enumerate(entries) if entry["name"] not in results.records]
        tasks = [(found.space.architecture(int(chosen.indices[i])), brief, data_dir) for i in todo]
        with bar("training", len(entries), len(entries) - len(todo)) as advance:
            for i, record in zip(todo, in_order(train_briefly, tasks, **vars(jobs or Jobs())), strict=True):
                results.add(entries[i]["name"], record)
                advance(1)
    records = (results.records[entry["name"]] for entry in entries)
    return [
        {"name": entry["name"], "chosen": "best" if i < n else "random", "predicted": entry[config.by],
         "top1": record["top1"], "noisy_top1": record["noisy_top1"]}
        for i, (entry, record) in enumerate(zip(entries, records, strict=True))
    ]  # fmt: skip
