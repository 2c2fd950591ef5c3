"""Spectral normalisation (Miyato et al. 2018): a weight is divided by its largest singular value.

Frameworks keep the vectors u and v of the last step of a power iteration beside the weight W, as they keep the running
statistics of a norm, and a file divides by u · W v. Vectors of another weight would scale the layer by anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from onnx_ghn.graph.flat import Op, Tensor
from onnx_ghn.graph.parameter import Singular
from onnx_ghn.graph.weights import leaves
from onnx_ghn.onnx_io.view_operators import VIEW_OPERATORS

if TYPE_CHECKING:
    from onnx_ghn.graph.layout import Layout

__all__ = ["norms_of_weights", "singular_vectors"]


def singular_vectors(value: Tensor) -> dict[str, Singular]:
    """The stored vectors that divide a constant value by its spectral norm, by their names; none where it is not.

    Args:
        value: what an operator reads as its weight.
    """
    op = value.producer
    while op is not None and not op.domain and op.op_type in VIEW_OPERATORS:
        given = op.input(0)
        op = given.producer if given is not None else None
    return _vectors_of(op) if op is not None else {}


def norms_of_weights(ops: Iterable[Op]) -> dict[Op, bool]:
    """The operators that serve the spectral norms of weights alone, and whether it is such a norm that one gives.

    They read weights as no layer does, and say nothing of channels.
    """
    found: dict[Op, bool] = {}
    for op in ops:
        norm = op.input(1) if _vectors_of(op) else None
        pending = [norm] if norm is not None else []
        while pending:
            tensor = pending.pop()
            maker = tensor.producer
            if maker is not None and all(one is op or one in found for one in tensor.consumers):
                found[maker] = tensor is norm
                pending += [given for given in maker.inputs if given is not None]
    return found


def _vectors_of(op: Op) -> dict[str, Singular]:
    """Those of a division of a weight W by u · W v, whichever product comes first."""
    weight, divisor = (op.input(0), op.input(1)) if op.op_type == "Div" and not op.domain else (None, None)
    name = _stored_name(weight)
    if divisor is None or not divisor.is_const or not name:
        return {}
    for made in divisor.made_of():
        product = made.producer
        if product is None or product.domain or product.op_type != "MatMul":
            continue
        for side in (0, 1):  # of the matrix: W v or u W
            layout, vector = _as_matrix(product.input(side), name), _stored_name(product.input(1 - side))
            if layout is None or not vector:
                continue
            sizes = {_stored_name(leaf.tensor): math.prod(leaf.layout.stored) for leaf in leaves(divisor)}
            others = sizes.keys() - {name, vector}
            found = {vector: 1 - side, **dict.fromkeys(others, side)}
            fits = all(sizes[each] == layout.canonical[axis] for each, axis in found.items())
            return {each: Singular(name, layout, axis) for each, axis in found.items()} if fits and others else {}
    return {}


def _stored_name(value: Tensor | None) -> str:
    """The one stored tensor that a value is a view of; "" where it is none, or made of several."""
    while value is not None and value.stored is None:
        op = value.producer
        value = op.input(0) if op is not None and not op.domain and op.op_type in VIEW_OPERATORS else None
    return value.stored.name if value is not None and value.stored is not None else ""


def _as_matrix(value: Tensor | None, name: str) -> Layout | None:
    """From a stored tensor to the matrix that a value is; None where it is no view of that tensor."""
    if value is None or _stored_name(value) != name:
        return None
    (leaf,) = leaves(value)
    return leaf.layout if leaf.whole and len(leaf.layout.canonical) == 2 else None
