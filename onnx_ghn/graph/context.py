"""What the operator handlers share while a graph is built: nodes so far, parameters, and where values stem from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from onnx_ghn.graph.flat import FLOAT_TYPES, QUANTISED_TYPES, FlatGraph, Leaf, Op, Tensor
from onnx_ghn.graph.layout import Layout
from onnx_ghn.graph.model import Node, Primitive, RunningNorm
from onnx_ghn.graph.parameter import ONE_TENSOR, REPARAMETRISES, Flattened, Parameter, Role
from onnx_ghn.graph.rules import GraphRules
from onnx_ghn.graph.spectral import singular_vectors
from onnx_ghn.graph.tables import looks_constant
from onnx_ghn.graph.weights import is_normalised, leaves, meets_data, static_shape

if TYPE_CHECKING:
    from onnx_ghn.onnx_io.marks import Ranges

__all__ = ["FLOAT_TYPES", "QUANTISED_TYPES", "BuildContext", "Claim", "numpy_name", "vector"]

_FACTOR = "a factor of a weight that the model makes of several: they start as their author chose"
_ARGUMENT = "what a function makes of it weighs, not its own values: they start as their author chose"
_SINGULAR = "a vector by which the weight is divided by its largest singular value (spectral normalisation)"
_LEARNED = "the file calls it a parameter, which stands where a norm has its statistics"
_STARTS = "it is joined to others before data meet it: the state that a recurrence starts from"
_ADDED = frozenset({Role.bias, Role.position})
_ROLE_OF_PART: Mapping[str, Role] = {"gain": Role.norm_scale, "shift": Role.norm_bias, "bias": Role.bias}
_NO_SOURCES: frozenset[int] = frozenset()


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a node gets of a constant: the parameter that it decodes (None where another node does), shape, name."""

    index: int | None
    shape: tuple[int, ...] | None
    name: str = ""


