"""Batch norms that are written as arithmetic: which stored tensor is the mean, the variance, the scale, the shift.

(x − μ) / √(σ² + ε) · γ + β        Keras, Flax
(x − μ) · s + β,  s = γ / √(σ² + ε), one number a channel in the file        Keras on torch
x · s + t,  s = γ / √(σ² + ε),  t = β − μ · s        TensorFlow, frozen norms of torchvision
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from onnx_ghn.graph.context import BuildContext, vector
from onnx_ghn.graph.flat import Leaf, Op, Tensor
from onnx_ghn.graph.folding import scalar_of
from onnx_ghn.graph.handlers.normalisation import body_obstacle
from onnx_ghn.graph.model import RunningNorm
from onnx_ghn.graph.neighbours import next_ops
from onnx_ghn.graph.parameter import Role
from onnx_ghn.graph.weights import leaves, per_channel, static_shape

__all__ = ["centred_before", "prepares", "shift_parts", "subtract", "written_norm"]

_PRODUCTS = frozenset({"Mul", "Div"})
_SAME = frozenset({"Cast", "CastLike", "Identity"})
_PREPARING = frozenset({"Add", "Sub", "Mul", "Div", "Cast", "Transpose", "Identity"})
_STEPS = 12  # between an input and the numbers that it meets
_MAX_STEPS = 64  # constant arithmetic of one norm is far shorter


def subtract(ctx: BuildContext, op: Op) -> None:
    """Sub: a running mean where a scale follows that has the variance in it; anything else is dropped."""
    constant, data = op.input(1), op.input(0)
    shape = static_shape(constant) if constant is not None and constant.is_const else None
    if constant is not None and data is not None and per_channel(shape):
        following = [user for tensor in op.outputs for user in next_ops(tensor)]
        factors = [t for user in following for t in user.inputs if t is not None and t.is_const]
        if any(ctx.is_statistic(leaf) for factor in factors for leaf in leaves(factor)):
            ctx.claim(constant, Role.statistic, op, vector)
        elif len(following) == 1 and following[0].op_type == "Mul" and [static_shape(t) for t in factors] == [shape]:
            named = any(leaf.tensor.name in ctx.learned for leaf in leaves(constant))
            if not named and ctx.sources(data) and not prepares(ctx, data, constant):
                ctx.claim(constant, Role.statistic, op, vector)
    ctx.drop(op)


def prepares(ctx: BuildContext, data: Tensor, constant: Tensor) -> bool:
    """Whether data have met nothing but stored numbers before: inputs are brought to mean 0 and variance 1 so.

    Only where the file does not say that the numbers are learned, and where they are no root of a running variance.
    """
    if any(leaf.divisor or leaf.tensor.name in ctx.learned for leaf in leaves(constant)):
        return False
    value, steps = data, 0
    while (op := value.producer) is not None and steps < _STEPS:
        steps += 1
        if op.op_type not in _PREPARING:
            return False
        given = [t for t in op.inputs if t is not None and not t.is_const]
        if len(given) != 1:
            return False
        value = given[0]
    return value.producer is None and not value.is_const and value.shape is not None and len(value.shape) > 1


def shift_parts(shift: Tensor, factors: Sequence[Leaf]) -> tuple[list[Leaf], list[Leaf]]:
    """(β, μ): the tensors that a shift is computed from, other than those of the factor, alone and in a product."""
    known = {leaf.tensor.name for leaf in factors}
    inside = _in_products(shift)
    wide = [leaf for leaf in leaves(shift) if math.prod(leaf.layout.stored) > 1] or leaves(shift)
    rest = [leaf for leaf in wide if leaf.tensor.name not in known]
    alone = [leaf for leaf in rest if leaf.tensor.name not in inside]
    return alone, [leaf for leaf in rest if leaf.tensor.name in inside]


def centred_before(ctx: BuildContext, op: Op) -> str:
    """The stored mean that is subtracted from what a product multiplies, registered as a statistic; "" for none."""
    tensor = _data_input(op)
    for _ in range(_MAX_STEPS):
        producer = tensor.producer if tensor is not None else None
        if producer is None:
            return ""
        constant = producer.input(1)
        if producer.op_type == "Sub" and constant is not None and constant.is_const:
            found = [leaf for leaf in leaves(constant) if math.prod(leaf.layout.stored) > 1]
            if len(found) != 1 or not per_channel(static_shape(constant)):
                return ""
            if found[0].tensor.stored is not None and found[0].tensor.stored.name in ctx.learned:
                return ""
            ctx.register(found[0], Role.statistic, producer, vector(found[0].layout))
            return found[0].tensor.name
        if producer.op_type not in _SAME and producer.op_type not in _PRODUCTS:
            return ""
        tensor = _data_input(producer)
    return ""


def written_norm(
    ctx: BuildContext,
    op: Op,
    constants: Sequence[Tensor],
    factors: Sequence[Leaf],
    shift: str,
    means: Sequence[Leaf],
    sources: Collection[int],
) -> RunningNorm:
    """The norm of which an operator is the first product.

    Args:
        constants: what it is multiplied by, the operator's own constant first.
        factors: the tensors behind these.
        shift: name of the shift, "" for none.
        means: tensors that a shift holds in a product.
        sources: the nodes that the normalised value stems from.
    """
    shape = static_shape(constants[0]) or ()
    axis = next((i - len(shape) for i, dim in enumerate(shape) if dim > 1), -1)
    variances = [leaf.tensor.name for leaf in factors if ctx.is_statistic(leaf)]
    scale = next((leaf.tensor.name for leaf in factors if not leaf.divisor and leaf.part != "argument"), "")
    centred = centred_before(ctx, op)
    mean = centred if not means else means[0].tensor.name
    obstacle = body_obstacle(op)
    if len(variances) != 1 or len(means) + bool(centred) != 1:
        obstacle = obstacle or "its mean and its variance are not told apart in the arithmetic"
    elif not any(_is_under_root(constant, variances[0]) for constant in constants):
        obstacle = obstacle or "it stores no variance, but a number made of it"
    elif not scale and not shift and set(sources) <= {0}:
        obstacle = obstacle or "it brings the inputs to one scale, by statistics of the data"
    return RunningNorm(mean, variances[0] if variances else "", scale, shift, axis, obstacle)


def _in_products(value: Tensor) -> set[str]:
    """Names of the stored tensors that are multiplied by something on the way to a constant value."""
    pending, inside = [value], set()
    for _ in range(_MAX_STEPS):
        if not pending:
            break
        tensor = pending.pop()
        producer = tensor.producer
        if tensor.stored is not None or producer is None:
            continue
        if producer.op_type in _PRODUCTS:
            inside |= {leaf.tensor.name for leaf in leaves(tensor)}
        else:
            pending.extend(given for given in producer.inputs if given is not None and given.is_const)
    return inside


def _is_under_root(value: Tensor, name: str) -> bool:
    """Whether a stored tensor enters a constant value through a square root."""
    pending = [value]
    for _ in range(_MAX_STEPS):
        if not pending:
            break
        tensor = pending.pop()
        producer = tensor.producer
        if tensor.stored is not None or producer is None:
            continue
        exponent = producer.input(1)
        is_root = producer.op_type == "Sqrt" or (
            producer.op_type == "Pow" and exponent is not None and scalar_of(exponent) in (0.5, -0.5)
        )
        if is_root and any(leaf.tensor.name == name for leaf in leaves(tensor)):
            return True
        pending.extend(given for given in producer.inputs if given is not None and given.is_const)
    return False


def _data_input(op: Op) -> Tensor | None:
    return next((tensor for tensor in op.inputs if tensor is not None and not tensor.is_const), None)
