"""Many architectures with predicted properties: drawn, ranked, and those that no other beats."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from onnx_ghn.arrays import Array
from onnx_ghn.deepnets1m import Architecture, symbolic_graph
from onnx_ghn.deepnets1m.files import open_deepnets
from onnx_ghn.deepnets1m.records import Record
from onnx_ghn.deepnets1m.sampling_stream import JOB_SIZE, draw_job
from onnx_ghn.errors import GraphError, OptionError
from onnx_ghn.graph.model import ComputationGraph
from onnx_ghn.parallel import Jobs, in_order
from onnx_ghn.properties import PropertyPredictor, load_predictor
from onnx_ghn.properties.features import Floats, n_decoded
from onnx_ghn.properties.macs import architecture_macs
from onnx_ghn.properties.predictor import PROPERTIES
from onnx_ghn.training.nas.settings import SearchConfig

__all__ = [
    "COUNTS",
    "Candidates",
    "SearchResult",
    "Space",
    "check_names",
    "described",
    "explore",
    "front",
    "intervals",
    "is_better_larger",
    "joined",
    "random_ones",
    "ranked",
    "result_of",
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
    prefix: str = ""  # of the networks' names; by default, the split

    def stored(self, job: int, n: int) -> list[Record]:
        """The first n of a job of 64 as they are stored or drawn. Raises OptionError: no such split, or architecture.
        DataError: a damaged file.
        """
        if self.file is None:
            return draw_job(self.split, self.seed, job, n)
        with open_deepnets(self.file) as file:
            return [file.record(self.split, job * JOB_SIZE + i) for i in range(n)]

    def n_stored(self) -> int | None:
        """How many a file has; None where they are drawn. Raises DataError: a damaged file."""
        if self.file is None:
            return None
        with open_deepnets(self.file) as file:
            return file.count(self.split)

    def architectures(self, job: int, n: int) -> list[Architecture]:
        """The first n of a job of 64, at the space's width. Raises as `stored` does."""
        return [record.architecture.replace(C=self.channels) for record in self.stored(job, n)]

    def name(self, index: int) -> str:
        """Of one of them."""
        return f"{self.prefix or self.split}-{index}"

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
        n_drawn: indices below are drawn at random; the others come of better ones.
    """

    space: Space
    every: Candidates
    good: Candidates
    best: Candidates
    edge: Candidates
    wall_s: float
    n_drawn: int


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
    return result_of(config, space, every, began, config.count)


def result_of(config: SearchConfig, space: Space, every: Candidates, began: float, n_drawn: int) -> SearchResult:
    """Keep those within the limits, rank and compare them.

    Args:
        every: all architectures, in order.
        began: when the search did, by `time.perf_counter`, in seconds.
        n_drawn: as `SearchResult` has it.

    Raises:
        OptionError: none keeps the limits.
    """
    good = ranked(within(every, config.limits()), config.by)
    edge = front(good, config.by, config.against)
    return SearchResult(space, every, good, good[slice(config.top)], edge, time.perf_counter() - began, n_drawn)


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
    n_stored = space.n_stored()
    if n_stored is not None and n > n_stored:
        raise OptionError(f"`count` {n}: {space.file} has {n_stored} of split {space.split}")
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
    kept, columns = described(space.architectures(job, n), space.num_classes, source)
    return job * JOB_SIZE + kept, columns


def described(
    nets: Sequence[Architecture], num_classes: int, source: str | None
) -> tuple[npt.NDArray[np.int64], dict[str, Floats]]:
    """Places of the architectures whose output is not cut off, and their columns.

    Args:
        source: of the predictor; a folder, or a bundled name.
    """
    predictor = _predictor(source)
    graphs, n_macs, kept = _graphs(nets, num_classes)
    if not graphs:
        return kept, {name: np.empty(0) for name in (*predictor.regressions, *COUNTS)}
    features = predictor.features(graphs, n_macs)
    counts = (np.array([n_decoded(graph) for graph in graphs]), np.array(n_macs), predictor.percentiles(features))
    return kept, predictor.predict(features) | dict(zip(COUNTS, counts, strict=True))


def intervals(nets: Sequence[Architecture], num_classes: int, source: str | None, by: str) -> tuple[Floats, Floats]:
    """(n,) ends of the 90 % intervals of a property of connected architectures."""
    predictor = _predictor(source)
    graphs, n_macs, _ = _graphs(nets, num_classes)
    return predictor.intervals(predictor.features(graphs, n_macs))[by]


def _graphs(
    nets: Sequence[Architecture], num_classes: int
) -> tuple[list[ComputationGraph], list[int], npt.NDArray[np.int64]]:
    graphs, n_macs, kept = [], [], []
    for i, net in enumerate(nets):
        try:
            graph = symbolic_graph(net, num_classes)
        except GraphError:  # of a file by another generator; the sampler's are all connected
            continue
        graphs.append(graph)
        n_macs.append(architecture_macs(net, graph))
        kept.append(i)
    return graphs, n_macs, np.array(kept, np.int64)


COUNTS = ("n_params", "n_macs", "percentile")  # columns that are no properties


def check_names(known: Collection[str], by: str, cost: str, max_latency_ms: float | None = None) -> None:
    """Refuse what the predictor does not have. Raises OptionError."""
    has = f"the predictor has {', '.join(one.name for one in PROPERTIES if one.name in known)}"
    if by not in known:
        raise OptionError(f"`by` {by}: {has}")
    if cost not in known and cost not in COUNTS:
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
    best_first = -candidates.columns[by] if is_better_larger(by) else candidates.columns[by]
    return candidates[np.lexsort((candidates.indices, candidates.columns["n_macs"], best_first))]


def is_better_larger(by: str) -> bool:
    """Whether more of a property is better."""
    return next(one for one in PROPERTIES if one.name == by).larger_is_better


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


def random_ones(found: SearchResult, n_best: int, n: int, seed: int, option: str) -> Candidates:
    """n of those within the limits that were drawn at random, without the first `n_best`, best first.

    Raises:
        OptionError: there are fewer.
    """
    places = np.flatnonzero(found.good.indices < found.n_drawn)
    places = places[places >= n_best]
    if len(places) < n:
        draw = "`count`" if found.n_drawn >= len(found.every) else "`population`"
        raise OptionError(
            f"`{option}`: {len(found.good)} architectures are within the limits, of which {len(places)} are random "
            f"ones beside the best {n_best}, and `random` asks for {n}; draw more with {draw}, or take fewer"
        )
    return found.good[np.sort(np.random.default_rng(seed).choice(places, n, replace=False))]


def joined(first: Candidates, second: Candidates) -> Candidates:
    """One after the other."""
    columns = {name: np.concatenate([values, second.columns[name]]) for name, values in first.columns.items()}
    return Candidates(np.concatenate([first.indices, second.indices]), columns)
