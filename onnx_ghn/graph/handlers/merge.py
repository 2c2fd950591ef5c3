"""Add, Mul, Concat: sums and concatenations, gates, biases and scales written as arithmetic, tables."""

from __future__ import annotations

import math

import numpy as np

from onnx_ghn.graph.context import FLOAT_TYPES, BuildContext, vector
from onnx_ghn.graph.flat import Leaf, Op, Tensor
from onnx_ghn.graph.folding import ints_of, scalar_of
from onnx_ghn.graph.handlers.biases import is_bias_of_heads, is_row_of_biases, is_single_bias
from onnx_ghn.graph.handlers.quantised import is_integral, makes_scale
from onnx_ghn.graph.handlers.written_norms import prepares, shift_parts, written_norm
from onnx_ghn.graph.layout import Layout
from onnx_ghn.graph.model import Primitive
from onnx_ghn.graph.neighbours import activation_before, behind_views, is_self_gated, is_squeeze, next_ops
from onnx_ghn.graph.parameter import SCORES, Role
from onnx_ghn.graph.tables import looks_constant
from onnx_ghn.graph.weights import leaves, main_leaf, per_channel, rough_shape, static_shape, unrepeated

__all__ = ["add", "concat", "multiply"]

_AFFINE = "a scale and a shift without statistics: those of a frozen norm may be in them"
_SHARE = "the share of one of two values that are mixed: they start as their author chose"
_TURNED = "factors that are all negative turn round what they scale: they start as their author chose"
_ONE_BY_ONE = frozenset(
    {"Relu", "LeakyRelu", "Elu", "Tanh", "Sigmoid", "Softmax", "Transpose", "Cast", "Identity", "Dropout"}
)
_MEANS = frozenset({"ReduceMean", "GlobalAveragePool", "AveragePool", "ReduceSum"})


def add(ctx: BuildContext, op: Op) -> None:
    """Add and Sum: a sum node where two or more nodes meet, a bias, or a position table."""
    given = _operands(op)
    data = [t for t in given if not t.is_const]
    sources = ctx.union(data)
    tables: list[frozenset[int]] = []
    for constant in (t for t in given if t.is_const):
        shape = rough_shape(constant)
        is_bias = (
            per_channel(shape)
            or is_single_bias(ctx, constant, shape, sources)
            or is_bias_of_heads(ctx, op, shape, sources)
            or is_row_of_biases(op, constant)
        )
        if is_bias:
            if len(data) != 1 or not prepares(ctx, data[0], constant):
                sources = _bias(ctx, op, constant, sources)
        elif shape is not None and sum(dim > 1 for dim in shape) > 1:
            tables += _table(ctx, op, constant)
    for table in tables:
        sources = sources | table
    # One value that stems from several nodes (attention scores and their mask) is no meeting of nodes.
    if len(sources) > 1 and sum(bool(ctx.sources(t)) for t in data) + len(tables) > 1:
        sources = ctx.add_node(Primitive.sum, sources, name=op.name)
    ctx.finish(op, sources)


def concat(ctx: BuildContext, op: Op) -> None:
    """Concat: a node where two or more nodes meet. A constant part (a class token) keeps its own initialisation."""
    for constant in (t for t in _operands(op) if t.is_const):
        leaf = main_leaf(constant)
        if leaf is not None and any(ctx.sources(t) for t in op.inputs) and not looks_constant(leaf.tensor):
            reason = "a token that is joined to the data: no operator weighs with it"
            ctx.claim(constant, Role.position, op, reason=reason, doubt=reason)
    sources = ctx.union(op.inputs)
    if len(sources) > 1 and sum(bool(ctx.sources(t)) for t in op.inputs) > 1:
        sources = ctx.add_node(Primitive.concat, sources, name=op.name)
    ctx.finish(op, sources)


def multiply(ctx: BuildContext, op: Op) -> None:
    """Mul and Div: a gate (cse), a normalisation's scale, a layer scale, or nothing."""
    given = _operands(op)
    data = [t for t in given if not t.is_const]
    constants = [t for t in given if t.is_const]
    sources = ctx.union(op.inputs)
    if any(is_integral(tensor) for tensor in data) or makes_scale(op):
        ctx.claim_quantised(constants, op)
    elif constants and len(data) == 1 and sources:
        shape = static_shape(constants[0])
        axes = _dotted_axes(op, constants[0], shape) if shape is not None and op.op_type == "Mul" else ()
        if axes:
            sources = _dotted(ctx, op, constants[0], sources, axes)
        elif per_channel(shape) and not prepares(ctx, data[0], constants[0]):
            sources = _scale(ctx, op, constants[0], sources)
        elif op.op_type == "Mul" and _is_gain(ctx, constants[0]):
            ctx.claim(constants[0], Role.norm_scale, op, vector, reason="a gain of each element: no node decodes it")
    elif op.op_type == "Mul" and len(data) == 2 and len(sources) > 1 and _is_gate(ctx, op):
        sources = ctx.add_node(Primitive.cse, sources, name=op.name)
    ctx.finish(op, sources)


