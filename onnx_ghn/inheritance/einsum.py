"""Einsum: a product of two values whose axes have letters."""

from __future__ import annotations

import math
import string

from onnx_ghn.graph.flat import Op
from onnx_ghn.inheritance.fields import Shape, along, axes_of, vector
from onnx_ghn.inheritance.labels import Ints
from onnx_ghn.inheritance.tracing import Trace

__all__ = ["einsum"]


def einsum(trace: Trace, op: Op) -> None:
    """Einsum of two values; what an ellipsis stands for gets letters of its own."""
    out = op.outputs[0]
    shapes = [trace.shape(tensor) for tensor in op.inputs]
    terms, after = _letters(op.attr("equation", ""), shapes)
    if len(terms) != 2 or not after or not set(after) <= set("".join(terms)):
        trace.unknown_op(op)
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
