"""From the value that an operator reads back to the stored tensors that it is made of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from onnx_ghn.graph.flat import Leaf, Op, Tensor
from onnx_ghn.graph.folding import ints_of, makes_vector, scalar_of
from onnx_ghn.graph.layout import Layout
from onnx_ghn.graph.tables import selects
from onnx_ghn.onnx_io.view_operators import RESHAPE_OPERATORS

__all__ = [
    "QUANTISES",
    "is_normalised",
    "leaves",
    "main_leaf",
    "meets_data",
    "per_channel",
    "rough_shape",
    "static_shape",
    "unrepeated",
]

#: Operators whose output is the first input, seen otherwise or in other numbers.
_SAME = frozenset(
    {"Identity", "Cast", "CastLike", "Dropout", "Expand", "Tile", "QuantizeLinear", "DynamicQuantizeLinear"}
) | {"BipolarQuant"}
#: Of QONNX: (value, scale, zero point, bits), quantised and dequantised at once.
QUANTISES = frozenset({"Quant", "IntQuant"})
_PIECE = frozenset({"Split", "Slice", "Gather", "SplitToSequence", "ConcatFromSequence"})
_JOINED = frozenset({"Concat", "SequenceConstruct"})
_PRODUCTS = frozenset({"MatMul", "Gemm", "Einsum", "FusedMatMul"})
_NORMS = frozenset({"BatchNormalization", "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"})
_SQUARES = frozenset({"ReduceL2", "ReduceSumSquare", "ReduceSum", "LpNormalization"})
_DIVISORS = frozenset({"Sqrt", "Reciprocal", "Rsqrt", "Pow"})
#: Functions whose value is on another scale than what they are given: a logarithm, a logit, an angle.
_BENDING = frozenset({"Exp", "Log", "Softplus", "Sigmoid", "HardSigmoid", "Softmax", "LogSoftmax", "Sin", "Cos"})
_SMALLEST = 1e-5  # a number below it says that a branch begins near zero


def leaves(value: Tensor) -> list[Leaf]:
    """All stored tensors that a constant value is computed from; the one that carries its shape first."""
    pending = [value]
    while pending:  # depth first without recursion: constant arithmetic can be thousands of operators deep
        tensor = pending[-1]
        if tensor.leaves is not None:
            pending.pop()
            continue
        op = tensor.producer
        inputs = [t for t in _giving(op) if t is not None and t.leaves is None] if op is not None else []
        if tensor.is_const and tensor.stored is None and inputs:
            pending.extend(inputs)
        else:
            tensor.leaves = _leaves(tensor)
            pending.pop()
    return list(value.leaves or ())


def _giving(op: Op) -> Sequence[Tensor | None]:
    """The inputs whose leaves are those of an operator's output: shapes and axes beside the first are not."""
    of_first = _SAME | RESHAPE_OPERATORS | _PIECE | _DIVISORS | QUANTISES | {"DequantizeLinear", "Transpose"}
    return op.inputs[:1] if op.domain == "onnx_ghn" or op.op_type in of_first else op.inputs