def _is_gain(ctx: BuildContext, constant: Tensor) -> bool:
    """Whether a table is learned and lies around one, as factors do that leave what they scale as it is at first.

    A single number taken from it is none: tables of coefficients (of a rational activation, say) are read so.

    Only where the file says that it is learned: windows and maps of sensitivities have such values, too.
    """
    leaf = main_leaf(constant)
    stored = leaf.tensor.stored if leaf is not None else None
    if stored is None or stored.name not in ctx.learned or stored.is_absent or leaf is None:
        return False
    if len(stored.shape) < 2 and not leaf.whole:
        return False
    if leaf.tensor.dtype not in FLOAT_TYPES or math.prod(stored.shape) < 2 or leaf.part == "argument":
        return False
    values = np.asarray(stored.numpy()).astype(np.float64)
    return bool(abs(values.mean() - 1) < 0.5 and values.std() < 0.5)


def _operands(op: Op) -> list[Tensor]:
    """What an operator joins. Constants that are repeated for a free batch are constants, if anything else is data."""
    given = [tensor for tensor in op.inputs if tensor is not None]
    seen = [unrepeated(tensor) for tensor in given]
    return given if all(tensor.is_const for tensor in seen) else seen


def _dotted_axes(op: Op, constant: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Axes of a constant over which its product with data is summed: x · w written as arithmetic. None: ()."""
    users = op.outputs[0].consumers
    if len(users) != 1 or users[0].op_type != "ReduceSum":
        return ()
    given = users[0].input(1)
    summed = ints_of(given) if given is not None else users[0].attr("axes")
    data = next((t for t in op.inputs if t is not None and not t.is_const), None)
    rank = max(_rank(data), len(shape)) if _rank(data) else 0
    offset = len(shape) - rank if rank else 0  # of the constant's axes, which are the last ones of the product's
    axes = {axis + (len(shape) if axis < 0 else offset) for axis in summed or () if axis < 0 or rank}
    found = tuple(sorted(axis for axis in axes if 0 <= axis < len(shape) and shape[axis] > 1))
    leaf = main_leaf(constant)
    if not per_channel(shape) and (leaf is None or looks_constant(leaf.tensor)):
        return ()
    return found


def _rank(tensor: Tensor | None, steps: int = 8) -> int:
    """The number of axes of a value, where the file declares it or the operators before tell it; else 0."""
    if tensor is None or tensor.shape is not None or tensor.producer is None or not steps:
        return len(tensor.shape or ()) if tensor is not None else 0
    op = tensor.producer
    if op.op_type == "Reshape":
        given = op.input(1)
        return len((ints_of(given) if given is not None else op.attr("shape")) or ())
    if op.op_type in _ONE_BY_ONE:
        return _rank(op.input(0), steps - 1)
    if op.op_type in ("Squeeze", "Unsqueeze"):
        given = op.input(1)
        axes = ints_of(given) if given is not None else op.attr("axes")
        before = _rank(op.input(0), steps - 1)
        return before + len(axes or ()) * (1 if op.op_type == "Unsqueeze" else -1) if before and axes else 0
    return 0


def _dotted(
    ctx: BuildContext, op: Op, constant: Tensor, sources: frozenset[int], axes: tuple[int, ...]
) -> frozenset[int]:
    """A weight with an output for each element of the axes that are left: of a head of graph attention, of a pixel."""

    def canonical(layout: Layout) -> Layout:
        shape = layout.canonical
        kept = [axis for axis in range(len(shape)) if axis not in axes]
        outputs, inputs = (math.prod(shape[axis] for axis in some) for some in (kept, axes))
        return layout.transpose((*kept, *axes)).reshape((outputs, inputs))

    claim = ctx.claim(constant, Role.weight, op, canonical)
    if claim.shape is None or _is_not_float(ctx, constant):
        return sources
    return ctx.add_node(Primitive.conv, sources, name=claim.name, shape=claim.shape, weight=claim.index)


def _bias(ctx: BuildContext, op: Op, constant: Tensor, sources: frozenset[int]) -> frozenset[int]:
    if not sources:
        return sources
    claim = ctx.claim(constant, Role.bias, op, vector)
    if claim.shape is None or _is_not_float(ctx, constant):
        return sources
    return ctx.add_node(Primitive.bias, sources, name=claim.name, shape=claim.shape, shift=claim.index)


def _table(ctx: BuildContext, op: Op, constant: Tensor) -> list[frozenset[int]]:
    """A table that is added: positions, or a bias of attention scores. [sources of its node], or []."""
    leaf = main_leaf(constant)
    if leaf is None or looks_constant(leaf.tensor):
        return []
    after = next_ops(op.outputs[0])
    if any(user.op_type in ("Softmax", "Where") for user in after) or any(
        user.op_type == "Add" and any(n.op_type == "Softmax" for n in next_ops(user.outputs[0])) for user in after
    ):
        ctx.claim(constant, Role.position, op, reason=SCORES, doubt=SCORES)
        return []
    claim = ctx.claim(constant, Role.position, op, _positions)
    if claim.shape is None or _is_not_float(ctx, constant):
        return []
    return [
        ctx.add_node(
            Primitive.pos_enc, frozenset(), name=claim.name, shape=claim.shape, weight=claim.index, rooted=False
        )
    ]


def _positions(layout: Layout) -> Layout:
    """A position table as 1 × positions × features, or 1 × features × h × w."""
    shape = layout.canonical
    if len(shape) == 2:
        return layout.reshape((1, *shape))
    if len(shape) in (3, 4) and shape[0] == 1:
        return layout
    raise ValueError(f"no position table: {shape}")


def _scale(ctx: BuildContext, op: Op, constant: Tensor, sources: frozenset[int]) -> frozenset[int]:
    """A per-channel factor: of a normalisation as Mul + Add, or a layer scale on what came before.

    The normalisation may be of groups of channels (Flax): then a view, back to the channels, stands between.
    """
    factors, more = _factors(op, constant)
    ctx.absorbed.update(more)
    shift_op = _shift_after(more[-1] if more else op)
    normalises = any(ctx.is_statistic(leaf) for leaf in factors)
    data = next((t for t in op.inputs if t is not None and not t.is_const), None)
    is_normal = behind_views(data)[0] in ctx.bare_norms
    doubt = "" if normalises or shift_op is None or is_normal else _AFFINE
    if op.op_type == "Div" and not normalises:
        return sources  # x / constant: input preprocessing, no layer is written so
    for leaf in factors:
        if leaf.part == "argument":
            ctx.register(leaf, Role.other, op, leaf.layout)
        elif _is_share(leaf.tensor):
            ctx.register(leaf, Role.other, op, leaf.layout, reason=_SHARE, doubt=_SHARE)
        elif _turns(leaf.tensor):
            ctx.register(leaf, Role.norm_scale, op, vector(leaf.layout), reason=_TURNED, doubt=_TURNED)
        elif leaf.divisor:  # claimed first, so that the scale's own claim cannot take it for a gain
            ctx.register(leaf, Role.statistic, op, vector(leaf.layout))
    own = [
        leaf
        for leaf in factors
        if not (leaf.divisor or leaf.part == "argument" or _is_share(leaf.tensor) or _turns(leaf.tensor))
    ]
    scale_leaf = next(iter(own), None)
    scale = None
    if scale_leaf is not None:
        scale = ctx.register(scale_leaf, Role.norm_scale, op, vector(scale_leaf.layout), doubt=doubt)
    if shift_op is None and not normalises and not is_normal:
        return _attach_scale(ctx, scale, sources)
    shift, shift_name, means = None, "", list[Leaf]()
    if shift_op is not None:
        ctx.absorbed.add(shift_op)
        shift_constant = next(t for t in shift_op.inputs if t is not None and t.is_const)
        alone, means = shift_parts(shift_constant, factors) if normalises else (leaves(shift_constant), [])
        for leaf in alone[:1]:
            shift_name = leaf.tensor.name
            shift = ctx.register(leaf, Role.norm_bias, shift_op, vector(leaf.layout), doubt=doubt)
        for leaf in (*alone[1:], *means):  # β − μ·γ/σ
            ctx.register(leaf, Role.statistic, shift_op, vector(leaf.layout))
    if normalises:
        products = [constant, *(t for each in more for t in each.inputs if t is not None and t.is_const)]
        ctx.norms.append(written_norm(ctx, op, products, factors, shift_name, means, sources))
    shape = static_shape(constant)
    n = max(shape) if shape else 1
    primitive = Primitive.ln if is_normal else Primitive.bn
    return ctx.add_node(primitive, sources, name=constant.name, shape=(n,), scale=scale, shift=shift)


def _is_share(tensor: Tensor) -> bool:
    """Whether a stored tensor is taken from one, too: m · x + (1 − m) · y, as RWKV mixes each token with the last."""
    for op in tensor.consumers:
        whole = op.input(0)
        if op.op_type == "Sub" and op.input(1) is tensor and whole is not None and whole.is_const:
            return scalar_of(whole) == 1
    return False


def _turns(tensor: Tensor) -> bool:
    """Whether stored factors are all negative: those of a distance (exp(−γ·d²)), whose sign an exporter folded."""
    stored = tensor.stored
    if stored is None or stored.is_absent or tensor.dtype not in FLOAT_TYPES:
        return False
    return bool((np.asarray(stored.numpy()).astype(np.float32) < 0).all())


def _wide(found: list[Leaf]) -> list[Leaf]:
    """Without the single numbers (ε, the 1 of a reciprocal), where something else is left."""
    return [leaf for leaf in found if math.prod(leaf.layout.stored) > 1] or found


def _factors(op: Op, constant: Tensor) -> tuple[list[Leaf], list[Op]]:
    """What a per-channel product multiplies by, and the products after it that belong to the same layer.

    (x − μ) / √(σ² + ε) · γ: two products, where one has the root and the other the gain.
    """
    factors = _wide(leaves(constant))
    more: list[Op] = []
    while len(users := op.outputs[0].consumers) == 1 and users[0].op_type in ("Mul", "Div"):
        op = users[0]
        constants = [t for t in op.inputs if t is not None and t.is_const]
        if len(constants) != 1 or not per_channel(static_shape(constants[0])):
            break
        further = _wide(leaves(constants[0]))
        before, after = ({leaf.divisor for leaf in some} for some in (factors, further))
        if before & after or len(before | after) != 2:
            break
        factors, more = [*factors, *further], [*more, op]
    return factors, more


def _attach_scale(ctx: BuildContext, scale: int | None, sources: frozenset[int]) -> frozenset[int]:
    """Let the one node before a layer scale decode it: a bias node uses only the second row of the 1-D decoder."""
    if scale is None:
        return sources
    if len(sources) == 1:
        (number,) = sources
        if ctx.nodes[number].scale is None and number:
            ctx.attach(number, scale=scale)
            return sources
    name = list(ctx.parameters)[scale]
    ctx.describe(name, reason="a scale of what several nodes make: no node decodes it")
    return sources


def _shift_after(op: Op) -> Op | None:
    """The Add of a per-channel constant that alone reads this product."""
    users = op.outputs[0].consumers
    if len(users) != 1 or users[0].op_type != "Add":
        return None
    constants = [t for t in users[0].inputs if t is not None and t.is_const]
    return users[0] if len(constants) == 1 and per_channel(static_shape(constants[0])) else None


def _is_gate(ctx: BuildContext, op: Op) -> bool:
    """Whether a product of data gates one operand by the other, as the rule set reads it."""
    if is_self_gated(op):
        return False
    rule = ctx.rules.gate
    if rule == "squeezed":
        return _is_squeezed(op.input(0), op.input(1)) or _is_squeezed(op.input(1), op.input(0))
    for operand in op.inputs:
        activation, n_views = activation_before(operand)
        if rule == "viewed_hard" and activation == "hard" and n_views:
            return True
        if rule == "sigmoid" and activation in ("hard", "sigmoid"):
            return True
    return False


def _is_squeezed(gate: Tensor | None, gated: Tensor | None) -> bool:
    """Whether `gate` is computed from a mean of `gated`."""
    origin, _ = behind_views(gated)
    ahead, seen = [gate], 0
    while ahead and seen < 48:
        tensor = ahead.pop()
        producer = tensor.producer if tensor is not None else None
        seen += 1
        if producer is None:
            continue
        if producer.op_type in _MEANS and behind_views(producer.input(0))[0] is origin:
            return is_squeeze(producer)
        ahead.extend(t for t in producer.inputs if t is not None and not t.is_const and t is not origin)
    return False


def _is_not_float(ctx: BuildContext, constant: Tensor) -> bool:
    leaf = main_leaf(constant)
    return leaf is None or leaf.tensor.name not in ctx.parameters