class BuildContext:
    """State of one build. Handlers read operators through it and add nodes to it.

    `sources` of a value are the nodes that reach it through dropped operators: a node made from a value gets an
    edge from each of them. Integers and booleans carry none (no gradient flows there), so that
    shape arithmetic and masks leave no trace in the graph. `bare_norms` are the outputs of norms, written as
    arithmetic or as batch norms of computed statistics, that have no scale and no shift of their own.
    """

    def __init__(
        self,
        flat: FlatGraph,
        rules: GraphRules,
        frozen: Mapping[str, Ranges] | None = None,
        made: Collection[str] = (),
        *,
        learned: Collection[str] = (),
        repeated: Mapping[str, int] | None = None,
        joins_cuts: bool = False,
    ) -> None:
        """Start a build.

        Args:
            frozen: elements of stored tensors that the framework does not train; see `onnx_io.marks`.
            made: stored names of tensors that are no parameters, whatever reads them; see `onnx_io.provenance`.
            learned: stored names of those that the file calls parameters.
            repeated: for stored names, how many elements another place of the file holds, too; see `onnx_io.repeated`.
            joins_cuts: operators without a gradient (comparisons, integers) join what enters them to what leaves them,
                as any other operator does.
        """
        self.flat = flat
        self.frozen = frozen or {}
        self.made = made
        self.learned = learned
        self.repeated = repeated or {}
        self.joins_cuts = joins_cuts
        self.rules = rules
        self.nodes: list[Node] = []
        self.edges: list[tuple[int, int]] = []
        self.parameters: dict[str, Parameter] = {}
        self.norms: list[RunningNorm] = []
        self.bare_norms: set[Tensor] = set()
        self.uncertain: list[Parameter] = []
        self.constants: list[Parameter] = []
        self.absorbed: set[Op] = set()
        self.scales_of_integers: set[str] = set()  # stored names of single numbers that go with quantised weights
        self.has_gates = False
        self._sources: dict[Tensor, frozenset[int]] = {}
        self._index: dict[str, int] = {}

    # -- where values stem from ------------------------------------------------------------------------

    def sources(self, tensor: Tensor | None) -> frozenset[int]:
        """Nodes that a value stems from; none for constants, integers and omitted inputs."""
        return _NO_SOURCES if tensor is None else self._sources.get(tensor, _NO_SOURCES)

    def union(self, tensors: Iterable[Tensor | None]) -> frozenset[int]:
        """Nodes that any of several values stems from."""
        sources = _NO_SOURCES
        for tensor in tensors:
            more = self.sources(tensor)
            if more is not sources:
                sources = more if not sources else sources | more
        return sources

    def set_sources(self, tensor: Tensor, sources: frozenset[int]) -> None:
        """Say where a value stems from."""
        self._sources[tensor] = sources

    def finish(self, op: Op, sources: frozenset[int]) -> None:
        """All outputs of an operator stem from these nodes."""
        for tensor in op.outputs:
            self._sources[tensor] = sources

    def drop(self, op: Op) -> None:
        """The operator is no node: what enters it is joined to what leaves it."""
        self.finish(op, self.union(op.inputs))

    # -- nodes -----------------------------------------------------------------------------------------

    def add_node(
        self,
        primitive: Primitive,
        sources: frozenset[int],
        *,
        name: str,
        shape: tuple[int, ...] | None = None,
        weight: int | None = None,
        scale: int | None = None,
        shift: int | None = None,
        rooted: bool = True,
    ) -> frozenset[int]:
        """Append a node with an edge from each source, and return it as the sources of what it computes.

        A node without sources is fed by the graph's input (whose type is an integer, say), unless it is not
        `rooted`: a position table, which nothing feeds.
        """
        number = len(self.nodes)
        self.nodes.append(Node(primitive, shape, weight, scale, shift, name))
        if not sources and rooted and number:
            sources = frozenset({0})
        self.edges.extend((source, number) for source in sorted(sources))
        return frozenset({number})

    def attach(self, number: int, **slots: int) -> None:
        """Let a node decode one more parameter (`scale=` or `shift=`)."""
        self.nodes[number] = self.nodes[number]._replace(**slots)  # type: ignore[arg-type]

    # -- parameters ------------------------------------------------------------------------------------

    def claim(
        self,
        value: Tensor | None,
        role: Role,
        op: Op,
        canonical: Callable[[Layout], Layout] | None = None,
        reason: str = "",
        doubt: str = "",
    ) -> Claim:
        """Register the tensors behind a constant input as parameters of that role.

        Args:
            value: what the operator reads; nothing happens where it is None or not constant.
            canonical: from the layout of that value to the canonical one.
            reason: why nothing decodes it, where nothing does.
            doubt: see `Parameter`.

        Returns:
            the parameter's index for the node that is to decode it, and its canonical shape.
        """
        if value is None or not value.is_const:
            return Claim(None, None)
        all_leaves = leaves(value)
        if not all_leaves:
            return Claim(None, static_shape(value), value.name)
        if len(all_leaves) > 1 and role in _ADDED and any(meets_data(leaf.tensor) for leaf in all_leaves):
            # The first step of a recurrence, whose state is a constant: what data meet later is claimed there.
            for leaf in all_leaves:
                if not meets_data(leaf.tensor):
                    self.register(leaf, Role.other, op, leaf.layout, _STARTS, _STARTS)
            return Claim(None, static_shape(value), value.name)
        main, *others = all_leaves
        layout, problem = _canonical(main, canonical)
        if main.tensor.dtype in QUANTISED_TYPES and main.dequantize is None:  # a weight quantised by arithmetic
            self.claim_quantised([value], op)
            return Claim(None, layout.canonical, main.tensor.name)
        if why := {"factor": _FACTOR, "argument": _ARGUMENT}.get(main.part):
            reason, doubt = reason or why, doubt or why
        index = self.register(main, role, op, layout, reason or problem, doubt)
        singular = singular_vectors(value) if any(leaf.part == "factor" for leaf in others) else {}
        for leaf in others:
            name = leaf.tensor.stored.name if leaf.tensor.stored is not None else ""
            if leaf.part == "mask" and name not in self.learned:
                continue  # `ledger` enters it as a constant
            if name in singular:
                if self.register(leaf, Role.statistic, op, leaf.layout, _SINGULAR) is not None:
                    self.parameters[name] = dataclasses.replace(self.parameters[name], singular=singular[name])
                continue
            if leaf.part == "argument":
                self.register(leaf, Role.other, op, leaf.layout)
                continue
            why = f"{REPARAMETRISES} {main.tensor.name}" if main.whole else f"{ONE_TENSOR}{main.tensor.name}"
            flat, _ = _canonical(leaf, None if main.whole else canonical)
            if leaf.part == "factor":
                if self._may_be_learned(leaf):
                    self.register(leaf, Role.weight, op, leaf.layout, _FACTOR, _FACTOR)
                continue
            is_norm = _is_norm_of(leaf, main) and is_normalised(value, main.tensor.name)
            if math.prod(leaf.layout.stored) == 1 and not is_norm and leaf.tensor.name not in self.learned:
                continue  # a number of the code: 0, which paddle2onnx adds to the kernel of a 1-D convolution
            other_role = _ROLE_OF_PART.get(leaf.part, Role.norm_scale if main.whole else role)
            found = self.register(leaf, Role.statistic if leaf.divisor else other_role, op, flat, why)
            if found is not None and is_norm:
                self.describe(leaf.tensor.name, magnitude_of=main.tensor.name)
        return Claim(index if not (reason or problem) else None, layout.canonical, main.tensor.name)

    def claim_parts(
        self, value: Tensor | None, role: Role, op: Op, canonical: Callable[[Layout], Layout] | None = None
    ) -> list[Claim]:
        """Like `claim`, but a constant that is joined from several tensors (a gate's weights reordered, query, key and
        value side by side) gives a claim for each of them.
        """
        parts = leaves(value) if value is not None and value.is_const else []
        unpacked = any(leaf.tensor.dtype in QUANTISED_TYPES and leaf.dequantize is None for leaf in parts[:1])
        if len(parts) < 2 or unpacked or any(leaf.whole for leaf in parts):
            claim = self.claim(value, role, op, canonical)
            return [claim] if claim.shape is not None else []
        claims = []
        for leaf in parts:
            layout, problem = _canonical(leaf, canonical)
            index = self.register(leaf, role, op, layout, problem)
            claims.append(Claim(index if not problem else None, layout.canonical, leaf.tensor.name))
        return claims

    def claim_quantised(self, values: Iterable[Tensor | None], op: Op) -> None:
        """Register what belongs to a quantised weight: its integers, and scales and zero points, which are no weights.

        None of them is predicted or drawn anew: one without the others means nothing.
        """
        for value in values:
            for leaf in leaves(value) if value is not None and value.is_const else ():
                if leaf.tensor.dtype in QUANTISED_TYPES:
                    reason = "quantised weights: a GHN predicts floats"
                elif leaf.tensor.dtype in FLOAT_TYPES:
                    reason = "belongs to quantised weights, as their scale does"
                else:
                    continue
                if math.prod(leaf.layout.stored) > 1:
                    self.register(leaf, Role.other, op, leaf.layout, reason)
                elif leaf.tensor.stored is not None and leaf.tensor.dtype in FLOAT_TYPES:
                    self.scales_of_integers.add(leaf.tensor.stored.name)

    def register(self, leaf: Leaf, role: Role, op: Op, layout: Layout, reason: str = "", doubt: str = "") -> int | None:
        """Make one stored tensor a parameter. None where it is one already, or holds neither floats nor weights.

        A logarithm of scales has not the role of a scale. What the file calls a parameter is no statistic, unless the
        operator itself says so: equal parameters and statistics may have been merged.
        """
        stored = leaf.tensor.stored
        if stored is None or stored.name in self.parameters or math.prod(layout.stored) == 0:
            return None
        if stored.name in self.made and stored.name not in self.frozen:
            return None
        # Of numbers without an axis, slopes alone are sure to be learned.
        if not layout.stored and op.op_type != "PRelu":
            return None
        quantized = leaf.dequantize
        is_integer = leaf.tensor.dtype in QUANTISED_TYPES and role is Role.other
        if leaf.tensor.dtype not in FLOAT_TYPES and quantized is None and not is_integer:
            return None
        if leaf.part == "argument":
            role, reason, doubt = role if role is Role.weight else Role.other, _ARGUMENT, _ARGUMENT
        elif role is Role.statistic and stored.name in self.learned and op.op_type != "BatchNormalization":
            role, reason = Role.other, _LEARNED
        scale = _stored_name(quantized.input(1)) if quantized is not None else None
        self.parameters[stored.name] = Parameter(
            name=stored.name,
            role=role,
            layout=layout,
            dtype=numpy_name(leaf.tensor.dtype),
            storage=stored.kind,
            op=op.op_type,
            reason=reason,
            doubt=doubt,
            scale_name=scale,
            zero_point_name=_stored_name(quantized.input(2)) if quantized is not None else None,
            quantization_axis=leaf.scaled_axis,
            frozen=stored.name in self.frozen and self.frozen[stored.name] is None,
            kept=self.frozen.get(stored.name) or (),
            repeated=self.repeated.get(stored.name, 0),
            multiplier=leaf.multiplier if leaf.multiplier is not None else 1.0,
        )
        self._index[stored.name] = len(self._index)
        return self._index[stored.name]

    def is_statistic(self, leaf: Leaf) -> bool:
        """Whether a tensor enters as the variance of a norm does, and neither through a function that no norm has, nor
        as what the file calls a parameter.
        """
        stored = leaf.tensor.stored
        return leaf.divisor and leaf.part != "argument" and (stored is None or stored.name not in self.learned)

    def _may_be_learned(self, leaf: Leaf) -> bool:
        """Whether the file calls a tensor a parameter, or it looks like one: a network of positions is given a grid."""
        stored = leaf.tensor.stored
        return (stored is not None and stored.name in self.learned) or not looks_constant(leaf.tensor)

    def account(self, row: Parameter) -> None:
        """Enter a stored tensor that no operator's handler claimed: what may be learned, or a constant."""
        if row.role is Role.constant:
            self.constants.append(row)
        elif row.uncertain:
            self.uncertain.append(row)
        else:
            self.parameters[row.name] = row
            self._index[row.name] = len(self._index)

    def describe(
        self,
        name: str,
        *,
        reason: str | None = None,
        flattened: Flattened | None = None,
        magnitude_of: str | None = None,
        kept: Ranges = None,
        doubt: str = "",
    ) -> None:
        """Say more of a parameter: why nothing decodes it, the map that its inputs are, whose norms it holds, which of
        its elements nobody trains, or why its values stay.
        """
        parameter = self.parameters[name]
        self.parameters[name] = dataclasses.replace(
            parameter,
            reason=parameter.reason if reason is None else reason,
            flattened=parameter.flattened if flattened is None else flattened,
            magnitude_of=parameter.magnitude_of if magnitude_of is None else magnitude_of,
            kept=parameter.kept if kept is None else kept,
            doubt=doubt or parameter.doubt,
        )

    def parameter_list(self) -> tuple[Parameter, ...]:
        """All parameters, in the order of their indices."""
        return tuple(self.parameters.values())


