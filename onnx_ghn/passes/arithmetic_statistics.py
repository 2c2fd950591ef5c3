"""Batch norms written as arithmetic that normalise by the statistics of the batch, and give these out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import onnx_ir as ir

from onnx_ghn.onnx_io.attributes import attribute_tensor
from onnx_ghn.passes.measuring import Layer, MeasuredModel, Measuring, drop_if_unused, stored_name

__all__ = ["ArithmeticNorm", "UseBatchStatisticsInArithmetic"]

_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div"})
_PRODUCTS = frozenset({"Mul", "Div"})
_SAME = frozenset({"Cast", "Identity"})
_STANDARD = ("", "ai.onnx")
_MAX_STEPS = 16  # between the operators of one norm

#: What an operator of a norm does with its data, in the order in which they follow each other.
_CENTRES, _SCALES, _SHIFTS = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class ArithmeticNorm:
    """The stored names of a norm's statistics, and the axis of its channels, counted from the last (-1)."""

    mean: str
    variance: str
    axis: int


@dataclasses.dataclass(frozen=True)
class _Entry:
    """Where something that is computed from statistics meets the data."""

    node: ir.Node
    place: int  # of the constant among the inputs
    does: int

    @property
    def data(self) -> ir.Value | None:
        return self.node.inputs[1 - self.place]


class UseBatchStatisticsInArithmetic(ir.passes.InPlacePass):
    """Lets norms that are written as arithmetic normalise by the statistics of the batch, which become further outputs.

    What is computed from stored statistics alone is computed again from the measured ones, once for each value that is
    normalised. A norm whose operators are others than sums and products in the main graph is left as it is. The changes
    are the names of the new outputs.
    """

    def __init__(self, norms: Sequence[ArithmeticNorm]) -> None:
        super().__init__()
        self._norms = norms

    def call(self, model: ir.Model) -> MeasuredModel:
        """Rewrite the model in place."""
        graph = model.graph
        if not self._norms:
            return MeasuredModel(model, modified=False)
        constants = _Constants(graph)
        layers: list[Layer] = []
        for norm in dict.fromkeys(self._norms):
            for root, entries in _uses(norm, constants):
                layers.append(_replace(graph, norm, root, entries, constants, len(layers)))
        if not layers:
            return MeasuredModel(model, modified=False)
        graph.sort()  # what a norm's first operator now reads may have stood behind it
        changes = tuple(name for layer in layers for name in layer.outputs)
        return MeasuredModel(model, True, changes, tuple(layers))


