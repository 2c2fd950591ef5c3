"""Recurrent layers and embedding tables."""

from __future__ import annotations

import math

import numpy as np

from onnx_ghn.graph.context import FLOAT_TYPES, BuildContext, vector
from onnx_ghn.graph.flat import Op, Tensor
from onnx_ghn.graph.layout import Layout
from onnx_ghn.graph.model import Primitive
from onnx_ghn.graph.neighbours import next_ops
from onnx_ghn.graph.parameter import Role
from onnx_ghn.graph.tables import looks_constant
from onnx_ghn.graph.weights import main_leaf
from onnx_ghn.onnx_io.view_operators import VIEW_OPERATORS

__all__ = ["embed_layer_norm", "gather", "prelu", "recurrent", "sliced", "table", "token"]

_VIEWS = VIEW_OPERATORS | {"Expand", "Tile", "Slice"}
_CHOSEN = "rows that the network chooses itself, as those of a codebook: they start as their author chose"


def recurrent(ctx: BuildContext, op: Op) -> None:
    """LSTM, GRU, RNN: input weights, recurrent weights and biases, each a node.

    Stored directions × gates·hidden × in; canonical (directions·gates·hidden) × in.
    """

    def stacked(layout: Layout) -> Layout:
        if len(layout.canonical) == 2:  # one direction of several, joined in the model (torch)
            return layout
        directions, gates, features = layout.canonical
        return layout.reshape((directions * gates, features))

    sources = ctx.sources(op.input(0))
    for weight in (op.input(1), op.input(2)):
        nodes = [
            ctx.add_node(Primitive.conv, sources, name=claim.name, shape=claim.shape, weight=claim.index)
            for claim in ctx.claim_parts(weight, Role.weight, op, stacked)
        ]
        sources = frozenset().union(*nodes) if nodes else sources
    biases = [
        ctx.add_node(Primitive.bias, sources, name=claim.name, shape=claim.shape, shift=claim.index)
        for claim in ctx.claim_parts(op.input(3), Role.bias, op, vector)
    ]
    sources = frozenset().union(*biases) if biases else sources
    _keep_second_biases(ctx, op)
    for state in op.inputs[5:7]:
        if _are_untold_zeros(ctx, state):
            continue  # the ledger lists them as what may be learned
        ctx.claim(state, Role.other, op, vector, reason="an initial state: no operator weighs with it")
    ctx.claim(op.input(7), Role.other, op, vector, reason="peephole weights: no primitive stands for them")
    ctx.finish(op, sources | ctx.union(op.inputs[5:7]))


def _are_untold_zeros(ctx: BuildContext, state: Tensor | None) -> bool:
    """Whether a first state is stored as zeros, and nothing says that they are learned, or frozen: most are not."""
    leaf = main_leaf(state) if state is not None and state.is_const else None
    stored = leaf.tensor.stored if leaf is not None else None
    if stored is None or stored.name in ctx.learned or stored.name in ctx.frozen:
        return False
    if stored.is_absent or stored.kind == "constant_of_shape":
        return False
    return not np.asarray(stored.numpy()).any()


