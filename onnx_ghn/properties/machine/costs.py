"""What operators cost on a machine, fitted to measured probes, and the time of a whole run from them."""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from onnx_ghn.properties.machine.measured import Measured
from onnx_ghn.properties.machine.regression import Floats, Smooth, fit_smooth, fit_undisturbed

__all__ = ["Costs", "fit_costs", "is_heavy", "run_errors"]

Node = tuple[str, tuple[float, ...]]

_HEAVY = ("convolution", "matrix", "LSTM", "GRU", "RNN")
_MEGABYTE = 2.0**20
_MOST_CACHED = 48 * 2**20  # bytes of weights, beyond which hardly any cache holds more of them
_OTHER_BYTES = re.compile(r" \d+B\b")
_LEAST = 3  # measurements of a kind, below which it is taken for any operator of its size
_SMEARED = 0.5  # standard deviation of a logarithm above which the mean is not corrected further
_FOLDS = 5


def is_heavy(kind: str) -> bool:
    """Whether operators of a kind sum products."""
    return any(word in kind for word in _HEAVY)


@dataclasses.dataclass(frozen=True, eq=False)
class Costs:
    """Fitted times.

    Attributes:
        kinds: by kind, logarithm of microseconds in the trace over what is expected: a microsecond a product, or
            `any_light`.
        smears: by kind, what the mean of times is over the exponential of the mean logarithm.
        any_light: of an operator that sums no products, by its elements alone.
        run_us: what a run costs beside its operators.
        traced_us: what tracing adds to an operator.
    """

    kinds: Mapping[str, Smooth]
    smears: Mapping[str, float]
    any_light: Smooth
    run_us: float
    traced_us: float

    def nodes_us(self, nodes: Sequence[Node], streamed_bytes: int) -> Floats:
        """(n,) microseconds of operators in an untraced run.

        Args:
            streamed_bytes: weights that a run reads, see `RunGraph.streamed_bytes`.
        """
        found = self._traced_us(nodes, streamed_bytes) - self.traced_us
        least: Floats = np.maximum(found, 0.05)
        return least

    def total_us(self, nodes: Sequence[Node], streamed_bytes: int) -> float:
        """Microseconds of a run."""
        return self.run_us + float(self.nodes_us(nodes, streamed_bytes).sum())

    def knows(self, kind: str) -> bool:
        """Whether a kind was measured often enough to be told apart, or its like on elements of another size was."""
        return self._known(kind) is not None

    def _known(self, kind: str) -> str | None:
        """A kind that was measured, or the same on elements of four bytes."""
        plain = _OTHER_BYTES.sub("", kind)
        return kind if kind in self.kinds else plain if plain in self.kinds and not is_heavy(kind) else None

    def _traced_us(self, nodes: Sequence[Node], streamed_bytes: int) -> Floats:
        found = np.empty(len(nodes))
        places: dict[str, list[int]] = collections.defaultdict(list)
        for place, (kind, _) in enumerate(nodes):
            places[kind].append(place)
        for kind, where in places.items():
            rows = [nodes[place][1] for place in where]
            found[where] = self._kind_us(kind, rows, streamed_bytes)
        return found

    def _kind_us(self, kind: str, rows: Sequence[tuple[float, ...]], streamed_bytes: int) -> Floats:
        known = self._known(kind)
        if known is None:
            logs = self._unknown_logs(kind, rows)
        else:
            kind = known
            logs = _expected(kind, rows, self.any_light)
            sizes = _sizes(kind, rows, [streamed_bytes] * len(rows))
            logs = logs + self.kinds[kind](sizes)
        found: Floats = np.exp(logs) * self.smears.get(kind, 1.0)
        return found

    def _unknown_logs(self, kind: str, rows: Sequence[tuple[float, ...]]) -> Floats:
        """Of a kind that was not measured: at the rate of large products, or as any operator of its elements."""
        expected = _expected(kind, rows, self.any_light)
        if not is_heavy(kind):
            return expected
        rates = [smooth.line[0] for name, smooth in self.kinds.items() if is_heavy(name)]
        found: Floats = np.maximum(expected + (float(np.median(rates)) if rates else 0.0), 0.0)
        return found