class _Constants:
    """Which values of a graph depend on stored tensors alone."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._stored: dict[str, list[ir.Value]] = {}
        self._constant: set[int] = set()
        self.order: dict[ir.Node, int] = {}
        for value in graph.initializers.values():
            if value.const_value is not None:
                self._add(value)
        for number, node in enumerate(graph):
            self.order[node] = number
            if all(given is None or id(given) in self._constant for given in node.inputs) and _computes(node):
                for output in node.outputs:
                    self._add(output)

    def _add(self, value: ir.Value) -> None:
        self._constant.add(id(value))
        self._stored.setdefault(stored_name(value), []).append(value)

    def __contains__(self, value: ir.Value | None) -> bool:
        return value is not None and id(value) in self._constant

    def stored(self, name: str) -> list[ir.Value]:
        """The values that hold a stored tensor: several, where the function that holds it was inlined repeatedly."""
        return [value for value in self._stored.get(name, ()) if _content(value) is not None]

    def statistics(self, norm: ArithmeticNorm) -> list[ir.Value]:
        """Values that hold its mean and its variance."""
        return [*self.stored(norm.mean), *self.stored(norm.variance)]

    def readers(self, values: Sequence[ir.Value]) -> dict[tuple[ir.Node, int], bool] | None:
        """Where data meet what is computed from values, each with true; nodes in between with false.

        None where something else becomes of them.
        """
        found: dict[tuple[ir.Node, int], bool] = {}
        pending = list(values)
        while pending:
            value = pending.pop()
            if value.is_graph_output():
                return None
            for use in value.uses():
                if (use.node, use.idx) in found:
                    continue
                if use.node.graph is not self._graph:
                    return None
                between = use.node.outputs[0] in self
                found[use.node, use.idx] = not between
                if between:
                    pending.extend(use.node.outputs)
        return found


def _computes(node: ir.Node) -> bool:
    """Whether a node gives the same each time: no random number, and no body, which may read anything."""
    if node.op_type.startswith("Random") or node.op_type in ("Bernoulli", "Multinomial"):
        return False
    return all(
        attribute.type not in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
        for attribute in node.attributes.values()
    )


def _content(value: ir.Value) -> tuple[list[int], int] | None:
    """Shape and element type of a stored tensor; None where a value is none."""
    node = value.producer()
    tensor = value.const_value
    if node is not None:
        attribute = node.attributes.get("value")
        if node.op_type == "ConstantOfShape":
            shape = node.inputs[0].const_value if node.inputs and node.inputs[0] is not None else None
            if shape is None and node.inputs and node.inputs[0] is not None:
                inner = node.inputs[0].producer()
                given = inner.attributes.get("value") if inner is not None and inner.op_type == "Constant" else None
                shape = attribute_tensor(given) if given is not None else None
            if shape is None:
                return None
            dtype = ir.DataType.FLOAT if attribute is None else attribute_tensor(attribute).dtype
            return [int(dim) for dim in shape.numpy().reshape(-1)], int(dtype)
        if node.op_type != "Constant" or attribute is None or attribute.type != ir.AttributeType.TENSOR:
            return None
        tensor = attribute_tensor(attribute)
    if tensor is None:
        return None
    return [int(dim) for dim in tensor.shape.numpy()], int(tensor.dtype)


def _uses(norm: ArithmeticNorm, constants: _Constants) -> list[tuple[ir.Value, list[_Entry]]]:
    """The values that a norm normalises, each with the operators that do it; none where they are not understood."""
    of_mean = constants.readers(constants.stored(norm.mean))
    of_variance = constants.readers(constants.stored(norm.variance))
    if not of_mean or not of_variance:
        return []
    entries: dict[ir.Node, _Entry] = {}
    for (node, place), meets_data in {**of_mean, **of_variance}.items():
        if not meets_data:
            continue
        depends_on_variance = (node, place) in of_variance
        does = _what(node, place, (node, place) in of_mean, depends_on_variance)
        if does is None or node in entries or node.inputs[1 - place] in constants:
            return []
        entries[node] = _Entry(node, place, does)
    groups: dict[int, tuple[ir.Value, list[_Entry]]] = {}
    for entry in entries.values():
        root = _root(entry, entries, constants)
        if root is None:
            return []
        groups.setdefault(id(root), (root, []))[1].append(entry)
    for _, group in groups.values():
        done = {entry.does for entry in group}
        if _SCALES not in done or len(done) != 2:  # half a norm
            return []
    return list(groups.values())


def _what(node: ir.Node, place: int, of_mean: bool, of_variance: bool) -> int | None:
    """What an operator does with its data by a constant that depends on the mean, the variance, or both."""
    if node.op_type not in _ARITHMETIC or node.domain not in _STANDARD or len(node.inputs) != 2:
        return None
    if node.op_type in _PRODUCTS:
        return _SCALES if of_variance and not of_mean and (place == 1 or node.op_type == "Mul") else None
    if of_mean and of_variance:
        return _SHIFTS if place == 1 or node.op_type == "Add" else None
    return _CENTRES if of_mean and node.op_type == "Sub" and place == 1 else None


def _root(entry: _Entry, entries: dict[ir.Node, _Entry], constants: _Constants) -> ir.Value | None:
    """The value that a norm normalises: the data of its first operator."""
    root = value = entry.data
    does = entry.does
    for _ in range(_MAX_STEPS):
        node = value.producer() if value is not None else None
        if node is None:
            break
        before = entries.get(node)
        if before is not None:
            if before.does >= does:
                break  # another use of the same norm
            root = value = before.data
            does = before.does
        elif node.op_type in _SAME and node.domain in _STANDARD:
            value = node.inputs[0]
        elif (
            node.op_type in _PRODUCTS
            and len(node.inputs) == 2
            and (node.inputs[0] in constants) != (node.inputs[1] in constants)
        ):
            value = node.inputs[1] if node.inputs[0] in constants else node.inputs[0]  # the scale, perhaps
        else:
            break
    return root


def _replace(
    graph: ir.Graph,
    norm: ArithmeticNorm,
    root: ir.Value,
    entries: Sequence[_Entry],
    constants: _Constants,
    number: int,
) -> Layer:
    """Let the operators of one use of a norm read measured statistics."""
    measuring = Measuring(f"onnx_ghn_arithmetic_{number}", graph.opset_imports.get("", 1))
    stored = constants.statistics(norm)
    (shape, _) = _content(constants.stored(norm.variance)[0]) or ([], 0)
    width = 1
    for dim in shape:
        width *= dim
    measured = measuring.statistics(root, norm.axis, width)
    replaced: dict[int, ir.Value] = {}
    for value in stored:
        content = _content(value)
        assert content is not None  # `stored` gives no others
        is_mean = any(value is mean for mean in constants.stored(norm.mean))
        typed = measuring.cast(measured[0] if is_mean else measured[1], content[1])
        typed.name = f"{typed.name}_{len(replaced)}"
        shaped = measuring.shaped(typed, content[0])
        replaced[id(value)] = shaped
    between = {node for node, _ in constants.readers(stored) or ()}
    needed: set[ir.Node] = set()
    pending = [entry.node.inputs[entry.place] for entry in entries]
    while pending:
        given = pending.pop()
        node = given.producer() if given is not None else None
        if given is None or id(given) in replaced or node is None or node not in between or node in needed:
            continue
        needed.add(node)
        pending.extend(node.inputs)
    for node in sorted(needed, key=lambda each: constants.order[each]):
        twin = measuring.copied(node, [None if v is None else replaced.get(id(v), v) for v in node.inputs])
        replaced.update((id(old), new) for old, new in zip(node.outputs, twin.outputs, strict=True))
    for entry in entries:
        before = entry.node.inputs[entry.place]
        assert before is not None  # it depends on a statistic
        entry.node.replace_input_with(entry.place, replaced[id(before)])
        drop_if_unused(before)
    graph.insert_before(min((entry.node for entry in entries), key=lambda each: constants.order[each]), measuring.nodes)
    graph.outputs.extend(measured)
    return Layer(norm.mean, norm.variance, (measured[0].name or "", measured[1].name or ""))
