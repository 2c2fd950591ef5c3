"""A row for every stored tensor: what no operator's handler claimed is entered here, learned or not.

It is made from the edges of the graph, never from the table of operators: whatever reads a tensor, it has a row.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.graph.context import FLOAT_TYPES, QUANTISED_TYPES, BuildContext, numpy_name
from onnx_ghn.graph.flat import FlatGraph, Op, Tensor
from onnx_ghn.graph.layout import Layout
from onnx_ghn.graph.parameter import Parameter, Role
from onnx_ghn.graph.tables import HUGE, looks_constant

if TYPE_CHECKING:
    from onnx_ghn.onnx_io import StoredTensor
    from onnx_ghn.onnx_io.provenance import Provenance

__all__ = ["UNREACHED", "complete", "reached_tensors"]

#: Why a tensor has no part in what a model computes.
UNREACHED = "no path leads from it to an output"

_COMPLEX = frozenset({"COMPLEX64", "COMPLEX128"})
#: Operators whose output has nothing of their input but its sizes.
_SIZES = frozenset({"Shape", "Size"})
#: (operator, inputs) that are settings: sizes, bounds, thresholds, fills.
_SETTINGS: Mapping[str, frozenset[int]] = {
    "Clip": frozenset({1, 2}),
    "Resize": frozenset({1, 2, 3}),
    "Upsample": frozenset({1}),
    "Pad": frozenset({1, 2}),
    "OneHot": frozenset({1, 2}),
    "NonMaxSuppression": frozenset({2, 3, 4}),
    "Dropout": frozenset({1, 2}),
    "Range": frozenset({0, 1, 2}),
    "Reshape": frozenset({1}),
    "Expand": frozenset({1}),
    "Tile": frozenset({1}),
    "CastLike": frozenset({1}),
    "QuantizeLinear": frozenset({1, 2}),
    "DequantizeLinear": frozenset({1, 2}),
    "Quant": frozenset({1, 2, 3}),
    "IntQuant": frozenset({1, 2, 3}),
    "BipolarQuant": frozenset({1}),
    "RotaryEmbedding": frozenset({1, 2, 3}),
    "GroupQueryAttention": frozenset({5, 6, 7, 8}),  # lengths, and cosines and sines of positions
    "SparseAttention": frozenset({5, 6, 7, 8, 9, 10}),
    "PagedAttention": frozenset({5, 6, 7, 8, 9}),
    "STFT": frozenset({1, 2, 3}),
    "MelWeightMatrix": frozenset(range(5)),
}


@dataclasses.dataclass(frozen=True)
class _Use:
    """Where a stored tensor, or a value computed from constants alone, meets the data."""

    op: Op | None  # None: it is an output of the graph
    index: int = 0


def reached_tensors(flat: FlatGraph) -> set[str]:
    """Stored names of the tensors on whose values an output depends."""
    before: dict[Tensor, list[Tensor]] = {}
    for source, target in flat.links:
        before.setdefault(target, []).append(source)
    pending: list[Tensor] = list(flat.outputs)
    seen: set[Tensor] = set(pending)
    while pending:
        tensor = pending.pop()
        op = tensor.producer
        needed: list[Tensor | None] = list(before.get(tensor, ()))
        if op is not None and op.op_type not in _SIZES:
            needed += op.inputs
        for each in needed:
            if each is not None and each not in seen:
                seen.add(each)
                pending.append(each)
    return {name for name, tensor in flat.stored.items() if tensor in seen}


def complete(
    ctx: BuildContext, stored: Mapping[str, StoredTensor], known: Provenance, reached: Collection[str]
) -> None:
    """Enter every stored tensor that has no row yet.

    Args:
        stored: all tensors of the model.
        known: what the file says of them.
        reached: those on whose values an output depends.
    """
    scales = {
        name: f"belongs to the quantised {p.name}, and is written with it"
        for p in ctx.parameters.values()
        for name in (p.scale_name, p.zero_point_name)
        if name is not None
    }
    scales |= dict.fromkeys(ctx.scales_of_integers - scales.keys(), "the scale of quantised weights, or of their data")
    met = _Uses()
    for name, tensor in stored.items():
        if name in ctx.parameters:
            continue
        flat = ctx.flat.stored.get(name)
        reason = scales.get(name) or known.made.get(name) or ""
        if not reason and (flat is None or name not in reached):
            reason = UNREACHED
        uses = [] if reason or flat is None else met.of(flat)
        if not reason and flat is not None and name not in known.learned:
            reason = _why_constant(tensor, flat, uses)
        row = _row(tensor, uses, reason, certain=name in known.learned)
        ctx.account(dataclasses.replace(row, repeated=known.repeated.get(name, 0)))


def _row(tensor: StoredTensor, uses: list[_Use], constant: str, *, certain: bool) -> Parameter:
    """The row of a tensor: a constant for the reason that is given, else what is learned, or may be."""
    op = next((use.op.op_type for use in uses if use.op is not None), "")
    if constant:
        role, reason = Role.constant, constant
    else:
        reader = "a body of Loop, Scan or If" if op == "Join" else op or "an output"
        role, reason = Role.other, f"no primitive stands for what {reader} makes of it"
    return Parameter(
        name=tensor.name,
        role=role,
        layout=Layout(tuple(tensor.shape)),
        dtype=numpy_name(tensor.dtype.name),
        storage=tensor.kind,
        op=op,
        reason=reason,
        uncertain=not constant and not certain,
    )


class _Uses:
    """Where tensors meet the data, through arithmetic on constants. What lies behind a value is looked up once."""

    def __init__(self) -> None:
        self._known: dict[Tensor, dict[_Use, None]] = {}

    def of(self, tensor: Tensor) -> list[_Use]:
        """The uses of a tensor; without any, it is an output."""
        pending = [tensor]
        while pending:  # depth first without recursion: constant arithmetic can be thousands of operators deep
            value = pending[-1]
            if value in self._known:
                pending.pop()
                continue
            behind = [output for op in value.consumers if _is_constant(op) for output in op.outputs]
            if unknown := [output for output in behind if output not in self._known]:
                pending.extend(unknown)
                continue
            found = {
                _Use(op, index): None
                for op in value.consumers
                if not _is_constant(op)
                for index, given in enumerate(op.inputs)
                if given is value
            }
            for output in behind:
                found.update(self._known[output])
            self._known[value] = found
            pending.pop()
        return list(self._known[tensor]) or [_Use(None)]


def _is_constant(op: Op) -> bool:
    return bool(op.outputs) and all(output.is_const for output in op.outputs)


def _why_constant(stored: StoredTensor, tensor: Tensor, uses: list[_Use]) -> str:
    """Why a tensor is no parameter; empty where nothing tells."""
    size = math.prod(stored.shape)
    if size == 0:
        return "it is empty"
    if stored.is_string:
        return "strings"
    if tensor.dtype not in FLOAT_TYPES | _COMPLEX | QUANTISED_TYPES:
        return "whole numbers or truth values: indices, shapes or counts"
    if tensor.dtype in QUANTISED_TYPES and size == 1:
        return "one whole number"
    if all(use.op is not None and use.index in _SETTINGS.get(use.op.op_type, ()) for use in uses):
        return f"a setting of {uses[0].op.op_type if uses[0].op is not None else 'an operator'}"
    if size == 1 and stored.kind not in ("initializer", "input_default"):
        return "one number that a node of the model makes"
    if tensor.dtype in FLOAT_TYPES and size == 1 and _is_bound(stored):
        return "a bound: infinity, no number, or one beyond what is trained"
    if tensor.dtype in FLOAT_TYPES and size > 1 and not stored.is_sparse and looks_constant(tensor):
        return "a mask or a grid: infinite entries, or multiples of one half"
    return ""


def _is_bound(stored: StoredTensor) -> bool:
    """Whether a single number is what a maximum starts from, or what a mask is filled with."""
    if stored.is_absent or stored.is_sparse:
        return False
    number = float(stored.numpy().astype(np.float64).reshape(()))
    return not abs(number) < HUGE