def _is_norm_of(leaf: Leaf, main: Leaf) -> bool:
    """Whether the shape of a tensor is that of the norms of another one: the same axes, some of them of length 1."""
    norms, whole = leaf.layout.stored, main.layout.stored
    return (
        len(norms) == len(whole) and norms != whole and all(n in (1, dim) for n, dim in zip(norms, whole, strict=True))
    )


def numpy_name(dtype: str) -> str:
    """The name that numpy has for a type, from that of an ir.DataType."""
    return {"FLOAT": "float32", "DOUBLE": "float64"}.get(dtype, dtype.lower())


def vector(layout: Layout) -> Layout:
    """The canonical layout of a scale or a bias: 1-D."""
    return layout.reshape((math.prod(layout.canonical),))


def _canonical(leaf: Leaf, canonical: Callable[[Layout], Layout] | None) -> tuple[Layout, str]:
    if canonical is None:
        return leaf.layout, ""
    try:
        return canonical(leaf.layout), ""
    except (ValueError, IndexError):
        return leaf.layout, f"its shape {leaf.layout.stored} does not fit the operator"


def _stored_name(tensor: Tensor | None) -> str | None:
    if tensor is None:
        return None
    all_leaves = leaves(tensor)
    stored = all_leaves[0].tensor.stored if all_leaves else None
    return stored.name if stored is not None else None
