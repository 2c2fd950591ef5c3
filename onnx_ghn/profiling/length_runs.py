"""Runs on lengths that are drawn from a file, one after the other in one session."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import numpy as np

from onnx_ghn.errors import OptionError
from onnx_ghn.limits import gib, memory_bytes
from onnx_ghn.profiling.feeds import Feed, random_feed
from onnx_ghn.profiling.lengths import drawn_lengths, lengths_symbol, read_lengths, typical_length
from onnx_ghn.profiling.random_arrays import drawn_bytes
from onnx_ghn.profiling.report import LengthProfile
from onnx_ghn.profiling.runnable import Runnable
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.sizing import candidate_shapes
from onnx_ghn.profiling.specs import InputSpec

__all__ = ["LengthRuns"]


class LengthRuns:
    """A round of drawn lengths: `run` takes the next one. Each length is run once when this is made."""

    def __init__(self, runnable: Runnable, specs: Sequence[InputSpec], point: Point, settings: Settings) -> None:
        assert settings.lengths is not None
        name, file = settings.lengths
        self._runnable = runnable
        self._symbol = lengths_symbol(specs, name)
        lengths = read_lengths(file)
        drawn = drawn_lengths(lengths, settings.seed)
        self.typical = f"{self._symbol} {typical_length(drawn)}"
        self._n_in_file = len(lengths)
        self._round: list[int] = drawn.tolist()
        self._feeds = self._made(sorted(set(self._round)), specs, point, settings)
        self._first_ms: dict[int, float] = {}
        for length, feed in self._feeds.items():
            began = time.perf_counter()
            runnable.run(feed)
            self._first_ms[length] = (time.perf_counter() - began) * 1e3
        self._number = itertools.count()
        self._runs: list[tuple[int, int]] = []  # length and nanoseconds

    def run(self) -> None:
        """Run on the next length."""
        length = self._round[next(self._number) % len(self._round)]  # streams draw from the same round
        began = time.perf_counter_ns()
        self._runnable.run(self._feeds[length])
        self._runs.append((length, time.perf_counter_ns() - began))

    def profile(self, warmup: int, wall_s: float, batch: int) -> LengthProfile:
        """The lengths of the runs since this was made, without the first `warmup`."""
        runs = self._runs[warmup:]
        lengths = np.array([length for length, _ in runs])  # (n,)
        times_ms = np.array([ns for _, ns in runs]) / 1e6  # (n,)
        p50, p90, p95, p99 = (float(np.percentile(lengths, q)) for q in (50, 90, 95, 99))
        return LengthProfile(
            symbol=self._symbol,
            n_in_file=self._n_in_file,
            n_drawn=len(self._round),
            mean=float(lengths.mean()),
            p50=p50,
            p90=p90,
            p95=p95,
            p99=p99,
            largest=int(lengths.max()),
            per_s=float(lengths.sum()) * batch / wall_s,
            by_length=tuple(
                {
                    "length": length,
                    "n_runs": int((lengths == length).sum()),
                    "first_run_ms": self._first_ms[length],
                    "p50_ms": float(np.median(times_ms[lengths == length])),
                }
                for length in self._feeds
                if (lengths == length).any()
            ),
        )

    def _made(
        self, lengths: Sequence[int], specs: Sequence[InputSpec], point: Point, settings: Settings
    ) -> dict[int, Feed]:
        """Inputs by length."""
        shapes, sizes = {**settings.shapes, **dict(point.shapes)}, dict(point.sizes)
        made = {
            length: next(
                candidate_shapes(specs, batch=point.batch, shapes=shapes, sizes={**sizes, self._symbol: length})
            ).shapes
            for length in lengths
        }
        needed_bytes = sum(drawn_bytes(shape) for one in made.values() for shape in one.values())
        if needed_bytes > memory_bytes() / 2:
            raise OptionError(
                f"`lengths`: inputs of {len(made)} lengths need {gib(needed_bytes)}, more than half of this machine's "
                "memory; leave the longest out"
            )
        return {length: random_feed(specs, one, settings.seed) for length, one in made.items()}