def fit_costs(measured: Sequence[Measured], like: Costs | None = None) -> Costs:
    """Fit to probes.

    Args:
        like: whose scales of sizes serve again.
    """
    rows: dict[str, list[tuple[float, ...]]] = collections.defaultdict(list)
    streamed: dict[str, list[int]] = collections.defaultdict(list)
    times: dict[str, list[float]] = collections.defaultdict(list)
    for one in measured:
        for kind, sizes, us in one.nodes:
            rows[kind].append(sizes)
            streamed[kind].append(one.streamed_bytes)
            times[kind].append(max(us, 0.5))
    light = [kind for kind in rows if not is_heavy(kind)]
    any_light = fit_smooth(
        np.concatenate([_elements(rows[kind]) for kind in light] or [np.zeros((0, 1))]),
        np.log([us for kind in light for us in times[kind]]),
        like=like.any_light if like else None,
    )
    kinds, smears = {}, {}
    for kind, own in rows.items():
        if len(own) < _LEAST:
            continue
        logs = np.log(times[kind])
        logs = logs - _expected(kind, own, any_light)
        smooth = fit_undisturbed(_sizes(kind, own, streamed[kind]), logs, like=like.kinds.get(kind) if like else None)
        kinds[kind] = smooth
        deviation = min(float(np.sqrt(np.mean(np.clip(smooth.left_out, -1, 1) ** 2))), _SMEARED)
        smears[kind] = math.exp(deviation**2 / 2)
    costs = Costs(kinds, smears, any_light, 0.0, 0.0)
    run_us, traced_us = _overheads(measured)
    return dataclasses.replace(costs, run_us=run_us, traced_us=traced_us)


def _elements(rows: Sequence[tuple[float, ...]]) -> Floats:
    return np.array([[row[0] if row else 0.0] for row in rows], np.float64).reshape(-1, 1)


def _sizes(kind: str, rows: Sequence[tuple[float, ...]], streamed: Sequence[int]) -> Floats:
    """(n, d) sizes of a kind. What multiplies stored weights has the bytes of all of them too: they share the cache."""
    found = np.array(rows, np.float64).reshape(len(rows), -1)
    if not is_heavy(kind) or "computed" in kind:
        return found
    megabytes = np.array([[math.log2(1 + min(n_bytes, _MOST_CACHED) / _MEGABYTE)] for n_bytes in streamed])
    return np.hstack([found, megabytes])


def _expected(kind: str, rows: Sequence[tuple[float, ...]], any_light: Smooth) -> Floats:
    """(n,) logarithms that a kind is fitted about: its products at a rate of one, else any operator of its elements."""
    if is_heavy(kind):
        return math.log(2) * np.array([row[-1] if row else 0.0 for row in rows], np.float64)
    elements = _elements(rows)
    return any_light(elements) + math.log(2) * any_light.beyond(elements)


def _overheads(measured: Sequence[Measured]) -> tuple[float, float]:
    """What a run costs beside its operators, and what tracing adds to each: run = first + sum(traced - second).

    Fitted to relative errors, without the probes that were disturbed between the two measurements.
    """
    n_nodes = np.array([len(one.nodes) for one in measured], np.float64)
    rest = np.array([one.run_us - sum(us for _, _, us in one.nodes) for one in measured])
    weight = 1 / np.array([one.run_us for one in measured])
    run_us, traced_us = 5.0, 2.0
    for _ in range(10):
        off = np.abs(rest - run_us + traced_us * n_nodes) * weight
        kept = off <= max(float(np.median(off)) * 3, 1e-3)
        design = np.stack([np.ones(kept.sum()), -n_nodes[kept]], axis=1) * weight[kept, None]
        run_us, traced_us = np.maximum(np.linalg.lstsq(design, rest[kept] * weight[kept], rcond=None)[0], 0.0).tolist()
    return run_us, traced_us


def run_errors(measured: Sequence[Measured], costs: Costs) -> Floats:
    """(n,) logarithms of measured over predicted runs, each predicted from probes of the other folds.

    Args:
        costs: fitted to all of them, whose scales of sizes serve again.
    """
    found = np.empty(len(measured))
    for fold in range(_FOLDS):
        others = fit_costs([one for place, one in enumerate(measured) if place % _FOLDS != fold], costs)
        for place in range(fold, len(measured), _FOLDS):
            one = measured[place]
            total = others.total_us([(kind, sizes) for kind, sizes, _ in one.nodes], one.streamed_bytes)
            found[place] = math.log(one.run_us / total)
    return found
