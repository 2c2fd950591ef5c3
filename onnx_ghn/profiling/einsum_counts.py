"""Multiply-accumulates of an Einsum: operands are multiplied two at a time, left to right, as onnxruntime does."""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence

__all__ = ["einsum_macs"]


def einsum_macs(equation: str, shapes: Sequence[tuple[int, ...]]) -> int | None:
    """Of one call: 0 for a single operand, which is only summed; None for an equation that does not fit the shapes."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        return None
    # The dimensions of `...` are counted from the right and broadcast; a label of two characters stands for each.
    n_free = [len(shape) - len(term.replace("...", "")) for term, shape in zip(terms, shapes, strict=True)]
    labelled = [_labels(term, n) for term, n in zip(terms, n_free, strict=True)]
    if any(len(labels) != len(shape) for labels, shape in zip(labelled, shapes, strict=True)):
        return None
    sizes: dict[str, int] = {}
    for labels, shape in zip(labelled, shapes, strict=True):
        for label, size in zip(labels, shape, strict=True):
            if 1 not in (size, sizes.get(label, size)) and sizes.get(label, size) != size:
                return None
            sizes[label] = max(size, sizes.get(label, 1)) if size else 0
    output = set(_labels(right, max(n_free, default=0))) if arrow else _once(labelled)
    total, held = 0, set(labelled[0])
    for number, labels in enumerate(labelled[1:], start=1):
        held |= set(labels)
        total += math.prod(sizes[label] for label in held)
        held &= output.union(*labelled[number + 1 :])
    return total


def _labels(term: str, n_free: int) -> list[str]:
    before, dots, after = term.partition("...")
    middle = [f".{number}" for number in range(n_free, 0, -1)] if dots else []
    return [*before, *middle, *after]


def _once(labelled: Sequence[Sequence[str]]) -> set[str]:
    """The output that an equation without an arrow has: what occurs once, and the dimensions of `...`."""
    counted = collections.Counter(label for labels in labelled for label in labels)
    return {label for label, n in counted.items() if n == 1 or label.startswith(".")}
