"""Peak memory of a run: what lives at once in the order of execution, and what a session adds to its weights."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from onnx_ghn.profiling.counts import VIEWS
from onnx_ghn.properties.machine.regression import Floats
from onnx_ghn.properties.machine.running import PRODUCTS, RunGraph, RunNode, Value

__all__ = ["PARTS", "MemoryCosts", "MemoryMeasured", "fit_memory", "live_bytes", "memory_parts"]

_ALIGNMENT = 256  # of the arena's blocks
#: Operators that write their output over an input of the same size that nobody reads any more.
_IN_PLACE = frozenset({"Add", "Sub", "Mul", "Div", "Sum", "Max", "Min", "Where", "Cast", "Not", "BatchNormalization"})
_IN_PLACE |= {"Relu", "Clip", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Selu", "HardSigmoid", "HardSwish", "Softplus"}
_IN_PLACE |= {"Erf", "Exp", "Log", "Sqrt", "Abs", "Neg", "Reciprocal", "Softmax", "LogSoftmax"}
_IN_PLACE |= {"Gelu", "QuickGelu", "FastGelu", "BiasGelu"}
#: What `memory_parts` tells.
PARTS = ("session", "pointwise", "convolved", "packed", "other", "live", "nodes")


@dataclasses.dataclass(frozen=True)
class MemoryMeasured:
    """A session that was measured in a process of its own.

    Attributes:
        parts: of its graph, see `memory_parts`.
        baseline_bytes: of the process before the session.
        peak_bytes: of the process at the end.
    """

    parts: Mapping[str, float]
    baseline_bytes: int
    peak_bytes: int


@dataclasses.dataclass(frozen=True)
class MemoryCosts:
    """Bytes of a process over what is known of its session.

    Attributes:
        baseline_bytes: of a process that measures, before it has a session.
        factors: by part, bytes of the process for a byte of it.
        deviation: of the logarithm of measured over predicted bytes above the baseline: nine of ten sessions that were
            left out lie within.
    """

    baseline_bytes: float
    factors: Mapping[str, float]
    deviation: float

    def peak_bytes(self, graph: RunGraph) -> float:
        """Of a process that runs a graph."""
        parts = memory_parts(graph)
        return self.baseline_bytes + sum(self.factors[name] * parts[name] for name in PARTS)

    def interval(self, peak_bytes: float) -> tuple[float, float]:
        """The ends of what holds nine of ten sessions like the measured ones."""
        own, factor = peak_bytes - self.baseline_bytes, math.exp(self.deviation)
        return self.baseline_bytes + own / factor, self.baseline_bytes + own * factor


def memory_parts(graph: RunGraph) -> dict[str, float]:
    """Bytes that a session's memory is made of, by `PARTS`: a session that does nothing, weights by what becomes of
    them, values that live at once, and a kilobyte a node.

    Weights of convolutions are laid out anew while a session is made, those of larger kernels with a transformation;
    a matrix that products read is packed into another copy.
    """
    stored: dict[str, str] = {}
    for node in graph.nodes:
        weight = node.inputs[1] if len(node.inputs) > 1 else None
        if weight is None or not weight.is_constant:
            continue
        if node.op_type in ("Conv", "FusedConv"):
            stored[weight.name] = "pointwise" if math.prod(weight.shape[2:]) == 1 else "convolved"
        elif node.op_type in PRODUCTS:
            stored[weight.name] = "packed"
    found = dict.fromkeys(PARTS, 0.0)
    for value in graph.constants:
        found[stored.get(value.name, "other")] += value.n_bytes
    found["live"] = live_bytes(graph)
    found["session"], found["nodes"] = 2.0**20, 1024.0 * len(graph.nodes)
    return found


def live_bytes(graph: RunGraph) -> int:
    """The most bytes of values that live at once: from the node that makes a value to the last that reads it.

    Views share the memory of what they show; an operator that may writes over its input. Inputs are the caller's.
    """
    blocks: dict[str, str] = {}  # a value's memory, by the name of the value that it was made for
    readers = _readers(graph, blocks)
    sizes: dict[str, int] = {}
    now = most = 0
    for node in graph.nodes:
        made = [value for value in node.outputs if value is not None]
        for value in made:
            if blocks[value.name] == value.name:
                sizes[value.name] = -(-value.n_bytes // _ALIGNMENT) * _ALIGNMENT
                now += sizes[value.name]
        most = max(most, now)
        gone = [value.name for value in node.inputs if value is not None]
        gone += [value.name for value in made if not readers[blocks[value.name]]]
        for name in gone:
            block = blocks.get(name)
            if block is None:
                continue
            readers[block] -= 1
            if readers[block] <= 0 and block in sizes:
                now -= sizes.pop(block)
    return most


def _readers(graph: RunGraph, blocks: dict[str, str]) -> dict[str, int]:
    """Number of reads of each block; fills in which block each value is in. What a run gives is read for ever."""
    reads = collections.Counter(value.name for node in graph.nodes for value in node.inputs if value is not None)
    for name in graph.outputs:
        reads[name] += 1
    left = dict(reads)
    found: dict[str, int] = collections.defaultdict(int)
    for node in graph.nodes:
        shared = _shared(node, blocks, left)
        for value in node.inputs:
            if value is not None:
                left[value.name] -= 1
        for place, value in enumerate(node.outputs):
            if value is None:
                continue
            own = value.name if place or shared is None else blocks[shared.name]
            blocks[value.name] = own
            found[own] += reads[value.name]
    return found


def _shared(node: RunNode, blocks: dict[str, str], left: dict[str, int]) -> Value | None:
    """The input whose memory the first output takes, if any."""
    y = node.outputs[0] if node.outputs else None
    if y is None:
        return None
    if node.op_type in VIEWS and node.op_type not in ("Shape", "Size"):
        x = node.inputs[0]
        return x if x is not None and x.name in blocks else None
    candidates: Sequence[Value | None] = node.inputs[:2] if node.op_type in _IN_PLACE else ()
    if node.domain.endswith("nchwc") and node.op_type == "Conv" and len(node.inputs) > 3:
        candidates = node.inputs[3:4]  # the sum that it takes in
    for x in candidates:
        if x is not None and x.name in blocks and left[x.name] == 1 and x.n_bytes == y.n_bytes:
            return x
    return None


def fit_memory(measured: Sequence[MemoryMeasured]) -> MemoryCosts:
    """Fit to sessions: least squares of relative errors, no part below nothing."""
    baseline = float(np.median([one.baseline_bytes for one in measured]))
    own = np.array([one.peak_bytes - one.baseline_bytes for one in measured], np.float64)
    weights = 1 / np.maximum(own, 2.0**20)
    design = np.array([[one.parts[name] for name in PARTS] for one in measured]) * weights[:, None]  # (n, parts)
    found = _non_negative(design, own * weights)
    errors = []
    for place in range(len(measured)):  # each by the others
        rest = np.arange(len(measured)) != place
        share = float(design[place] @ _non_negative(design[rest], (own * weights)[rest]))
        errors.append(abs(math.log(max(share, 1e-3) / (own * weights)[place])))
    deviation = float(np.quantile(errors, 0.9))
    return MemoryCosts(baseline, dict(zip(PARTS, found.tolist(), strict=True)), deviation)


def _non_negative(design: Floats, target: Floats) -> Floats:
    """Least squares without negative coefficients: those that would be are left out, worst first."""
    kept = list(range(design.shape[1]))
    while kept:
        solved = np.linalg.lstsq(design[:, kept], target, rcond=None)[0]
        if solved.min() >= 0:
            break
        kept.pop(int(solved.argmin()))
    found = np.zeros(design.shape[1])
    if kept:
        found[kept] = solved
    return found
