"""Sums and norms in one operator, taken apart before channels are followed.

A sum ends a branch, and the norm behind it may begin the next one: as one operator they would stand in one block, and a
pre-norm model that onnxruntime's optimizer wrote would have other blocks than its original. Specifications:
onnxruntime's docs/ContribOperators.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.graph.flat import FlatGraph, Op, Tensor
from onnx_ghn.inheritance.fields import Shape

__all__ = ["Unfused", "unfused"]

_DOMAIN = "com.microsoft"
_PRODUCTS = frozenset({"MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulNBits"})


@dataclasses.dataclass(frozen=True)
class Unfused:
    """A model whose fused sums and norms are plain operators.

    Attributes:
        flat: its operators.
        constants: whole numbers that plain operators need and that the model does not store.
    """

    flat: FlatGraph
    constants: Mapping[Tensor, Array]


def unfused(flat: FlatGraph, free: Mapping[str, Shape]) -> Unfused:
    """Take SkipLayerNormalization, SkipSimplifiedLayerNormalization and EmbedLayerNormalization apart.

    Args:
        flat: from which a graph was read. Its values get other producers and consumers.
        free: sizes of the inputs.
    """
    constants: dict[Tensor, Array] = {}
    ops: list[Op] = []
    for op in flat.ops:
        parts = _Parts(op, free, constants)
        rule = _RULES.get(op.op_type) if op.domain == _DOMAIN else None
        if rule is None or not rule(parts, op):
            ops.append(op)
            continue
        for given in op.inputs:
            if given is not None:
                given.consumers[:] = [other for other in given.consumers if other is not op]
        ops += parts.made()
    return Unfused(dataclasses.replace(flat, ops=ops), constants)


class _Parts:
    """The plain operators in the place of a fused one."""

    def __init__(self, op: Op, free: Mapping[str, Shape], constants: dict[Tensor, Array]) -> None:
        self._op = op
        self._free = free
        self._constants = constants
        self._planned: list[tuple[str, list[Tensor | None], Tensor]] = []

    def one(self, op_type: str, *inputs: Tensor | None, out: Tensor | None = None) -> Tensor:
        """Add an operator that gives one value, be it one of the model's."""
        is_const = all(tensor is None or tensor.is_const for tensor in inputs)
        given = out or Tensor(f"{self._op.name} {op_type} {len(self._planned)}", is_const=is_const)
        self._planned.append((op_type, list(inputs), given))
        return given

    def output(self, index: int) -> Tensor | None:
        """An output of the fused operator; None where nothing reads it."""
        return self._op.outputs[index] if index < len(self._op.outputs) else None

    def length(self, ids: Tensor) -> int | None:
        """The size of the last axis of some ids."""
        shape = self._free.get(ids.name) or ids.shape
        return shape[-1] if shape else None

    def numbers(self, count: int) -> Tensor:
        """0 to count - 1, 1-D."""
        tensor = Tensor(f"{self._op.name} positions", (count,), "INT64", is_const=True)
        self._constants[tensor] = np.arange(count)
        return tensor

    def made(self) -> list[Op]:
        """The operators, in order."""
        return [Op(op_type, "", self._op.name, inputs, [out], {}) for op_type, inputs, out in self._planned]


def _skip_norm(parts: _Parts, op: Op) -> bool:
    is_plain = op.op_type.startswith("SkipSimplified")
    one, other = op.input(0), op.input(1)
    if one is None or other is None:
        return False
    bias = op.input(3 if is_plain else 4)
    if bias is not None:  # of the layer before: it is added there, where that is seen
        if _is_product(other):
            other = parts.one("Add", other, bias)
        else:
            one = parts.one("Add", one, bias)
    summed = parts.one("Add", one, other, out=parts.output(3))
    scale, shift = op.input(2), None if is_plain else op.input(3)
    norm = "SimplifiedLayerNormalization" if is_plain else "LayerNormalization"
    parts.one(norm, summed, scale, *([] if is_plain else [shift]), out=op.outputs[0])
    return True


def _is_product(tensor: Tensor) -> bool:
    return tensor.producer is not None and tensor.producer.op_type in _PRODUCTS


def _embedding_norm(parts: _Parts, op: Op) -> bool:
    """BERT's sum of two or three tables, and its norm."""
    ids, segments, words, places, kinds, scale, shift = (op.input(index) for index in range(7))
    if ids is None or words is None or places is None:
        return False
    given = op.input(8)
    if given is None:
        length = parts.length(ids)
        if length is None:
            return False
        given = parts.numbers(length)
    value = parts.one("Gather", words, ids)
    if segments is not None and kinds is not None:
        value = parts.one("Add", value, parts.one("Gather", kinds, segments))
    summed = parts.one("Add", value, parts.one("Gather", places, given), out=parts.output(2))
    parts.one("LayerNormalization", summed, scale, shift, out=op.outputs[0])
    return True


_RULES: dict[str, Callable[[_Parts, Op], bool]] = {
    "EmbedLayerNormalization": _embedding_norm,
    "SkipLayerNormalization": _skip_norm,
    "SkipSimplifiedLayerNormalization": _skip_norm,
}
