"""build_graph: an ONNX model -> the ComputationGraph that a GHN reads."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.errors import GraphError, OnnxGhnError
from onnx_ghn.graph.context import FLOAT_TYPES, QUANTISED_TYPES, BuildContext
from onnx_ghn.graph.flat import FlatGraph, Op
from onnx_ghn.graph.flatten import flatten
from onnx_ghn.graph.frequencies import FREQUENCIES, frequencies
from onnx_ghn.graph.handlers.normalisation import decomposed_norm
from onnx_ghn.graph.ledger import complete, reached_tensors
from onnx_ghn.graph.model import ComputationGraph, Node, Primitive
from onnx_ghn.graph.neighbours import is_hard_gate, is_self_gated
from onnx_ghn.graph.parameter import Role
from onnx_ghn.graph.patterns import find_norms
from onnx_ghn.graph.primitives import Handler, handler_table
from onnx_ghn.graph.rules import graph_rules
from onnx_ghn.graph.weights import leaves, static_shape

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["build_graph", "graph_of", "read_graph"]

logger = logging.getLogger(__name__)


def build_graph(
    source: str | os.PathLike[str] | onnx.ModelProto | ir.Model,
    rules: str = "onnx",
    *,
    base_dir: str | os.PathLike[str] | None = None,
) -> ComputationGraph:
    """Read the computational graph of an ONNX model.

    Args:
        source: a file, a ModelProto, or an ir.Model, which is not changed; the three give the same graph.
        rules: `ppuda` or `ghn3` for the graphs of the published systems, `onnx` for ours.
        base_dir: where the external data of a ModelProto lie; for a file, its folder. Data that are lost become a
            warning of the log: a graph takes shapes alone.

    Returns:
        the graph in topological order: node 0 is the input; all trainable tensors are in `parameters`.

    Raises:
        ModelReadError: the file cannot be read.
        GraphError: a value is used that nothing produces, or an operator that breaks its own rules.
    """
    from onnx_ghn.onnx_io.absent import absent_note
    from onnx_ghn.passes import open_model

    opened = open_model(source, base_dir=base_dir)
    if absent := absent_note(opened.stored.values()):
        logger.warning("%s", absent)
    return graph_of(opened.model, opened.stored, rules)


def graph_of(model: ir.Model, stored: dict[str, StoredTensor], rules: str) -> ComputationGraph:
    """`build_graph` for a model whose stored tensors are known. Raises GraphError."""
    return read_graph(model, stored, rules)[0]


def read_graph(model: ir.Model, stored: dict[str, StoredTensor], rules: str) -> tuple[ComputationGraph, FlatGraph]:
    """`graph_of`, and the operators that the graph was read from. Raises GraphError."""
    from onnx_ghn.onnx_io.marks import frozen_tensors, noted_constants
    from onnx_ghn.onnx_io.provenance import provenance

    with _as_graph_error("the graph"):
        frozen = frozen_tensors(model, stored)
        known = provenance(model, stored, frozen)
        # A mask of zeros that `strip` noted is no bias of scores: what it noted is read as in the file before.
        for name in noted_constants(model, stored):
            frozen.pop(name, None)
        flat = flatten(model, stored, known.zeros)
        table = handler_table()
        start = functools.partial(
            BuildContext,
            flat,
            graph_rules(rules),
            frozen,
            known.made,
            learned=known.learned,
            repeated=known.repeated,
        )
        ctx = start()
        _read(ctx, table)
        reached = reached_tensors(flat)
        alive = _alive(ctx)
        if _lost(ctx, alive) & reached:  # weights before a comparison, a rounding, an ArgMax: no gradient, but a way
            ctx = start(joins_cuts=True)
            _read(ctx, table)
            alive = _alive(ctx)
        for name in frequencies(flat) & ctx.parameters.keys():
            ctx.describe(name, doubt=FREQUENCIES)
        complete(ctx, stored, known, reached)
        return _with_statistics(_prune(ctx, alive, reached), known.traced), flat


@contextlib.contextmanager
def _as_graph_error(what: str) -> Iterator[None]:
    """Handlers rely on the arity and the attribute types that ONNX prescribes, and nobody has checked those:
    onnx.checker would take as long as all the rest. Where a file breaks them, this says where.
    """
    from onnx_ghn.onnx_io.read import EXPECTED

    try:
        yield
    except OnnxGhnError:
        raise
    except EXPECTED as error:
        raise GraphError(
            f"{what} breaks the rules of its operators ({type(error).__name__}: {error}); "
            "check the model with onnx.checker"
        ) from error


def _read(ctx: BuildContext, table: dict[tuple[str, str], Handler]) -> None:
    """One pass over the operators in topological order."""
    ctx.add_node(Primitive.input, frozenset(), name="input")
    for tensor in ctx.flat.inputs:
        ctx.set_sources(tensor, frozenset({0}) if tensor.dtype in FLOAT_TYPES or not tensor.dtype else frozenset())
    ctx.has_gates = any(is_hard_gate(op) or (op.op_type == "Sigmoid" and not _activates(op)) for op in ctx.flat.ops)
    norms = find_norms(ctx.flat)
    exits = {match.exit.producer: match for match in norms}
    inside = {op for match in norms for op in match.ops}
    ctx.bare_norms.update(match.exit for match in norms if match.scale is None and match.shift is None)
    for op in ctx.flat.ops:
        if all(tensor.is_const for tensor in op.outputs) and op.outputs:
            continue
        if op in exits:
            ctx.finish(op, decomposed_norm(ctx, exits[op]))
        elif op in inside or op in ctx.absorbed:
            ctx.drop(op)
        else:
            with _as_graph_error(f"{op.op_type} node {op.name!r}"):
                table.get((op.domain, op.op_type), _unknown)(ctx, op)


def _activates(sigmoid: Op) -> bool:
    """Whether a Sigmoid is half of x · σ(x)."""
    users = sigmoid.outputs[0].consumers
    return bool(users) and all(user.op_type == "Mul" and is_self_gated(user) for user in users)


def _unknown(ctx: BuildContext, op: Op) -> None:
    """An operator that nobody knows stops nothing: its tensors are kept, its neighbours are joined."""
    where = f"{op.domain}::{op.op_type}" if op.domain else op.op_type
    constants = [tensor for tensor in op.inputs if tensor is not None and tensor.is_const]
    if any(leaf.tensor.dtype in QUANTISED_TYPES for tensor in constants for leaf in leaves(tensor)):
        ctx.claim_quantised(constants, op)
    for tensor in constants:
        shape = static_shape(tensor)
        if shape is not None and np.prod(shape) > 1:
            role = Role.weight if len(shape) > 1 else Role.other
            reason = f"operator {where} is not in the table"
            ctx.claim(tensor, role, op, reason=reason, doubt=reason)
    ctx.drop(op)


def _alive(ctx: BuildContext) -> set[int]:
    """The nodes from which a path leads to an output."""
    before: list[list[int]] = [[] for _ in ctx.nodes]
    for source, target in ctx.edges:
        before[target].append(source)
    alive = set(ctx.union(ctx.flat.outputs)) | {0}
    stack = list(alive)
    while stack:
        for source in before[stack.pop()]:
            if source not in alive:
                alive.add(source)
                stack.append(source)
    return alive


def _lost(ctx: BuildContext, alive: Collection[int]) -> set[str]:
    """Names of the parameters of nodes from which no path leads to an output."""
    names = list(ctx.parameters)
    return {names[i] for number, node in enumerate(ctx.nodes) if number not in alive for i in node.parameters}


def _prune(ctx: BuildContext, alive: Collection[int], reached: Collection[str]) -> ComputationGraph:
    """Leave out nodes through which no path leads to an output, and say so of their parameters."""
    remaining = sorted(alive)
    number = {old: new for new, old in enumerate(remaining)}
    nodes: list[Node] = [ctx.nodes[old] for old in remaining]
    edges = [(number[a], number[b]) for a, b in ctx.edges if a in alive and b in alive]
    names = list(ctx.parameters)
    for old, node in enumerate(ctx.nodes):
        if old not in alive:
            for index in node.parameters:
                lost = "no path leads through it to an output"
                unread = "the way from it to an output is one that no primitive stands for"
                ctx.describe(names[index], reason=unread if names[index] in reached else lost)
    if ctx.rules.mean_before_head:
        nodes = _mean_before_head(nodes, edges)
    return ComputationGraph(
        nodes=tuple(nodes),
        edges=np.array(edges, dtype=np.int64).reshape(-1, 2),
        parameters=ctx.parameter_list(),
        name=ctx.flat.name,
        norms=tuple(ctx.norms),
        uncertain=tuple(ctx.uncertain),
        constants=tuple(ctx.constants),
    )


def _with_statistics(graph: ComputationGraph, traced: Collection[str]) -> ComputationGraph:
    """The graph, in which running statistics are frozen where their norm is: its scale and its shift say so.

    Statistics are marked in any layer of a framework, since no gradient trains them. So are the ones and zeros that an
    exporter writes for a norm without scale and shift, which say nothing of its layer.

    Args:
        traced: names of the tensors that hold weights of the framework's model; none where the file does not say.
    """
    frozen = {parameter.name for parameter in graph.parameters if parameter.frozen}
    kept: set[str] = set()
    for norm in graph.norms:
        learned = [name for name in (norm.scale, norm.shift) if name and (not traced or name in traced)]
        if learned and frozen.issuperset(learned):
            kept |= {norm.mean, norm.variance}
    parameters = tuple(
        dataclasses.replace(p, frozen=p.name in kept, kept=()) if p.role is Role.statistic and p.frozen else p
        for p in graph.parameters
    )
    return dataclasses.replace(graph, parameters=parameters)


def _mean_before_head(nodes: list[Node], edges: list[tuple[int, int]]) -> list[Node]:
    """... -> classifier weight -> classifier bias -> mean becomes ... -> mean -> weight -> bias."""
    n = len(nodes)
    if n < 4 or [node.primitive for node in nodes[-3:]] != [Primitive.conv, Primitive.bias, Primitive.glob_avg]:
        return nodes
    chain = [(n - 3, n - 2), (n - 2, n - 1)]
    if [edge for edge in edges if edge[0] >= n - 3] != chain or sum(edge[1] == n - 1 for edge in edges) != 1:
        return nodes
    return [*nodes[:-3], nodes[-1], *nodes[-3:-1]]