def _keep_second_biases(ctx: BuildContext, op: Op) -> None:
    """Where a framework has one bias and the operator takes two, which it adds, the second one is zeros.

    Stored directions × (2·gates·hidden): the biases of the inputs, then those of the state. Of zeros in both nothing
    tells which is which. A GRU that multiplies by the reset gate behind the product (Keras's default, torch's) has two.
    """
    given = op.input(3)
    leaf = main_leaf(given) if given is not None else None
    stored = leaf.tensor.stored if leaf is not None and leaf.whole else None
    parameter = ctx.parameters.get(stored.name) if stored is not None else None
    if stored is None or parameter is None or parameter.op != op.op_type or len(stored.shape) != 2:
        return
    if parameter.kept or parameter.frozen or stored.name in ctx.learned or stored.is_absent or stored.shape[1] % 2:
        return
    if op.op_type == "GRU" and op.attr("linear_before_reset", 0):
        return
    directions, both = stored.shape
    values = np.asarray(stored.numpy()).reshape(directions, 2, both // 2)  # (directions, 2, gates·hidden)
    if values[:, 1].any() or not values[:, 0].any(axis=1).all():
        return
    kept = tuple((both * direction + both // 2, both * (direction + 1)) for direction in range(directions))
    ctx.describe(stored.name, kept=kept)


def gather(ctx: BuildContext, op: Op) -> None:
    """Gather from a constant table is an embedding (pos_enc, as in GHN-3); from data, nothing."""
    table = op.input(0)
    leaf = main_leaf(table) if table is not None and table.is_const else None
    if leaf is None or len(leaf.layout.canonical) < 2 or looks_constant(leaf.tensor):
        ctx.drop(op)
        return
    rows = op.attr("axis", 0)

    def canonical(layout: Layout) -> Layout:
        rank = len(layout.canonical)
        axis = rows % rank
        moved = layout.transpose((axis, *(i for i in range(rank) if i != axis)))
        n_rows = moved.canonical[0]
        return moved.reshape((n_rows, math.prod(moved.canonical[1:])))

    chosen = _CHOSEN if _chooses(op.input(1)) else ""
    claim = ctx.claim(table, Role.embedding, op, canonical, doubt=chosen)
    if claim.shape is None:
        ctx.drop(op)
        return
    sources = ctx.sources(op.input(1))
    ctx.finish(
        op, ctx.add_node(Primitive.pos_enc, sources, name=leaf.tensor.name, shape=claim.shape, weight=claim.index)
    )


def table(ctx: BuildContext, op: Op) -> None:
    """GatherElements and GatherND from a constant table: learned, but its rows are read element by element."""
    data = op.input(0)
    leaf = main_leaf(data) if data is not None and data.is_const else None
    if leaf is not None and len(leaf.layout.canonical) > 1 and not looks_constant(leaf.tensor):
        reason = f"a table that {op.op_type} reads: no primitive stands for it"
        ctx.claim(data, Role.embedding, op, reason=reason, doubt=_CHOSEN if _chooses(op.input(1)) else "")
    ctx.drop(op)


def sliced(ctx: BuildContext, op: Op) -> None:
    """Slice of a learned table up to a length that the data have: positions, where the rows are added to the data."""
    table, out = op.input(0), op.outputs[0]
    leaf = main_leaf(table) if table is not None and table.is_const and not out.is_const else None
    shape = leaf.layout.canonical if leaf is not None else ()
    if leaf is None or len(shape) < 2 or math.prod(shape[:-2]) > 1 or looks_constant(leaf.tensor) or not _is_added(out):
        ctx.drop(op)
        return
    claim = ctx.claim(table, Role.position, op, lambda layout: layout.reshape((1, *layout.canonical[-2:])))
    if claim.shape is None:
        ctx.drop(op)
        return
    node = ctx.add_node(
        Primitive.pos_enc, frozenset(), name=claim.name, shape=claim.shape, weight=claim.index, rooted=False
    )
    ctx.finish(op, node)


def _is_added(value: Tensor) -> bool:
    """Whether all that reads a value, seen otherwise, adds it to data, and not to scores of attention."""
    pending, times = [value], 0
    while pending:
        one = pending.pop()
        for op in one.consumers:
            if op.domain:
                return False
            if op.op_type in ("Shape", "Size"):
                continue
            if op.op_type in _VIEWS and op.input(0) is one:
                pending += op.outputs
            elif op.op_type in ("Add", "Sum") and not any(
                n.op_type in ("Softmax", "Where") for n in next_ops(op.outputs[0])
            ):
                times += 1
            else:
                return False
    return times > 0


def _chooses(indices: Tensor | None) -> bool:
    """Whether indices are those of the largest or smallest of what the network computed, outside of loops.

    So are they of the rows of a codebook (VQ-VAE). In a loop they are words that a decoder goes on with.
    """
    while indices is not None and indices.producer is not None:
        op = indices.producer
        if op.op_type in ("ArgMax", "ArgMin", "TopK") and not op.domain:
            return not op.body
        if op.domain or op.op_type not in _VIEWS:
            return False
        indices = op.input(0)
    return False


def token(ctx: BuildContext, op: Op) -> None:
    """Where and ScatterND that put a learned vector in the place of data: a mask token."""
    given = op.inputs[1:3] if op.op_type == "Where" else op.inputs[2:3]
    if ctx.union(op.inputs):
        for constant in (t for t in given if t is not None and t.is_const):
            leaf = main_leaf(constant)
            if leaf is not None and _is_learned(leaf.tensor):
                ctx.claim(constant, Role.position, op, reason="a token in the place of data: nothing weighs with it")
    ctx.drop(op)


def _is_learned(tensor: Tensor) -> bool:
    """Several different values, and no mask or grid: a fill has one value only."""
    stored = tensor.stored
    if stored is None or stored.kind == "constant_of_shape" or stored.is_absent or looks_constant(tensor):
        return False
    return tensor.dtype in FLOAT_TYPES and np.unique(np.asarray(stored.numpy()).reshape(-1)[:64]).size > 2


def embed_layer_norm(ctx: BuildContext, op: Op) -> None:
    """com.microsoft EmbedLayerNormalization: tables of words, places and segments (or none) summed, then normalised."""
    tables: frozenset[int] = frozenset()
    for index, table in enumerate(op.inputs[2:5]):
        claim = ctx.claim(table, Role.position if index == 1 else Role.embedding, op)
        if table is not None and claim.shape is not None:
            tables |= ctx.add_node(
                Primitive.pos_enc, frozenset(), name=claim.name, shape=claim.shape, weight=claim.index
            )
    summed = ctx.add_node(Primitive.sum, tables, name=op.name) if len(tables) > 1 else tables
    scale = ctx.claim(op.input(5), Role.norm_scale, op, vector)
    shift = ctx.claim(op.input(6), Role.norm_bias, op, vector)
    ctx.finish(
        op, ctx.add_node(Primitive.ln, summed, name=op.name, shape=scale.shape, scale=scale.index, shift=shift.index)
    )


def prelu(ctx: BuildContext, op: Op) -> None:
    """PRelu: its slopes are trainable and no GHN predicts them."""
    ctx.claim(op.input(1), Role.other, op, reason="slopes of PRelu: no primitive stands for them")
    ctx.finish(op, ctx.sources(op.input(0)))