def _leaves(value: Tensor) -> list[Leaf]:
    """One step of `leaves`: those of the inputs are known."""
    if value.stored is not None:
        return [Leaf(value, Layout(tuple(value.stored.shape)))]
    op = value.producer
    if op is None or not value.is_const:
        return []
    first = op.input(0)
    inner: list[Leaf] = list(first.leaves or ()) if first is not None else []
    if op.op_type == "DequantizeLinear" or op.op_type in QUANTISES:
        return [dataclasses.replace(leaf, dequantize=op, scaled_axis=_scaled_axis(leaf, op)) for leaf in inner]
    if op.op_type in _SAME or op.domain == "onnx_ghn":
        return [dataclasses.replace(leaf, whole=False) for leaf in inner] if "taken" in op.attributes else inner
    if op.op_type == "Transpose":
        return [_transposed(leaf, op) for leaf in inner]
    if op.op_type in RESHAPE_OPERATORS:
        return [_reshaped(leaf, op) for leaf in inner]
    if op.op_type in _PIECE:
        return [dataclasses.replace(leaf, whole=False) for leaf in inner]
    if op.op_type == "SequenceAt":
        chosen = _in_sequence(op)
        if chosen is not None:
            return list(chosen.leaves or ())
        return [dataclasses.replace(leaf, whole=False) for leaf in inner]
    if op.op_type in _JOINED:
        joined: dict[str, Leaf] = {}
        for given in op.inputs:
            for leaf in (given.leaves or ()) if given is not None else ():
                joined.setdefault(leaf.tensor.name, leaf)
        return [dataclasses.replace(leaf, whole=False) for leaf in joined.values()]
    if op.op_type in _DIVISORS:
        return [dataclasses.replace(leaf, divisor=True, multiplier=None) for leaf in inner]
    # Arithmetic (weight standardisation, weight norm, scaled learning rates): the widest operand first, and of two as
    # wide the one that enters as it is.
    operands = [_entering(leaf, op, 0) for leaf in inner]
    for i, given in enumerate(op.inputs[1:], start=1):
        if given is not None and given.is_const:
            deeper: list[Leaf] = list(given.leaves or ())
            if op.op_type == "Div" and i == 1:  # γ / σ and γ / √(σ² + ε) alike
                deeper = [dataclasses.replace(leaf, divisor=True) for leaf in deeper]
            operands += [_entering(leaf, op, i) for leaf in deeper]
    unique: dict[str, Leaf] = {}
    for leaf in operands:
        known = unique.setdefault(leaf.tensor.name, leaf)
        if leaf.part == "argument" and not known.part:  # torch's softplus gives large values as they are
            unique[leaf.tensor.name] = dataclasses.replace(known, part="argument")
    found = list(unique.values())
    masks = [leaf.tensor for leaf in found if op.op_type == "Mul" and _is_mask(leaf, found)]
    found = _multiplied(found, op, is_masked=bool(masks))
    found = [dataclasses.replace(leaf, part="mask") if leaf.tensor in masks else leaf for leaf in found]
    last = ("argument", "mask")
    return sorted(found, key=lambda leaf: (leaf.part == "mask", -math.prod(leaf.layout.stored), leaf.part in last))


def _scaled_axis(leaf: Leaf, op: Op) -> int | None:
    """The axis of a stored tensor along which an operator has its scales: views may stand in between."""
    axis, rank = op.attr("axis", 1), len(leaf.layout.canonical)
    if op.op_type in QUANTISES:  # its scales have the axes of what it is given, from the last one on
        shape = static_shape(op.inputs[1]) if len(op.inputs) > 1 and op.inputs[1] is not None else None
        axis = next((i - len(shape) for i, dim in enumerate(shape) if dim > 1), 0) if shape else 0
    return leaf.layout.stored_axis(axis % rank) if rank else axis


def _in_sequence(op: Op) -> Tensor | None:
    """The tensor that SequenceAt takes of a sequence whose tensors are listed; None where that cannot be told."""
    listed = op.inputs[0].producer if op.inputs[0] is not None else None
    index = scalar_of(op.inputs[1]) if len(op.inputs) > 1 and op.inputs[1] is not None else None
    if listed is None or listed.op_type != "SequenceConstruct" or index is None:
        return None
    position = int(index)
    return listed.inputs[position] if -len(listed.inputs) <= position < len(listed.inputs) else None


def _multiplied(found: list[Leaf], op: Op, *, is_masked: bool) -> list[Leaf]:
    """The leaves of an operator with the number that it multiplies them by, where it does no more."""
    numbers = [scalar_of(given) if given is not None and _is_number(given) else None for given in op.inputs]
    number: float | None = None
    if op.op_type == "Mul" and len(numbers) == 2 and (numbers[0] is None) != (numbers[1] is None):
        number = numbers[0] if numbers[0] is not None else numbers[1]
    elif op.op_type == "Div" and len(numbers) == 2 and numbers[0] is None and numbers[1]:
        number = 1 / numbers[1]
    if number is not None and _SMALLEST <= abs(number) < math.inf:
        return [
            leaf if leaf.multiplier is None else dataclasses.replace(leaf, multiplier=leaf.multiplier * number)
            for leaf in found
        ]
    if is_masked:
        return found
    return [dataclasses.replace(leaf, multiplier=None) for leaf in found]


