"""Fused operators, each followed as the plain ones that it stands for: attention, rotary positions, products with
activations.

onnxruntime's optimizer writes those of com.microsoft, exporters of opset 23 and later write Attention and
RotaryEmbedding. The specifications: https://onnx.ai/onnx/operators and onnxruntime's docs/ContribOperators.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from onnx_ghn.errors import GraphError
from onnx_ghn.graph.flat import Op, Tensor
from onnx_ghn.inheritance.elementwise import ELEMENTWISE
from onnx_ghn.inheritance.normalisation import NORMALISATIONS
from onnx_ghn.inheritance.pieces import PIECES
from onnx_ghn.inheritance.products import PRODUCTS
from onnx_ghn.inheritance.scores import carry
from onnx_ghn.inheritance.sizes import float_attr
from onnx_ghn.inheritance.tracing import Trace
from onnx_ghn.inheritance.views import VIEWS

__all__ = ["FUSED", "Ways", "product_of_data"]

Rule = Callable[[Trace, Op], None]

_RULES: dict[str, Rule] = {**ELEMENTWISE, **NORMALISATIONS, **VIEWS, **PIECES, **PRODUCTS}


class _Plain:
    """Plain operators in the place of a fused one, which are followed as they are added."""

    def __init__(self, trace: Trace, op: Op) -> None:
        self.trace = trace
        self._name = op.name

    def ints(self, *numbers: int) -> Tensor:
        """A constant of whole numbers, 1-D."""
        tensor = Tensor(f"{self._name} {numbers}", (len(numbers),), is_const=True)
        self.trace.shapes[tensor] = (len(numbers),)
        self.trace.values[tensor] = np.array(numbers, np.int64)
        return tensor

    def number(self, number: float) -> Tensor:
        """A constant of one number."""
        tensor = Tensor(f"{self._name} {number}", (), is_const=True)
        self.trace.shapes[tensor] = ()
        self.trace.values[tensor] = np.array(number, np.float32)
        return tensor

    def _all(
        self, op_type: str, inputs: Sequence[Tensor | None], n_outputs: int, attributes: Mapping[str, int | list[int]]
    ) -> list[Tensor]:
        import onnx_ir as ir

        is_const = all(tensor is None or tensor.is_const for tensor in inputs)
        made = [Tensor(f"{self._name} {op_type} {i}", is_const=is_const) for i in range(n_outputs)]
        given = {
            name: ir.AttrInt64(name, value) if isinstance(value, int) else ir.AttrInt64s(name, value)
            for name, value in attributes.items()
        }
        plain = Op(op_type, "", self._name, [], made, given)
        plain.inputs = list(inputs)  # set afterwards: the values of the model do not learn of this consumer
        _RULES[op_type](self.trace, plain)
        carry(self.trace, plain)
        return made

    def one(self, op_type: str, *inputs: Tensor | None, **attributes: int | list[int]) -> Tensor:
        """Follow an operator that gives one value."""
        return self._all(op_type, inputs, 1, attributes)[0]

    def split(self, value: Tensor, sizes: Sequence[int], axis: int = -1) -> list[Tensor]:
        """Its pieces along an axis."""
        return self._all("Split", (value, self.ints(*sizes)), len(sizes), {"axis": axis})

    def shape(self, value: Tensor) -> tuple[int, ...]:
        """Sizes of a value. Raises GraphError: they are not known, so that the operator cannot be followed."""
        shape = self.trace.shape(value)
        if shape is None:
            raise GraphError(f"the sizes of {value.name} are not known")
        return shape

    def give(self, out: Tensor, value: Tensor) -> None:
        """Let an output of the fused operator be that value."""
        trace = self.trace
        trace.give(out, trace.shape(value), trace.of(value), trace.writers_of(value), trace.owner(value))


def _activated(plain: _Plain, op: Op, value: Tensor) -> Tensor:
    """The value behind the activation that an operator brings along; one that nobody knows is taken for a bent one."""
    name = op.attr("activation", "")
    return plain.one(name if name in ELEMENTWISE else "Sigmoid", value) if name else value


def fused_conv(trace: Trace, op: Op) -> None:
    """FusedConv: a convolution, what is added to it, an activation."""
    plain, out = _Plain(trace, op), op.outputs[0]
    made = Tensor(f"{op.name} Conv")
    conv = Op("Conv", "", op.name, [], [made], op.attributes)
    conv.inputs = op.inputs[:3]
    PRODUCTS["Conv"](trace, conv)
    if (other := op.input(3)) is not None:
        made = plain.one("Add", made, other)
    plain.give(out, _activated(plain, op, made))


def fused_gemm(trace: Trace, op: Op) -> None:
    """FusedGemm: Gemm and an activation."""
    plain = _Plain(trace, op)
    made = plain.one("Gemm", *op.inputs[:3], transA=op.attr("transA", 0), transB=op.attr("transB", 0))
    plain.give(op.outputs[0], _activated(plain, op, made))


def fused_matmul(trace: Trace, op: Op) -> None:
    """FusedMatMul and TransposeMatMul: a product of matrices that may be transposed."""
    plain = _Plain(trace, op)
    if op.attr("transBatchA", 0) or op.attr("transBatchB", 0):
        trace.unknown_op(op)
        return
    sides = []
    for index, name in enumerate(("transA", "transB")):
        side = trace.needed(op, index)
        if op.attr(name, 0) and (rank := len(plain.shape(side))) > 1:
            side = plain.one("Transpose", side, perm=[*range(rank - 2), rank - 1, rank - 2])
        sides.append(side)
    plain.give(op.outputs[0], plain.one("MatMul", *sides))


class Ways(NamedTuple):
    """How a product of two values is a MatMul: which input stands left, and the transposes of the left side, of the
    right side, and of the product.
    """

    left: int
    of_left: list[int]
    of_right: list[int]
    after: list[int]


def product_of_data(trace: Trace, op: Op, ways: Ways) -> None:
    """Einsum of two values that data give, as the MatMul that it is."""
    plain = _Plain(trace, op)
    left = plain.one("Transpose", trace.needed(op, ways.left), perm=ways.of_left)
    right = plain.one("Transpose", trace.needed(op, 1 - ways.left), perm=ways.of_right)
    product = plain.one("Transpose", plain.one("MatMul", left, right), perm=ways.after)
    plain.give(op.outputs[0], product)
    if (heads := trace.scores.get(product)) is not None:  # numbers that scale scores may stand behind
        trace.scores[op.outputs[0]] = heads


def biased(trace: Trace, op: Op) -> None:
    """BiasGelu, FastGelu, BiasSoftmax, BiasDropout: a sum, then what the name says."""
    plain = _Plain(trace, op)
    value = trace.needed(op, 0)
    if (bias := op.input(1)) is not None:
        value = plain.one("Add", value, bias)
    if op.op_type == "BiasDropout" and (residual := op.input(2)) is not None:
        value = plain.one("Add", value, residual)
    plain.give(op.outputs[0], plain.one(op.op_type.removeprefix("Bias"), value))
    for out in op.outputs[1:]:
        trace.give(out, None)


def _heads(plain: _Plain, value: Tensor, count: int) -> Tensor:
    """(B, S, heads × width) as (B, heads, S, width); what has four axes is that already."""
    shape = plain.shape(value)
    if len(shape) == 4:
        return value
    if len(shape) != 3 or count < 1 or shape[2] % count:
        raise GraphError(f"{value.name} of sizes {list(shape)} has no {count} heads")
    cut = plain.one("Reshape", value, plain.ints(shape[0], shape[1], count, shape[2] // count))
    return plain.one("Transpose", cut, perm=[0, 2, 1, 3])


def _joined(plain: _Plain, value: Tensor) -> Tensor:
    """(B, heads, S, width) as (B, S, heads × width)."""
    batch, count, length, width = plain.shape(value)
    turned = plain.one("Transpose", value, perm=[0, 2, 1, 3])
    return plain.one("Reshape", turned, plain.ints(batch, length, count * width))


def _repeated(plain: _Plain, value: Tensor, count: int) -> Tensor:
    """Heads that several queries share, once for each of these: (B, fewer, S, width) -> (B, count, S, width)."""
    batch, fewer, length, width = plain.shape(value)
    if fewer == count or not fewer or count % fewer:
        return value
    times = count // fewer
    apart = plain.one("Reshape", value, plain.ints(batch, fewer, 1, length, width))
    wide = plain.one("Expand", apart, plain.ints(batch, fewer, times, length, width))
    return plain.one("Reshape", wide, plain.ints(batch, count, length, width))


def _attended(plain: _Plain, op: Op, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What attention gives of values with heads, all (B, heads, S, width)."""
    _, count, _, width = plain.shape(query)
    key, value = _repeated(plain, key, count), _repeated(plain, value, count)
    scores = plain.one("MatMul", query, plain.one("Transpose", key, perm=[0, 1, 3, 2]))
    scores = plain.one("Mul", scores, plain.number(float_attr(op, "scale", 0.0) or width**-0.5))
    return plain.one("MatMul", plain.one("Softmax", scores, axis=-1), value)


