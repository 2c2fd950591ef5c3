"""Operators of a run: times from the trace, work from shapes, and what the machine could do in between."""

from __future__ import annotations

import collections
import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from onnx_ghn.profiling import counts
from onnx_ghn.profiling.fused import FusedNode, Stored
from onnx_ghn.profiling.report import Machine, Operator, OperatorProfile
from onnx_ghn.profiling.trace import NodeTimes, RunTrace, Typed

__all__ = ["measured_operators", "static_operators"]

_Scope = tuple[tuple[str, str], ...]
Shape = tuple[int, ...]
Tensor = tuple[Shape | None, int]  # shape, bytes of an element
# The trace names types as C++ does.
_TRACE_BYTES = {"float": 4, "double": 8, "int64": 8, "uint64": 8, "int32": 4, "uint32": 4, "int16": 2, "uint16": 2}
_TRACE_BYTES |= {"float16": 2, "bfloat16": 2, "int8": 1, "uint8": 1, "bool": 1}


def measured_operators(trace: RunTrace, nodes: Sequence[FusedNode], machine: Machine | None) -> OperatorProfile:
    """Operators as they ran. Of nodes that onnxruntime made after it wrote its graph, only the trace is known."""
    by_name: dict[tuple[str, str], list[FusedNode]] = collections.defaultdict(list)
    for node in nodes:
        by_name[node.name, node.op_type].append(node)
    rows = []
    for times in trace.nodes:
        matching = by_name.get((times.name, times.op_type), [])
        if (
            not matching and times.name == f"{times.op_type}_{times.index}"
        ):  # what the trace calls a node without a name
            matching = by_name.get(("", times.op_type), [])
        node = matching.pop(0) if matching else _stand_in(times)
        rows.append(_Row(node, _calls(node, times, len(trace.runs_us)), times))
    return _profile(rows, machine, trace.runs_us)


def static_operators(
    nodes: Sequence[FusedNode],
    shapes: Mapping[str, tuple[Shape, int]],
    machine: Machine | None,
    provider: str,
    turns: Mapping[_Scope, int | None],
) -> OperatorProfile:
    """Operators that have not run: without times, and with the rest from inferred shapes.

    Args:
        turns: of each body of a Loop, If or Scan; where only a run tells them, its operators have no figures.
    """
    rows = []
    for node in nodes:
        inputs = [_static(name, stored, shapes) for name, stored in zip(node.inputs, node.stored, strict=True)]
        outputs = [_static(name, None, shapes) for name in node.outputs if name]
        rows.append(_Row(node, [_Call(inputs, outputs, turns.get(node.scope, 1))], None, provider))
    return _profile(rows, machine, [])