def _is_number(value: Tensor) -> bool:
    """Whether a value is made of single numbers alone: no norm of a weight, which changes with it."""
    return value.is_const and all(math.prod(leaf.layout.stored) == 1 for leaf in leaves(value))


def _is_mask(leaf: Leaf, leaves_of_product: list[Leaf]) -> bool:
    """Whether a tensor takes elements out of the others that it is multiplied with, as pruning does: of zeros and ones,
    or, where nothing is pruned yet, of ones for each element of a matrix or a kernel.
    """
    if leaf.part or len(leaves_of_product) < 2:
        return False
    others = [other for other in leaves_of_product if other is not leaf]
    shape = leaf.layout.stored
    return selects(leaf.tensor, whole=len(shape) > 1 and any(other.layout.stored == shape for other in others))


def _entering(leaf: Leaf, op: Op, index: int) -> Leaf:
    """A leaf with the part that it has in an operator on constants, unless it has one already."""
    if leaf.part:
        return leaf
    if op.op_type == "Where" and index == 0 and leaf.tensor.dtype == "BOOL":
        return dataclasses.replace(leaf, part="mask")
    if op.op_type in _PRODUCTS:
        # What is added behind a product (the third input of Gemm) is no factor.
        return dataclasses.replace(leaf, part="bias" if op.op_type == "Gemm" and index > 1 else "factor")
    if op.op_type == "Add" and per_channel(leaf.layout.canonical) and _is_product(op.input(1 - index)):
        return dataclasses.replace(leaf, part="bias")
    if op.op_type in _NORMS and index in (1, 2):
        return dataclasses.replace(leaf, part="gain" if index == 1 else "shift")
    return dataclasses.replace(leaf, part="argument") if op.op_type in _BENDING else leaf


def _is_product(value: Tensor | None) -> bool:
    op = value.producer if value is not None else None
    return op is not None and op.op_type in _PRODUCTS


def is_normalised(value: Tensor, name: str) -> bool:
    """Whether a stored tensor is divided by its own norm on the way to a constant value (weight normalisation).

    Weight standardisation divides by a norm, too, of what is left without the mean.
    """
    pending, seen = [value], {value}
    while pending:
        op = pending.pop().producer
        if op is None:
            continue
        if op.op_type == "ReduceMean":
            return False
        for given in op.inputs:
            if given is not None and given.is_const and given not in seen:
                seen.add(given)
                pending.append(given)
    return any(
        tensor.producer is not None
        and tensor.producer.op_type in _SQUARES
        and any(leaf.tensor.name == name for leaf in leaves(tensor))
        for tensor in seen
    )


def main_leaf(value: Tensor) -> Leaf | None:
    """The stored tensor that carries a constant value's shape, None where there is none."""
    all_leaves = leaves(value)
    return all_leaves[0] if all_leaves else None


def static_shape(value: Tensor) -> tuple[int, ...] | None:
    """Shape of a constant value, None where it cannot be told without running the model."""
    if value.stored is not None:
        return tuple(value.stored.shape)
    leaf = main_leaf(value)
    if leaf is not None and leaf.whole:
        return leaf.layout.canonical
    if value.shape is not None and all(isinstance(dim, int) for dim in value.shape):
        return tuple(int(dim) for dim in value.shape if dim is not None)
    return None


def rough_shape(value: Tensor) -> tuple[int, ...] | None:
    """`static_shape`, or where only running the model would tell, the shape of the table that a value is a piece of.

    A number taken from a list is no piece that resembles the list, () for it, and neither is the piece of one turn of a
    loop, which has an axis less.
    """
    shape = static_shape(value)
    if shape is None and _is_one_of_list(value):
        return ()
    leaf = main_leaf(value) if shape is None else None
    if leaf is None:
        return shape
    return _of_turn(value) or leaf.layout.canonical


def _is_one_of_list(value: Tensor) -> bool:
    """Whether a value is one element of a stored list: a coefficient."""
    op = value.producer
    if op is None or op.op_type != "Gather" or op.domain:
        return False
    table, index = op.input(0), op.input(1)
    stored = table.stored if table is not None else None
    return stored is not None and len(stored.shape) == 1 and index is not None and scalar_of(index) is not None