def _give_attended(plain: _Plain, op: Op, answer: Tensor) -> None:
    """Let the first output be that; caches of keys and values are nobody's channels here."""
    plain.give(op.outputs[0], answer)
    for out in op.outputs[1:]:
        plain.trace.give(out, None)


def attention(trace: Trace, op: Op) -> None:
    """Attention of ONNX (opset 23), or of com.microsoft, where one weight makes queries, keys and values."""
    if op.domain:
        _packed_attention(trace, op)
        return
    plain = _Plain(trace, op)
    query, key, value = (trace.needed(op, index) for index in range(3))
    n_queries = op.attr("q_num_heads", 0)
    n_keys = op.attr("kv_num_heads", 0) or n_queries
    is_flat = len(plain.shape(query)) == 3
    heads = [_heads(plain, each, n) for each, n in ((query, n_queries), (key, n_keys), (value, n_keys))]
    answer = _attended(plain, op, *heads)
    _give_attended(plain, op, _joined(plain, answer) if is_flat else answer)


def _packed_attention(trace: Trace, op: Op) -> None:
    plain = _Plain(trace, op)
    made = plain.one("MatMul", trace.needed(op, 0), trace.needed(op, 1))
    if (bias := op.input(2)) is not None:
        made = plain.one("Add", made, bias)
    width = plain.shape(made)[-1]
    sizes = op.attr("qkv_hidden_sizes", []) or [width // 3] * 3
    count = op.attr("num_heads", 0)
    parts = [_heads(plain, part, count) for part in plain.split(made, sizes)]
    _give_attended(plain, op, _joined(plain, _attended(plain, op, *parts)))


def multi_head_attention(trace: Trace, op: Op) -> None:
    """MultiHeadAttention of com.microsoft: queries, keys and values, apart or packed, and a bias for all three."""
    plain = _Plain(trace, op)
    count = op.attr("num_heads", 0)
    given = [op.input(index) for index in range(3)]
    if given[1] is None or given[2] is None:  # packed as (B, S, heads, 2 or 3, width), head by head
        trace.unknown_op(op)
        return
    parts = [each for each in given if each is not None]
    if (bias := op.input(3)) is not None:
        sizes = [math.prod(plain.shape(part)[2:]) if len(plain.shape(part)) == 3 else 0 for part in parts]
        if all(sizes) and sum(sizes) == math.prod(plain.shape(bias)):
            biases = plain.split(bias, sizes, axis=0)
            parts = [plain.one("Add", part, own) for part, own in zip(parts, biases, strict=True)]
    heads = [_heads(plain, part, count) for part in parts]
    _give_attended(plain, op, _joined(plain, _attended(plain, op, *heads)))


def grouped_query_attention(trace: Trace, op: Op) -> None:
    """GroupQueryAttention of com.microsoft: several queries share a key and a value, positions may be turned in."""
    plain = _Plain(trace, op)
    n_queries, n_keys = op.attr("num_heads", 0), op.attr("kv_num_heads", 0)
    query = trace.needed(op, 0)
    key, value = op.input(1), op.input(2)
    if key is None or value is None:
        width = plain.shape(query)[-1] // max(1, n_queries + 2 * n_keys)
        query, key, value = plain.split(query, [n_queries * width, n_keys * width, n_keys * width])
    heads = [_heads(plain, each, n) for each, n in ((query, n_queries), (key, n_keys), (value, n_keys))]
    if op.attr("do_rotary", 0):
        turned = (op.attr("rotary_interleaved", 0), op.attr("rotary_embedding_dim", 0))
        heads[:2] = [_turned(plain, each, *turned) for each in heads[:2]]
    _give_attended(plain, op, _joined(plain, _attended(plain, op, *heads)))


def rotary(trace: Trace, op: Op) -> None:
    """RotaryEmbedding of ONNX (opset 23) and of com.microsoft, whose tables come after the positions."""
    plain = _Plain(trace, op)
    value = trace.needed(op, 0)
    shape = plain.shape(value)
    count = op.attr("num_heads", 0)
    width = op.attr("rotary_embedding_dim", 0)
    if len(shape) == 3 and not count:
        table = trace.shape(op.input(2 if op.domain else 1))
        count = shape[2] // (2 * table[-1]) if table and table[-1] and not width else 0
    turned = _turned(plain, _heads(plain, value, count), op.attr("interleaved", 0), width)
    plain.give(op.outputs[0], _joined(plain, turned) if len(shape) == 3 else turned)


def _turned(plain: _Plain, value: Tensor, interleaved: int, width: int) -> Tensor:
    """Heads (B, heads, S, width) whose dimensions are turned in pairs: the two of a pair become one channel.

    Args:
        interleaved: whether a pair stands side by side, not half a head apart.
        width: of what is turned, at the beginning of each head; 0 for all.
    """
    batch, count, length, whole = plain.shape(value)
    width = width or whole
    if width % 2 or width > whole:
        raise GraphError(f"{width} of {whole} dimensions cannot be turned in pairs")
    part, *rest = plain.split(value, [width, whole - width]) if width < whole else [value]
    if interleaved:
        pairs = plain.one("Reshape", part, plain.ints(batch, count, length, width // 2, 2))
        swapped = plain.one("Concat", *reversed(plain.split(pairs, [1, 1])), axis=-1)
        made = plain.one("Add", pairs, swapped)
        part = plain.one("Reshape", made, plain.ints(batch, count, length, width))
    else:
        swapped = plain.one("Concat", *reversed(plain.split(part, [width // 2] * 2)), axis=-1)
        part = plain.one("Add", part, swapped)
    return plain.one("Concat", part, *rest, axis=-1) if rest else part


FUSED: dict[str, Rule] = {
    "FusedConv": fused_conv,
    "FusedGemm": fused_gemm,
    "FusedMatMul": fused_matmul,
    "TransposeMatMul": fused_matmul,
    "BiasGelu": biased,
    "FastGelu": biased,
    "BiasSoftmax": biased,
    "BiasDropout": biased,
    "Attention": attention,
    "MultiHeadAttention": multi_head_attention,
    "GroupQueryAttention": grouped_query_attention,
    "RotaryEmbedding": rotary,
}
