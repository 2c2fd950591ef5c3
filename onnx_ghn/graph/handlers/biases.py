"""Which constants that are added to data are biases, where their shape alone does not tell."""

from __future__ import annotations

import itertools
import math

from onnx_ghn.graph.context import BuildContext
from onnx_ghn.graph.flat import Op, Tensor
from onnx_ghn.graph.folding import ints_of
from onnx_ghn.graph.model import Primitive
from onnx_ghn.graph.neighbours import behind_views
from onnx_ghn.graph.weights import main_leaf

__all__ = ["is_bias_of_heads", "is_row_of_biases", "is_single_bias"]

_PRODUCTS = frozenset({"MatMul", "Gemm"})
_SAME = frozenset({"Identity", "Cast", "CastLike", "Expand", "Dropout"})


def is_single_bias(ctx: BuildContext, constant: Tensor, shape: tuple[int, ...] | None, sources: frozenset[int]) -> bool:
    """A stored vector of one element behind a layer of one output: its bias. (A scalar, of rank 0, is a setting.)"""
    if shape is None or not shape or len(sources) != 1 or any(dim != 1 for dim in shape):
        return False
    (number,) = sources
    node = ctx.nodes[number]
    return constant.stored is not None and node.primitive is Primitive.conv and (node.shape or (0,))[0] == 1


def is_bias_of_heads(ctx: BuildContext, op: Op, shape: tuple[int, ...] | None, sources: frozenset[int]) -> bool:
    """A number for each output of a product, which has them in two axes: heads, and what is in a head.

    A table of positions may have as many elements, but has them in axes that are none of the outputs'.
    """
    data = next((t for t in op.inputs if t is not None and not t.is_const), None)
    origin = behind_views(data)[0] if data is not None else None
    if data is None or shape is None or len(sources) != 1 or origin is None or origin.producer is None:
        return False
    (number,) = sources
    node = ctx.nodes[number]
    if node.primitive is not Primitive.conv or (node.shape or (0,))[0] != math.prod(shape):
        return False
    if origin.producer.op_type == "Einsum":
        return True
    if origin.producer.op_type not in _PRODUCTS:
        return False
    axes = _axes_of_outputs(data, origin, math.prod(shape))
    return axes is None or {i - len(shape) for i, size in enumerate(shape) if size > 1} <= axes


def _axes_of_outputs(data: Tensor, origin: Tensor, n_outputs: int) -> set[int] | None:
    """The axes in which a view of a product has its outputs, counted from the last (-1); None: nobody can tell.

    Empty where they were moved ahead of others and then shaped anew: a map that is made of tokens.
    """
    views: list[Op] = []
    value: Tensor | None = data
    while value is not None and value is not origin and value.producer is not None:
        views.append(value.producer)
        value = value.producer.input(0)
    product = origin.producer
    left = product.input(0) if product is not None else None
    axes = {-2 if left is not None and left.is_const else -1}
    for view in reversed(views):
        if view.op_type == "Transpose":
            order = view.attr("perm")
            if not order:
                return set()
            axes = {i - len(order) for i, axis in enumerate(order) if axis - len(order) in axes}
        elif view.op_type == "Reshape" and axes == {-1}:
            given = view.input(1)
            sizes = (ints_of(given) if given is not None else view.attr("shape")) or view.outputs[0].shape or ()
            ahead = itertools.accumulate((size or 0 for size in reversed(sizes)), lambda a, b: a * b)
            n_axes = next((n for n, product_of in enumerate(ahead, 1) if product_of == n_outputs), 0)
            if not n_axes:
                return None
            axes = {-1 - i for i in range(n_axes)}
        elif view.op_type not in _SAME:
            return None if axes == {-1} else set()
    return axes


def is_row_of_biases(op: Op, constant: Tensor) -> bool:
    """A row of a small table, each row of which is added to another product: the biases of Keras's GRU.

    One belongs to the inputs and one to the state. A row of a table of positions is added to no product.
    """
    data = next((t for t in op.inputs if t is not None and not t.is_const), None)
    origin = behind_views(data)[0] if data is not None else None
    if origin is None or origin.producer is None or origin.producer.op_type not in _PRODUCTS:
        return False
    value: Tensor | None = constant
    while value is not None and value.producer is not None and value.producer.op_type in ("Squeeze", "Identity"):
        value = value.producer.input(0)
    piece = value.producer if value is not None else None
    table = piece.input(0) if piece is not None else None
    if piece is None or table is None or not table.is_const:
        return False
    leaf = main_leaf(table)
    shape = leaf.layout.canonical if leaf is not None and leaf.whole else ()
    return len(shape) == 2 and all(_takes_rows(reader, shape[0]) for reader in table.consumers)


def _takes_rows(op: Op, n_rows: int) -> bool:
    """Whether an operator splits a table into its rows, or takes one of them. A loop hands a table on as it is."""
    if (op.domain, op.op_type) == ("onnx_ghn", "Join"):
        return True
    if op.attr("axis", 0) not in (0, -2):
        return False
    if op.op_type == "Split":
        return len(op.outputs) == n_rows
    given = op.input(1)
    index = ints_of(given) if op.op_type == "Gather" and given is not None and given.is_const else None
    return index is not None and len(index) == 1
