"""Einsum: a product of two values whose axes have letters."""

from __future__ import annotations

import math
import string

from onnx_ghn.graph.flat import Op
from onnx_ghn.inheritance.fields import Shape, along, axes_of, vector
from onnx_ghn.inheritance.fused import Ways, product_of_data
from onnx_ghn.inheritance.labels import Ints
from onnx_ghn.inheritance.tracing import Trace

__all__ = ["einsum"]


def einsum(trace: Trace, op: Op) -> None:
    """Einsum of two values; what an ellipsis stands for gets letters of its own.

    Of a weight, axes are read and written as in a layer. A product of two values that data give, as attention's are,
    is followed as the MatMul that it is, between transposes.
    """
    out = op.outputs[0]
    shapes = [trace.shape(tensor) for tensor in op.inputs]
    terms, after = _letters(op.attr("equation", ""), shapes)
    if len(terms) != 2 or not after or not set(after) <= set("".join(terms)):
        trace.unknown_op(op)
        return
    if not any(trace.is_stored(tensor) for tensor in op.inputs if tensor is not None) and (
        ways := _as_matmul(terms, after)
    ):
        product_of_data(trace, op, ways)
        return
    sizes = {
        letter: size
        for term, shape in zip(terms, shapes, strict=True)
        for letter, size in zip(term, shape or (), strict=True)
    }
    found: dict[str, list[Ints]] = {}
    weights = []
    for term, tensor, other in zip(terms, op.inputs, reversed(op.inputs), strict=True):
        is_const = tensor is not None and tensor.is_const and bool(trace.owner(tensor))
        if is_const:
            name = trace.owner(tensor)
            weights.append(name)
            trace.use(name, "linear", math.prod(sizes[letter] for letter in after[:-1]))
            trace.fed_by.setdefault(name, trace.writers_of(other))
        for field in trace.of(tensor):
            covered = axes_of(field)
            letters = [term[axis] for axis in sorted(covered)]
            if is_const:
                role = "in" if letters[0] not in after else "out"
                trace.roles(field, role, contracted=role == "in")
            if len(letters) == 1:
                found.setdefault(letters[0], []).append(vector(field))
    consts = any(tensor is not None and tensor.is_const for tensor in op.inputs)
    for labels in found.values():
        if len(labels) == 2 and consts:
            trace.labels.unite(labels[0], labels[1])
    fields = [along(found[letter][-1], len(after), i) for i, letter in enumerate(after) if letter in found]
    trace.give(out, tuple(sizes[letter] for letter in after), fields, tuple(weights))


def _as_matmul(terms: list[str], after: str) -> Ways | None:
    """How the two sides and the product are transposed around a MatMul; None where no single one does it.

    The side whose own axis comes first in the result is the left one: Keras multiplies keys with queries, and the
    scores have a row for each query.
    """
    first, second = (set(term) for term in terms)
    shared = [letter for letter in after if letter in first & second]
    summed = [letter for letter in terms[0] if letter in second and letter not in after]
    own = [
        [letter for letter in term if letter not in other] for term, other in zip(terms, (second, first), strict=True)
    ]
    if len(summed) != 1 or [len(each) for each in own] != [1, 1] or len(after) != len(shared) + 2:
        return None
    left = 0 if after.index(own[0][0]) < after.index(own[1][0]) else 1
    row, column = own[left][0], own[1 - left][0]
    orders = ([*shared, row, *summed], [*shared, *summed, column])
    perms = [
        [terms[side].index(letter) for letter in order] for side, order in zip((left, 1 - left), orders, strict=True)
    ]
    product = [*shared, row, column]
    return Ways(left, perms[0], perms[1], [product.index(letter) for letter in after])


def _letters(equation: str, shapes: list[Shape | None]) -> tuple[list[str], str]:
    """The terms of an equation and its result, an ellipsis as letters; none where sizes are not known."""
    given, arrow, after = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    if not arrow or len(terms) != len(shapes) or any(shape is None for shape in shapes):
        return [], ""
    free = [letter for letter in string.ascii_letters if letter not in equation]
    found, longest = [], 0
    for term, shape in zip(terms, shapes, strict=True):
        n = len(shape or ()) - len(term.replace("...", ""))
        if n < 0 or ("..." not in term and n):
            return [], ""
        longest = max(longest, n)
        found.append(term.replace("...", "".join(free[:n][::-1])))  # the last axes of both are the same
    return found, after.replace("...", "".join(free[:longest][::-1]))
