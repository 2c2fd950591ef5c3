"""An ONNX model as one flat list of operators: functions inlined, bodies of If / Loop / Scan walked.

The flat graph is a view for reading: nothing of the ir.Model is changed, and every tensor it stores keeps
the name under which `onnx_io.stored_tensors` lists it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from onnx_ghn.errors import GraphError
from onnx_ghn.graph.flat import FlatGraph, Op, Tensor
from onnx_ghn.graph.folding import makes_vector
from onnx_ghn.onnx_io.provenance import changes_state

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["flatten"]

_N_WITHOUT_STATISTICS = 3  # what a batch norm is given, its scale and its shift
_MAX_CALL_DEPTH = 64
_MAX_OPS = 1_000_000  # functions that call functions multiply: a few KB can stand for 10^12 operators
_WITH_BODIES = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_RANDOM = frozenset({"RandomNormal", "RandomUniform", "Multinomial", "Bernoulli"})


def flatten(model: ir.Model, stored: dict[str, StoredTensor], starts: Collection[str] = ()) -> FlatGraph:
    """Flatten a model.

    Args:
        model: as `onnx_io.read_model` gives it.
        stored: its stored tensors, `onnx_io.stored_tensors(model)`.
        starts: stored names of zeros that the computation starts from (a state, an accumulator): they are data, so that
            what multiplies them is a weight.

    Raises:
        GraphError: a value that nothing produces, or functions that call each other without end.
    """
    return _Flattener(model, stored, starts).run()


class _Flattener:
    def __init__(self, model: ir.Model, stored: dict[str, StoredTensor], starts: Collection[str]) -> None:
        self.model = model
        self.starts = starts
        self.by_value = {id(tensor.value): tensor for tensor in stored.values() if tensor.value is not None}
        # One Tensor for each stored tensor, also when a function that holds it is called many times.
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[Op] = []
        self.links: list[tuple[Tensor, Tensor]] = []
        self.within = ""  # the operator whose body is walked
        self.n_nodes = 0  # visited, those of functions once for each call

    def run(self) -> FlatGraph:
        graph = self.model.graph
        scope: dict[int, Tensor] = {}
        inputs = []
        for value in graph.inputs:
            stored = self.by_value.get(id(value))
            if stored is not None:
                scope[id(value)] = self._stored(stored)
            else:
                tensor = _from_value(value)
                scope[id(value)] = tensor
                inputs.append(tensor)
        self._body(graph, scope, {}, 0)
        outputs = [self._lookup(value, scope, "the graph's outputs") for value in graph.outputs]
        return FlatGraph(self.ops, inputs, outputs, graph.name or "", self.tensors, self.links)

    def _stored(self, stored: StoredTensor) -> Tensor:
        tensor = self.tensors.get(stored.name)
        if tensor is None:
            tensor = Tensor(stored.name, tuple(stored.shape), stored.dtype.name)
            tensor.stored = stored
            tensor.is_const = stored.name not in self.starts
            self.tensors[stored.name] = tensor
        return tensor

    def _lookup(self, value: ir.Value, scope: dict[int, Tensor], where: str) -> Tensor:
        tensor = scope.get(id(value))
        if tensor is not None:
            return tensor
        stored = self.by_value.get(id(value))
        if stored is not None:
            return self._stored(stored)
        raise GraphError(
            f"value {value.name!r}, used by {where}, is produced by no operator before it: export the model again"
        )

    def _body(
        self, body: ir.Graph | ir.Function, scope: dict[int, Tensor], call_attrs: Mapping[str, ir.Attr], depth: int
    ) -> None:
        if depth > _MAX_CALL_DEPTH:
            raise GraphError(
                f"functions or subgraphs nest deeper than {_MAX_CALL_DEPTH}: the file calls itself without end"
            )
        for node in body:
            self.n_nodes += 1
            if self.n_nodes > _MAX_OPS:
                raise GraphError(
                    f"more than {_MAX_OPS:,} operators once functions are expanded: export the model without functions"
                )
            if node.outputs and id(node.outputs[0]) in self.by_value:
                continue  # a Constant or ConstantOfShape that is listed as a stored tensor
            where = f"{node.op_type} node {node.name!r}"
            inputs = [None if v is None else self._lookup(v, scope, where) for v in node.inputs]
            attributes = _resolve(node, call_attrs)
            function = self.model.functions.get(node.op_identifier())
            if function is not None:
                outputs = self._call(function, inputs, attributes, depth)
            elif node.domain in ("", "ai.onnx") and node.op_type in _WITH_BODIES:
                outputs = self._control(node, inputs, attributes, scope, call_attrs, depth)
            else:
                outputs = [_from_value(value) for value in node.outputs]
                if _measures_its_own(node, attributes) and all(tensor is None or tensor.is_const for tensor in inputs):
                    inputs = inputs[:_N_WITHOUT_STATISTICS]
                self._emit(node.op_type, node.domain, node.name or "", inputs, outputs, attributes)
            for value, tensor in zip(node.outputs, outputs, strict=False):
                scope[id(value)] = tensor

    def _call(
        self, function: ir.Function, inputs: Sequence[Tensor | None], attributes: Mapping[str, ir.Attr], depth: int
    ) -> list[Tensor]:
        inner: dict[int, Tensor] = {}
        for i, value in enumerate(function.inputs):
            given = inputs[i] if i < len(inputs) else None
            inner[id(value)] = given if given is not None else Tensor("")
        merged = {**dict(function.attributes), **attributes}
        self._body(function, inner, merged, depth + 1)
        return [self._lookup(value, inner, f"function {function.name!r}") for value in function.outputs]

    def _control(
        self,
        node: ir.Node,
        inputs: list[Tensor | None],
        attributes: Mapping[str, ir.Attr],
        scope: dict[int, Tensor],
        call_attrs: Mapping[str, ir.Attr],
        depth: int,
    ) -> list[Tensor]:
        """Walk the bodies in the outer scope; each output joins what may come out there."""
        ends: list[list[Tensor]] = []
        turns = _Turns(node, attributes)
        deciding = [t for t in inputs[: {"If": 1, "Loop": 2}.get(node.op_type, 0)] if t is not None]
        n_skip = 0
        for name in ("then_branch", "else_branch", "body"):
            attribute = attributes.get(name)
            if attribute is None:
                continue
            body = attribute.as_graph()
            inner = dict(scope)
            if node.op_type == "Loop":  # body: iteration, condition, carried values; node: M, cond, carried values
                bound: list[Tensor | None] = [None, None, *inputs[2:]]
                n_skip = 1
            else:  # Scan: states and scanned tensors in order; SequenceMap: a tensor of each sequence; If: no inputs
                bound = [] if node.op_type == "If" else list(inputs)
            for i, value in enumerate(body.inputs):
                given = bound[i] if i < len(bound) else None
                fresh, entry = _from_value(value), turns.entry(i)
                if given is not None:
                    self._emit("Join", "onnx_ghn", node.name or "", [given], [fresh], entry)
                if name == "body" and value.dtype is not None and value.dtype.is_floating_point():
                    # A state is data, though the file holds the one before the first turn: what multiplies it is a
                    # weight.
                    fresh.is_const = fresh.is_const and "changed" not in entry
                elif node.op_type == "Loop" and i == 0:
                    # The number of the turn is no data: by it layers take their piece of a stored tensor.
                    fresh.is_const = True
                inner[id(value)] = fresh
            outside, self.within = self.within, node.op_type
            self._body(body, inner, call_attrs, depth + 1)
            self.within = outside
            ended = [self._lookup(v, inner, f"{node.op_type} node {node.name!r}") for v in body.outputs]
            # Each output but the scanned ones is the next turn's input; a Loop's first is no output.
            if node.op_type in ("Loop", "Scan"):
                states = body.inputs[n_skip : len(body.inputs) - turns.n_scanned]
                self.links += zip(ended, (inner[id(value)] for value in states), strict=False)
                deciding += ended[:n_skip]
            ends.append(ended[n_skip:])
        outputs = []
        for i, value in enumerate(node.outputs):
            tensor = _from_value(value)
            joined: list[Tensor | None] = [branch[i] for branch in ends if i < len(branch)]
            self._emit("Join", "onnx_ghn", node.name or "", joined, [tensor], turns.exit(i))
            tensor.is_const = False
            outputs.append(tensor)
            self.links += [(condition, tensor) for condition in deciding]
        return outputs

    def _emit(
        self,
        op_type: str,
        domain: str,
        name: str,
        inputs: Iterable[Tensor | None],
        outputs: list[Tensor],
        attributes: Mapping[str, ir.Attr],
    ) -> None:
        called = name or (outputs[0].name if outputs else "")
        op = Op(op_type, domain, called, list(inputs), outputs, attributes, self.within)
        given = [tensor for tensor in op.inputs if tensor is not None]
        if op_type == "CastLike" or (op_type == "Reshape" and makes_vector(op)):  # the second lends its type, its size
            given = given[:1]
        if given and op_type not in _RANDOM and all(tensor.is_const for tensor in given):
            for tensor in outputs:
                tensor.is_const = True
        self.ops.append(op)


def _measures_its_own(node: ir.Node, attributes: Mapping[str, ir.Attr]) -> bool:
    """Whether a batch norm takes the statistics of what it is given, and nothing asks for those that it would keep.

    So torch's first exporter writes kernels that are standardised, beside statistics of a copy of the kernel.
    """
    mode = attributes.get("training_mode")
    return (
        node.op_type == "BatchNormalization"
        and node.domain in ("", "ai.onnx")
        and mode is not None
        and mode.value == 1
        and not any(value.uses() or value.is_graph_output() for value in node.outputs[1:])
    )


class _Turns:
    """Along which axes a Loop or a Scan takes pieces of its inputs, turn by turn, and stacks what its body gives."""

    def __init__(self, node: ir.Node, attributes: Mapping[str, ir.Attr]) -> None:
        scanned = attributes.get("num_scan_inputs") if node.op_type == "Scan" else None
        self._node = node
        self.n_scanned = scanned.as_int() if scanned is not None else 0
        #: How many inputs, and then outputs, are handed from turn to turn; an If has no turns.
        self.n_carried = {"Loop": len(node.inputs) - 2, "Scan": len(node.inputs) - self.n_scanned}.get(node.op_type)
        self._axes = {
            name: list(attributes[name].as_ints()) if name in attributes else []
            for name in ("scan_input_axes", "scan_output_axes")
        }

    def entry(self, index: int) -> Mapping[str, ir.Attr]:
        """Of an input of a body: that the turns change it, or that each takes its piece, and along which axis."""
        if self.n_carried is None:
            return {}
        if not self.n_scanned or index < self.n_carried:
            return _number("changed", 1) if changes_state(self._node, index) else {}
        return self._axis("taken", "scan_input_axes", index - self.n_carried)

    def exit(self, index: int) -> Mapping[str, ir.Attr]:
        """Of an output: the axis along which the turns are stacked, if they are."""
        if self.n_carried is None or index < self.n_carried:
            return {}
        return self._axis("stacked", "scan_output_axes", index - self.n_carried)

    def _axis(self, name: str, among: str, index: int) -> Mapping[str, ir.Attr]:
        axes = self._axes[among]
        return _number(name, axes[index] if index < len(axes) else 0)


def _number(name: str, value: int) -> Mapping[str, ir.Attr]:
    import onnx_ir as ir

    return {name: ir.AttrInt64(name, value)}


def _from_value(value: ir.Value) -> Tensor:
    shape = None
    if value.shape is not None:
        shape = tuple(dim if isinstance(dim, int) else None for dim in value.shape)
    return Tensor(value.name or "", shape, value.dtype.name if value.dtype is not None else "")


def _resolve(node: ir.Node, call_attrs: Mapping[str, ir.Attr]) -> Mapping[str, ir.Attr]:
    attributes = node.attributes
    if not any(attribute.is_ref() for attribute in attributes.values()):
        return attributes
    resolved = {}
    for name, attribute in attributes.items():
        if attribute.is_ref():
            given = call_attrs.get(attribute.ref_attr_name or "")
            if given is not None and given.value is not None:
                resolved[name] = given
        else:
            resolved[name] = attribute
    return resolved