@dataclasses.dataclass
class _Call:
    """Calls of a node at the same shapes."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    per_run: float | None  # None: only a run tells


def _calls(node: FusedNode, times: NodeTimes, n_runs: int) -> list[_Call]:
    found = []
    for (inputs, outputs), n_calls in times.shapes.items():
        given: list[Tensor] = [(shape, _TRACE_BYTES.get(kind, 4)) for kind, shape in outputs]
        found.append(_Call(_aligned(node, inputs), given, n_calls / n_runs))
    return found


class _Row:
    """What the figures of an operator are computed from."""

    def __init__(self, node: FusedNode, calls: list[_Call], times: NodeTimes | None, provider: str = "") -> None:
        self.node, self.calls, self.times = node, calls, times
        self.provider = times.provider if times is not None else provider
        stored = list(node.stored)
        if node.weight is not None:
            stored = self._unpad(node.weight, stored)
        self.stored = [entry for entry in stored if entry is not None and entry.is_parameter]

    def _unpad(self, weight: Stored, stored: list[Stored | None]) -> list[Stored | None]:
        """Channels as the file has them: of weight, bias, first input and output."""
        n_out, n_in = weight.shape[0], weight.shape[1] * self.node.attributes.get("group", 1)
        for call in self.calls:
            call.outputs = [_with_channels(entry, n_out) for entry in call.outputs]
            call.inputs = [_with_channels(call.inputs[0], n_in), (weight.shape, call.inputs[1][1]), *call.inputs[2:]]
            if len(stored) > 2 and stored[2] is not None:
                call.inputs[2] = (n_out,), call.inputs[2][1]
            if len(call.inputs) > 3:  # the sum that the convolution takes in
                call.inputs[3] = _with_channels(call.inputs[3], n_out)
        found: list[Stored | None] = [stored[0], weight, *stored[2:]]
        if len(found) > 2 and found[2] is not None:
            found[2] = dataclasses.replace(found[2], shape=(n_out,), n_elements=n_out)
        return found


def _profile(rows: Sequence[_Row], machine: Machine | None, runs_us: Sequence[float]) -> OperatorProfile:
    stored = {entry.name: entry for row in rows for entry in row.stored}
    parameter_bytes = sum(entry.n_bytes for entry in stored.values())
    run_ms = statistics.fmean(runs_us) / 1e3 if runs_us else None
    series = [row.times.runs_us for row in rows if row.times is not None]
    p50_ms = sum(statistics.median(values) for values in series) / 1e3 if runs_us else None
    mean_ms = sum(statistics.fmean(values) for values in series) / 1e3 if runs_us else None
    on_device = [row.times.device_us for row in rows if row.times is not None and row.times.device_us is not None]
    device_ms = sum(statistics.fmean(values) for values in on_device) / 1e3 if runs_us and on_device else None
    shared_ms = sum(statistics.median(values) for values in on_device) / 1e3 if device_ms is not None else p50_ms
    found = tuple(_operator(row, machine, parameter_bytes, shared_ms, len(runs_us)) for row in rows)
    return OperatorProfile(
        operators=found,
        repetitions=len(runs_us),
        run_ms=run_ms,
        operators_ms=mean_ms,
        operators_p50_ms=p50_ms,
        coverage=mean_ms / run_ms if mean_ms is not None and run_ms else None,
        device_ms=device_ms,
        device_coverage=device_ms / run_ms if device_ms is not None and run_ms else None,
        macs=sum(operator.macs or 0 for operator in found),
        flops=sum(operator.flops or 0 for operator in found),
        parameters=sum(entry.n_elements for entry in stored.values()),
        parameter_bytes=parameter_bytes,
        bytes=sum(operator.bytes or 0 for operator in found),
        estimate_ms=None if machine is None else sum(operator.estimate_ms or 0.0 for operator in found),
        unknown=sum(operator.macs is None or operator.bytes is None for operator in found),
    )


def _operator(row: _Row, machine: Machine | None, model_bytes: int, total_ms: float | None, n_runs: int) -> Operator:
    node, times = row.node, row.times
    # Counts are of a run: a node of a loop's body works several times, and what it works on may grow.
    n_calls = None if times is None else times.calls / n_runs
    dispatched = row.calls[0].per_run or 0 if times is None else times.calls / n_runs
    macs, flops, moved = (_total(row, count) for count in (_macs, _flops, _moved))
    output_shape = row.calls[-1].outputs[0][0] if row.calls and row.calls[-1].outputs else None
    runs_ms = None if times is None else [value / 1e3 for value in times.runs_us]
    p50_ms = None if runs_ms is None else statistics.median(runs_ms)
    device_us = None if times is None else times.device_us
    device_p50_ms = None if device_us is None else statistics.median(device_us) / 1e3
    shared_ms = p50_ms if device_p50_ms is None else device_p50_ms
    return Operator(
        name=node.name,
        op_type=node.op_type,
        domain=node.domain,
        provider=row.provider,
        covers=tuple(entry.name or entry.output[0] for entry in node.covers),
        fused="+".join(entry.op_type for entry in node.covers) or node.op_type,
        output_shape=output_shape,
        calls=n_calls,
        p50_ms=p50_ms,
        p10_ms=None if runs_ms is None else float(np.percentile(runs_ms, 10)),
        p90_ms=None if runs_ms is None else float(np.percentile(runs_ms, 90)),
        mean_ms=None if runs_ms is None else statistics.fmean(runs_ms),
        std_ms=None if runs_ms is None else statistics.stdev(runs_ms) if len(runs_ms) > 1 else 0.0,
        device_p50_ms=device_p50_ms,
        device_mean_ms=None if device_us is None else statistics.fmean(device_us) / 1e3,
        share=None if shared_ms is None or not total_ms else shared_ms / total_ms,
        macs=macs,
        flops=flops,
        parameters=sum(entry.n_elements for entry in row.stored),
        parameter_bytes=sum(entry.n_bytes for entry in row.stored),
        bytes=moved,
        intensity=flops / moved if flops is not None and moved else None,
        estimate_ms=None if machine is None else _estimate_ms(machine, flops, moved, model_bytes, dispatched),
    )


def _estimate_ms(
    machine: Machine, flops: int | None, moved: int | None, model_bytes: int, calls: float
) -> float | None:
    """The roofline (Williams, Waterman and Patterson, CACM 52(4), 2009), plus the dispatch.

    Where the whole model fits in the last level of cache, its weights are still there at the next run, and what moves
    moves at the cache's speed.
    """
    if flops is None or moved is None:
        return None
    cached = model_bytes + moved < machine.last_level_cache_bytes
    bandwidth = machine.cache_bytes_per_s if cached else machine.memory_bytes_per_s
    return max(flops / machine.peak_flops, moved / bandwidth) * 1e3 + calls * machine.dispatch_us / 1e3


def _with_channels(entry: Tensor, n_channels: int) -> Tensor:
    shape, size = entry
    return (None if shape is None else (shape[0], n_channels, *shape[2:])), size


def _total(row: _Row, count: Callable[[FusedNode, _Call], int | None]) -> int | None:
    """The sum over the calls of a run; None if one of them is unknown."""
    found = [(count(row.node, call), call.per_run) for call in row.calls]
    if any(one is None or per_run is None for one, per_run in found):
        return None
    return round(sum((one or 0) * (per_run or 0) for one, per_run in found))


def _macs(node: FusedNode, call: _Call) -> int | None:
    shapes = ([shape for shape, _ in entries] for entries in (call.inputs, call.outputs))
    return counts.macs(node.op_type, node.attributes, *shapes)


def _flops(node: FusedNode, call: _Call) -> int | None:
    shapes = ([shape for shape, _ in entries] for entries in (call.inputs, call.outputs))
    return counts.flops(node.op_type, _macs(node, call), *shapes)


def _moved(node: FusedNode, call: _Call) -> int | None:
    """Of the inputs that are present; an empty name stands for an absent one."""
    present = call.inputs
    if node.inputs:
        present = [entry for name, entry in zip(node.inputs, call.inputs, strict=True) if name]
    return counts.moved_bytes(node.op_type, present, call.outputs)


def _aligned(node: FusedNode, given: Typed) -> list[Tensor]:
    """The trace's shapes by input: it leaves out absent inputs, and weights that were packed at the session's start."""
    if not node.inputs:
        return [(shape, _TRACE_BYTES.get(kind, 4)) for kind, shape in given]
    found: list[Tensor] = []
    left = list(given)
    n_fed = sum(bool(name) and stored is None for name, stored in zip(node.inputs, node.stored, strict=True))
    for name, stored in zip(node.inputs, node.stored, strict=True):
        if stored is not None:
            if len(left) > n_fed and left[0][1] == stored.shape:
                left.pop(0)
            found.append((stored.shape, _element_bytes(stored)))
        elif name and left:
            kind, shape = left.pop(0)
            found.append((shape, _TRACE_BYTES.get(kind, 4)))
            n_fed -= 1
        else:
            found.append((None, 0))
    return found


def _element_bytes(stored: Stored) -> int:
    return int(helper.tensor_dtype_to_np_dtype(stored.element_type).itemsize)


def _static(name: str, stored: Stored | None, shapes: Mapping[str, tuple[Shape, int]]) -> Tensor:
    if stored is not None:
        return stored.shape, _element_bytes(stored)
    if name not in shapes:
        return None, 0
    shape, kind = shapes[name]
    return shape, 1 if kind == TensorProto.STRING else int(helper.tensor_dtype_to_np_dtype(kind).itemsize)


def _stand_in(times: NodeTimes) -> FusedNode:
    attributes: dict[str, Any] = {}
    return FusedNode(times.name, times.op_type, "", attributes, [], [], [], [])