def _of_turn(value: Tensor) -> tuple[int, ...] | None:
    """The shape of the piece that one turn of a loop takes of stacked tensors; None where a value is none."""
    op = value.producer
    table = op.input(0) if op is not None else None
    shape = static_shape(table) if table is not None else None
    if op is None or not shape:
        return None
    if op.domain == "onnx_ghn" and "taken" in op.attributes:
        axis = op.attr("taken", 0)
    elif op.op_type == "Gather" and not op.domain and _is_turn(op.input(1)):
        axis = op.attr("axis", 0)
    else:
        return None
    axis %= len(shape)
    return (*shape[:axis], *shape[axis + 1 :])


def _is_turn(index: Tensor | None) -> bool:
    """Whether a whole number counts the turns of a loop: nothing makes it, and the file does not hold it."""
    return index is not None and index.is_const and index.stored is None and index.producer is None


def meets_data(tensor: Tensor) -> bool:
    """Whether data meet a stored tensor itself, or a view or piece of it, and not only what is computed from it."""
    pending = [tensor]
    while pending:
        for op in pending.pop().consumers:
            if not all(output.is_const for output in op.outputs):
                return True
            if not op.domain and op.op_type in _SAME | RESHAPE_OPERATORS | _PIECE | {"Transpose"}:
                pending += op.outputs
    return False


def unrepeated(value: Tensor) -> Tensor:
    """The constant that an Expand or Tile repeats as often as the data say (a bias, a class token, for a free batch).

    Any other value is itself.
    """
    op = value.producer
    if value.is_const or op is None or op.domain or op.op_type not in ("Expand", "Tile"):
        return value
    given = op.input(0)
    return given if given is not None and given.is_const else value


def per_channel(shape: tuple[int, ...] | None) -> bool:
    """Whether a shape is that of one number per channel: exactly one dimension above 1."""
    return shape is not None and sum(dim > 1 for dim in shape) == 1


def _transposed(leaf: Leaf, op: Op) -> Leaf:
    rank = len(leaf.layout.canonical)
    perm = op.attr("perm") or list(range(rank))[::-1]
    if sorted(perm) != list(range(rank)):
        return dataclasses.replace(leaf, whole=False)
    return dataclasses.replace(leaf, layout=leaf.layout.transpose(tuple(int(axis) for axis in perm)))


def _reshaped(leaf: Leaf, op: Op) -> Leaf:
    # Of a piece the shape is not known: the axes and sizes are not meant for the whole tensor.
    target = _target_shape(leaf.layout.canonical, op) if leaf.whole else None
    if target is None or math.prod(target) != math.prod(leaf.layout.canonical):
        return dataclasses.replace(leaf, whole=False)
    return dataclasses.replace(leaf, layout=leaf.layout.reshape(target))


def _target_shape(shape: tuple[int, ...], op: Op) -> tuple[int, ...] | None:
    axes_input = op.input(1)
    if op.op_type == "Flatten":
        axis = op.attr("axis", 1) % (len(shape) + 1)
        return (math.prod(shape[:axis]), math.prod(shape[axis:]))
    if op.op_type == "Reshape":
        wanted = ints_of(axes_input) if axes_input is not None else op.attr("shape")
        if wanted is None:
            return (math.prod(shape),) if makes_vector(op) else None
        copies = not op.attr("allowzero", 0)
        sizes = [shape[i] if dim == 0 and i < len(shape) and copies else dim for i, dim in enumerate(wanted)]
        if -1 in sizes:
            rest = math.prod(dim for dim in sizes if dim != -1)
            if rest == 0 or math.prod(shape) % rest:
                return None
            sizes[sizes.index(-1)] = math.prod(shape) // rest
        return tuple(sizes)
    axes = ints_of(axes_input) if axes_input is not None else op.attr("axes")
    if op.op_type == "Squeeze":
        if axes is None:
            return tuple(dim for dim in shape if dim != 1)
        drop = {axis % len(shape) for axis in axes} if shape else set()
        return tuple(dim for i, dim in enumerate(shape) if i not in drop)
    if axes is None:
        return None
    rank = len(shape) + len(axes)
    added = {axis % rank for axis in axes}
    if len(added) != len(axes):
        return None
    rest_dims = iter(shape)
    return tuple(1 if i in added else next(rest_dims) for i in range(rank))
