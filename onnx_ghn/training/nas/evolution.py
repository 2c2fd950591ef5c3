"""A search by evolution: NSGA-II of pymoo (https://pymoo.org) over predicted properties.

K. Deb, A. Pratap, S. Agarwal, T. Meyarivan: A fast and elitist multiobjective genetic algorithm: NSGA-II. IEEE
Transactions on Evolutionary Computation 6(2), 2002.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.deepnets1m.architecture import Architecture
from onnx_ghn.deepnets1m.compact import header_line, record_line
from onnx_ghn.deepnets1m.records import Record
from onnx_ghn.deepnets1m.sampling_stream import JOB_SIZE, counted
from onnx_ghn.errors import OptionError
from onnx_ghn.installing import require
from onnx_ghn.onnx_io import write_file
from onnx_ghn.parallel import Jobs, in_order
from onnx_ghn.training.nas.nsga import nsga2, tell
from onnx_ghn.training.nas.search import (
    COUNTS,
    Candidates,
    SearchResult,
    Space,
    described,
    is_better_larger,
    result_of,
)
from onnx_ghn.training.nas.settings import SearchConfig, ranking_settings
from onnx_ghn.training.nas.variation import crossed, mutated
from onnx_ghn.training.results import ResultsFile

__all__ = ["EVOLVED", "check_evolution", "evolve"]

EVOLVED = "evolved.jsonl"  # the architectures, as a DeepNets-1M file
_STATE = "evaluated.jsonl"
_CHUNK = 16  # architectures whose properties are predicted together: another number rounds otherwise


def check_evolution() -> None:
    """Refuse to begin without pymoo. Raises NotInstalledError."""
    require("pymoo", "search")


def evolve(
    config: SearchConfig,
    space: Space,
    folder: Path,
    jobs: Jobs | None = None,
    *,
    told: Callable[[int], None] = lambda _: None,
) -> SearchResult:
    """Evolve architectures from the first of a space, for better properties at less cost within the limits.

    Predicted properties are kept in the folder as they come; a search that was stopped goes on from there, and ends as
    one that was not. What is found is in evolved.jsonl, of which the result's space reads.

    Args:
        space: from `space_of`.
        folder: that exists.
        jobs: how the predictions are spread; the result is the same whatever that is.
        told: told how many more are done.

    Raises:
        OptionError: pymoo is not installed, no such split or backend, or no architecture within the limits.
        DataError: a damaged file, or a folder of another search. CheckpointError: no such predictor.
        ModelWriteError: the folder cannot be written.
    """
    check_evolution()
    began = time.perf_counter()
    settings = ranking_settings(config) | {"channels": space.channels, "chunk": _CHUNK}
    with ResultsFile(folder / _STATE, settings, COUNTS) as state:
        evolution = _Evolution(config, space, state, jobs or Jobs(), told)
        found = evolution.run()
    lines = [header_line(space.split, space.seed), *(record_line(record) for record, _ in found)]
    write_file(folder / EVOLVED, lines, force=True, what="a file of architectures")
    evolved = dataclasses.replace(space, file=str(folder / EVOLVED), prefix="evolved")
    columns = {name: np.array([row[name] for _, row in found]) for name in found[0][1]}
    return result_of(config, evolved, Candidates(np.arange(len(found)), columns), began, evolution.n_drawn)


class _Evolution:
    """Architectures by number, in the order in which they came up; pymoo sees the numbers alone."""

    def __init__(
        self, config: SearchConfig, space: Space, state: ResultsFile, jobs: Jobs, told: Callable[[int], None]
    ) -> None:
        self._config, self._space, self._state, self._jobs, self._told = config, space, state, jobs, told
        self._records: list[Record] = []
        self._numbers: dict[str, int] = {}  # by key
        self._columns: dict[int, dict[str, float]] = {}  # of those that are evaluated, in their order
        self.n_drawn = 0  # which come first: fewer than the population where a file has fewer, or one twice

    def run(self) -> list[tuple[Record, dict[str, float]]]:
        """The architectures that were evaluated, with their columns, in order."""
        config = self._config
        first = list(dict.fromkeys(map(self._add, self._first(min(config.population, config.count)))))
        self.n_drawn = len(first)
        with contextlib.redirect_stdout(io.StringIO()):  # pymoo prints advice on how to install it
            algorithm = nsga2(first, config.population, config.seed, self)
        while len(self._columns) < config.count:
            asked = algorithm.ask()
            if asked is None or len(asked) == 0:  # nothing comes up that is not there already
                break
            numbers = [int(row[0]) for row in asked.get("X")]
            new = [number for number in numbers if number not in self._columns]
            self._evaluate(new[: config.count - len(self._columns)])
            done = [i for i, number in enumerate(numbers) if number in self._columns]
            tell(algorithm, asked[done], *self._aims([numbers[i] for i in done]))
        return [(self._records[number], columns) for number, columns in self._columns.items()]

    def children(self, first: int, second: int, rng: np.random.Generator) -> tuple[int, int]:
        """The numbers of two crossed architectures; a child that the rules forbid is its parent."""
        one, other = crossed(self._records[first].architecture, self._records[second].architecture, self._split, rng)
        return first if one is None else self._add(one), second if other is None else self._add(other)

    def mutant(self, number: int, rng: np.random.Generator) -> int:
        """The number of a changed architecture; the same where the rules forbid what was tried."""
        found = mutated(self._records[number].architecture, self._split, rng)
        return number if found is None else self._add(found)

    @property
    def _split(self) -> str:
        return self._space.split

    def _add(self, record: Record) -> int:
        key = _key(record.architecture)
        if key not in self._numbers:
            self._numbers[key] = len(self._records)
            self._records.append(record)
        return self._numbers[key]

    def _first(self, n: int) -> list[Record]:
        """The first of the space that are connected and within their split's size, as they are stored."""
        found: list[Record] = []
        n_stored = self._space.n_stored()
        for job in itertools.count():
            size = JOB_SIZE if n_stored is None else min(JOB_SIZE, n_stored - job * JOB_SIZE)
            size = min(size, n - len(found))
            if size <= 0:
                break
            records = self._space.stored(job, size)
            if n_stored is not None:  # counts of a file may be another generator's; those of drawn ones are ours
                sound = (counted(record.architecture, self._split) for record in records)
                records = [one[0] for one in sound if one is not None]
            found += records
        if not found:
            raise OptionError(f"`file`: {self._space.file} has no architecture of split {self._split} to begin with")
        return found

    def _evaluate(self, numbers: Sequence[int]) -> None:
        """Predict what the state does not have. Chunks are the same whatever it has, and so is what they round to."""
        chunks = [numbers[start : start + _CHUNK] for start in range(0, len(numbers), _CHUNK)]
        missing = [
            chunk for chunk in chunks if not all(self._key_of(number) in self._state.records for number in chunk)
        ]
        tasks = [
            ([self._at_width(number) for number in chunk], self._space.num_classes, self._config.predictor)
            for chunk in missing
        ]
        for chunk, (_, columns) in zip(missing, in_order(described, tasks, **vars(self._jobs)), strict=True):
            for i, number in enumerate(chunk):
                if self._key_of(number) not in self._state.records:
                    row = {name: float(values[i]) for name, values in columns.items()}
                    self._state.add(self._key_of(number), row)
            self._told(len(chunk))
        self._told(len(numbers) - sum(map(len, missing)))
        for number in numbers:
            self._columns[number] = self._state.records[self._key_of(number)]

    def _at_width(self, number: int) -> Architecture:
        return self._records[number].architecture.replace(C=self._space.channels)

    def _key_of(self, number: int) -> str:
        return _key(self._records[number].architecture)

    def _aims(self, numbers: Sequence[int]) -> tuple[Array, Array]:
        """(n, 2) figures to be small, and (n, limits) what exceeds each limit, as a share of it."""
        config, rows = self._config, [self._columns[number] for number in numbers]
        sign = -1 if is_better_larger(config.by) else 1
        aims = np.array([[sign * row[config.by], row[config.against]] for row in rows])
        limits = [(name, limit) for name, limit in config.limits().items() if limit is not None]
        excess = np.array([[(row[name] - limit) / max(abs(limit), 1e-9) for name, limit in limits] for row in rows])
        return aims, excess.reshape(len(rows), len(limits))


def _key(architecture: Architecture) -> str:
    """A name that is the same wherever an architecture comes from."""
    return hashlib.sha256(json.dumps(architecture.to_dict(), sort_keys=True).encode()).hexdigest()[:16]
