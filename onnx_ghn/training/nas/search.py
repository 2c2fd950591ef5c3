"""Many architectures with predicted properties: drawn, ranked, and those that no other beats."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Collection, Mapping

import numpy as np
import numpy.typing as npt

from onnx_ghn.arrays import Array
from onnx_ghn.deepnets1m import Architecture, symbolic_graph
from onnx_ghn.deepnets1m.files import open_deepnets
from onnx_ghn.deepnets1m.sampling_stream import JOB_SIZE, draw_job
from onnx_ghn.errors import GraphError, OptionError
from onnx_ghn.parallel import Jobs, in_order
from onnx_ghn.properties import PropertyPredictor, load_predictor
from onnx_ghn.properties.features import Floats, n_decoded
from onnx_ghn.properties.macs import architecture_macs
from onnx_ghn.properties.predictor import PROPERTIES
from onnx_ghn.training.nas.settings import SearchConfig

__all__ = [
    "Candidates",
    "SearchResult",
    "Space",
    "check_names",
    "explore",
    "front",
    "ranked",
    "search",
    "space_of",
    "within",
]


@dataclasses.dataclass(frozen=True)
class Space:
    """Where architectures come from: a file, or the published sampler and a seed; and the width that they get."""

    split: str
    seed: int = 1111
    channels: int = 16
    num_classes: int = 10
    file: str | None = None

    def architectures(self, job: int, n: int) -> list[Architecture]:
        """The first n of a job of 64. Raises OptionError: no such split. DataError: a damaged file."""
        if self.file is None:
            nets = [record.architecture for record in draw_job(self.split, self.seed, job, n)]
        else:
            with open_deepnets(self.file) as file:
                nets = [file.record(self.split, job * JOB_SIZE + i).architecture for i in range(n)]
        return [net.replace(C=self.channels) for net in nets]

    def architecture(self, index: int) -> Architecture:
        """One of them."""
        return self.architectures(index // JOB_SIZE, index % JOB_SIZE + 1)[-1]


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search has found.

    Attributes:
        space: where the architectures are.
        every: all that were drawn, in order.
        good: those within the limits, best first.
        best: the first of these.
        edge: their Pareto front, cheapest first.
        wall_s: seconds that it took.
    """

    space: Space
    every: Candidates
    good: Candidates
    best: Candidates
    edge: Candidates
    wall_s: float


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Architectures by index of the space, and (n,) columns: predicted properties, n_params, n_macs, percentile."""

    indices: npt.NDArray[np.int64]
    columns: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, chosen: Array | slice) -> Candidates:
        return Candidates(self.indices[chosen], {name: values[chosen] for name, values in self.columns.items()})


def space_of(config: SearchConfig) -> Space:
    """Where the architectures of a search come from, at the width that its predictor knows.

    Raises:
        OptionError: a property or limit that the predictor lacks. CheckpointError: no such predictor.
    """
    predictor = load_predictor(config.predictor)
    check_names(predictor.regressions, config.by, config.against, config.max_latency_ms)
    channels = config.channels or predictor.report.get("measured", {}).get("channels", 16)
    return Space(config.split, config.seed, channels, file=config.file)


def search(
    config: SearchConfig,
    space: Space,
    jobs: Jobs | None = None,
    *,
    told: Callable[[int], None] = lambda _: None,
) -> SearchResult:
    """Predict the properties of all architectures, and keep, rank and compare them.

    Args:
        space: from `space_of`.
        jobs: how they are spread; the result is the same whatever that is.
        told: told how many more are done.

    Raises:
        OptionError: no such split or backend, or no architecture within the limits.
        DataError: a damaged file. CheckpointError: no such predictor.
    """
    began = time.perf_counter()
    every = explore(space, config.count, config.predictor, jobs, told=told)
    good = ranked(within(every, config.limits()), config.by)
    edge = front(good, config.by, config.against)
    return SearchResult(space, every, good, good[slice(config.top)], edge, time.perf_counter() - began)


def explore(
    space: Space,
    n: int,
    predictor: str | None = None,
    jobs: Jobs | None = None,
    *,
    told: Callable[[int], None] = lambda _: None,
) -> Candidates:
    """Predict the properties of the first n architectures of a space; those whose output is cut off are left out.

    Args:
        predictor: a folder, or a bundled name.
        jobs: how they are spread; the result is the same whatever that is.

    Raises:
        OptionError: no such split or backend. DataError: a damaged file. CheckpointError: no such predictor.
    """
    if space.file is not None:
        with open_deepnets(space.file) as file:
            if n > file.count(space.split):
                raise OptionError(f"`count` {n}: {space.file} has {file.count(space.split)} of split {space.split}")
    tasks = [(space, job, min(JOB_SIZE, n - job * JOB_SIZE), predictor) for job in range(-(-n // JOB_SIZE))]
    indices, parts = [], []
    for task, (kept, columns) in zip(tasks, in_order(_job, tasks, **vars(jobs or Jobs())), strict=True):
        indices.append(kept)
        parts.append(columns)
        told(task[2])
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Candidates(np.concatenate(indices), columns)


@functools.lru_cache(maxsize=1)
def _predictor(source: str | None) -> PropertyPredictor:
    return load_predictor(source)


def _job(space: Space, job: int, n: int, source: str | None) -> tuple[npt.NDArray[np.int64], dict[str, Floats]]:
    """Runs in the workers."""
    predictor = _predictor(source)
    graphs, n_macs, indices = [], [], []
    for i, net in enumerate(space.architectures(job, n)):
        try:
            graph = symbolic_graph(net, space.num_classes)
        except GraphError:  # of a file by another generator; the sampler's are all connected
            continue
        graphs.append(graph)
        n_macs.append(architecture_macs(net, graph))
        indices.append(job * JOB_SIZE + i)
    if not graphs:
        return np.empty(0, np.int64), {name: np.empty(0) for name in (*predictor.regressions, *_COUNTS)}
    features = predictor.features(graphs, n_macs)
    counts = (np.array([n_decoded(graph) for graph in graphs]), np.array(n_macs), predictor.percentiles(features))
    columns = predictor.predict(features) | dict(zip(_COUNTS, counts, strict=True))
    return np.array(indices), columns


_COUNTS = ("n_params", "n_macs", "percentile")


def check_names(known: Collection[str], by: str, cost: str, max_latency_ms: float | None = None) -> None:
    """Refuse what the predictor does not have. Raises OptionError."""
    has = f"the predictor has {', '.join(one.name for one in PROPERTIES if one.name in known)}"
    if by not in known:
        raise OptionError(f"`by` {by}: {has}")
    if cost not in known and cost not in _COUNTS:
        raise OptionError(f"`against` {cost}: {has}; choose n_params or n_macs")
    if max_latency_ms is not None and "latency_ms" not in known:
        raise OptionError(f"`max_latency_ms`: {has}")


def within(candidates: Candidates, limits: Mapping[str, float | None]) -> Candidates:
    """Those that exceed no limit.

    Raises:
        OptionError: none keeps them.
    """
    kept = np.ones(len(candidates), dtype=bool)
    for name, limit in limits.items():
        if limit is not None:
            kept &= candidates.columns[name] <= limit
    if not kept.any():
        raise OptionError(f"none of {len(candidates):,} architectures keeps the limits; loosen them or draw more")
    return candidates[kept]


def ranked(candidates: Candidates, by: str) -> Candidates:
    """Best first; of equals the one with fewer multiply-accumulates, then the one drawn first."""
    larger = next(one for one in PROPERTIES if one.name == by).larger_is_better
    best_first = -candidates.columns[by] if larger else candidates.columns[by]
    return candidates[np.lexsort((candidates.indices, candidates.columns["n_macs"], best_first))]


def front(candidates: Candidates, by: str, cost: str) -> Candidates:
    """The Pareto front, cheapest first: no other is as good at less cost, or better at the same."""
    best_first = ranked(candidates, by)
    # Of those that are equally good the cheapest comes first, so that the others are beaten.
    values = best_first.columns[by]
    groups = np.cumsum(np.concatenate([[0], np.diff(values) != 0]))
    order = best_first[np.lexsort((best_first.columns[cost], groups))]
    costs = order.columns[cost]
    cheapest_better = np.concatenate([[np.inf], np.minimum.accumulate(costs)[:-1]])
    return order[np.flatnonzero(costs < cheapest_better)[::-1]]
