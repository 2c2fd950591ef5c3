"""Taking the weights out of a model: what is left is the architecture, a few KB that still runs.

Each weight becomes a ConstantOfShape node of the same name, which `stored_tensors` finds again. Constants
that the computation means literally (shapes, axes, indices, masks) stay.
"""

from __future__ import annotations

import collections
import logging
from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from onnx_ghn.arrays import Array
from onnx_ghn.errors import ModelReadError
from onnx_ghn.onnx_io import sites as walk
from onnx_ghn.onnx_io.map_types import forget_map_type
from onnx_ghn.onnx_io.stored import StoredTensor, stored_tensors
from onnx_ghn.onnx_io.view_operators import VIEW_OPERATORS
from onnx_ghn.passes.fills import neighbour, plain
from onnx_ghn.passes.results import Rewrite

__all__ = ["StripWeights"]

logger = logging.getLogger(__name__)

_KEPT_ELEMENTS = 16  # tensors up to this size cost less than the node that would replace them
_SAMPLE = 4096  # elements that usually settle whether a tensor is a mask or all one value
_MASK = 1e4  # attention masks hold -inf, the lowest float16 (-65504) or -1e4 and beyond
# (operator, input) that reads quantised weights: integers that are weights all the same.
_QUANTISED_WEIGHTS = frozenset(
    {
        ("DequantizeLinear", 0),
        ("QLinearConv", 3),
        ("QLinearMatMul", 3),
        ("ConvInteger", 1),
        ("MatMulInteger", 1),
    }
)
# (operator, inputs) that only trained tensors are given to, however small these are.
_TRAINED_INPUTS = {
    "Conv": (1, 2), "ConvTranspose": (1, 2), "Gemm": (1, 2), "MatMul": (0, 1), "PRelu": (1,), "Gather": (0,),
    "BatchNormalization": (1, 2, 3, 4), "LayerNormalization": (1, 2), "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2), "RMSNormalization": (1,), "LSTM": (1, 2, 3, 7), "GRU": (1, 2, 3), "RNN": (1, 2, 3),
}  # fmt: skip
_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization"})
_VIEWS = VIEW_OPERATORS | {"Dropout"}
_UNTRAINED = (0.0, 1.0)  # what frameworks start biases and scales from
# Inputs that must not be 0: a model without weights should still give finite numbers.
_DIVISORS = frozenset({("BatchNormalization", 4), ("QuantizeLinear", 1), ("DequantizeLinear", 1), ("Div", 1)}) | {
    ("Sqrt", 0),
    ("Reciprocal", 0),
}
_FIRST_OPSET = 9  # of ConstantOfShape
#: In these onnxruntime makes no fills, though ONNX allows it: zeros of the full size stand in the place of weights.
_STORED_TYPES = frozenset(kind for kind in ir.DataType if kind.name.startswith(("FLOAT4", "FLOAT8"))) | {
    kind for kind in ir.DataType if kind.name in ("INT2", "UINT2", "INT4", "UINT4")
}


class StripWeights(ir.passes.InPlacePass):
    """Replaces weights by ConstantOfShape nodes and drops all documentation; the changes are the weights' names.

    The fill is the tensor's own value where it has several elements of one value (so an untrained normalisation is
    kept as it is), 1 for a variance or a quantisation scale, else 0. Matrices and kernels of one shape and value get
    fills that differ in their last bits, since simplifiers merge equal tensors, which stay one where they are no
    vectors; so do trained vectors that are added, since simplifiers take out what adds zero. Tensors of up to 16
    elements go, too, where they are read as weights, biases, slopes, scales or running statistics; small settings of
    the computation stay. Quantised weights of fewer than 8 bits, or of 8 that are floats, become zeros of their size.

    Args:
        keep: stored names of tensors that stay, whatever they look like.
        learned: stored names of tensors that are learned, whatever reads them: small ones go, too, but single numbers,
            and integers that a tool quantised (which operators of one runtime read, or tables).
        unfilled: those of them that nothing fills again without a donor. What multiplies by one becomes ones, not
            zeros, behind which nothing would learn.
    """

    def __init__(
        self, keep: Collection[str] = (), learned: Collection[str] = (), unfilled: Collection[str] = ()
    ) -> None:
        self._keep = frozenset(keep)
        self._learned = frozenset(learned)
        self._unfilled = frozenset(unfilled)

    def call(self, model: ir.Model) -> Rewrite:
        """Rewrite the model in place. Raises ModelReadError for an opset without ConstantOfShape."""
        opset = model.opset_imports.get("", 0)
        if 0 < opset < _FIRST_OPSET:
            raise ModelReadError(
                f"the model is of opset {opset}, which lacks ConstantOfShape; "
                f"convert it to opset {_FIRST_OPSET} or later (onnx.version_converter)"
            )
        replaced: list[str] = []
        shapes: dict[tuple[ir.Graph, tuple[int, ...]], ir.Value] = {}
        taken = {value.name for site in walk.sites(model) for node in site.graph for value in node.outputs}
        taken |= {value.name for site in walk.sites(model) for value in [*site.graph.inputs, *site.graph.outputs]}
        taken |= {name for site in walk.sites(model) for name in site.graph.initializers}
        times: collections.Counter[tuple[tuple[int, ...], ir.DataType, bytes]] = collections.Counter()
        # In reverse, as each goes to the front of its graph.
        for stored in reversed(stored_tensors(model).values()):
            if stored.name in self._keep or not self._is_weight(stored) or not _allowed(stored, model):
                continue
            fill = _fill_of(stored)
            if fill is not None and stored.name in self._unfilled and _multiplies(stored.value) and not fill.any():
                fill = np.ones_like(fill)
            if fill is not None and stored.dtype in _STORED_TYPES:
                _store_zeros(stored)
                replaced.append(stored.name)
            elif fill is not None:
                shape = _shape_value(stored, shapes, taken)
                key = (stored.shape, stored.dtype, fill.tobytes())
                times[key] += 1
                # The first differs too, which tells a tied matrix from one that a tool merged.
                is_told = len(stored.shape) > 1 or _is_added(stored, fill)
                _replace(stored, neighbour(fill, times[key]) if is_told else fill, shape)
                replaced.append(stored.name)
        _move_shapes_first(shapes)
        _drop_documentation(model)
        return Rewrite(model, modified=True, changes=tuple(reversed(replaced)))

    def _is_weight(self, stored: StoredTensor) -> bool:
        if stored.is_sparse or stored.is_string or 0 in stored.shape:
            return False
        if stored.node is not None and stored.node.op_type == "ConstantOfShape":
            return False
        is_float = stored.dtype.is_floating_point()
        size = int(np.prod(stored.shape, dtype=object))
        if size <= _KEPT_ELEMENTS and not is_float:
            return stored.name in self._learned and size > 1
        if size <= _KEPT_ELEMENTS:
            return _is_trained(stored, stored.name in self._learned)
        if is_float:
            return True
        uses = {(use.node.op_type, use.idx) for use in stored.value.uses()}
        return stored.name in self._learned or (bool(uses) and uses <= _QUANTISED_WEIGHTS)


def _is_trained(stored: StoredTensor, is_learned: bool) -> bool:
    """Whether a small tensor is read as a weight, a scale or a bias, and holds something else than these start from."""
    size = int(np.prod(stored.shape, dtype=object))
    if not (is_learned and size > 1) and not any(
        _reads_trained(node, index, size) for node, index in _uses(stored.value)
    ):
        return False
    if stored.is_absent:
        return True
    values = np.asarray(stored.numpy()).astype(np.float64).reshape(-1)
    return not any(bool((values == start).all()) for start in _UNTRAINED)


def _uses(value: ir.Value) -> list[tuple[ir.Node, int]]:
    """What reads a value, views aside."""
    found: list[tuple[ir.Node, int]] = []
    pending = [value]
    while pending:
        for use in pending.pop().uses():
            if use.node.op_type in _VIEWS and use.idx == 0:
                pending += use.node.outputs
            else:
                found.append((use.node, use.idx))
    return found


def _reads_trained(node: ir.Node, index: int, size: int) -> bool:
    """Whether an operator reads a small tensor of so many elements as what is trained."""
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type in ("Add", "Mul"):  # a bias or a scale behind a layer
        other = node.inputs[1 - index] if len(node.inputs) == 2 else None
        for _ in range(8):
            before = other.producer() if other is not None else None
            if before is None or before.op_type not in _VIEWS:
                return before is not None and before.op_type in _LAYERS and _n_outputs(before) == size
            other = before.inputs[0]
        return False
    return index in _TRAINED_INPUTS.get(node.op_type, ())


def _n_outputs(layer: ir.Node) -> int:
    """The number of channels or features that a layer's weight gives; 0 where it multiplies data with data.

    A number behind such a product is the scale of attention; one behind a layer of many outputs, half of a GELU.
    """
    first = _TRAINED_INPUTS[layer.op_type][0]
    for index in (0, 1) if layer.op_type == "MatMul" else (first,):
        value = layer.inputs[index] if index < len(layer.inputs) else None
        while value is not None and (view := value.producer()) is not None and view.op_type in _VIEWS:
            value = view.inputs[0]
        is_stored = value is not None and (value.is_initializer() or _makes_constant(value.producer()))
        shape = layer.inputs[index].shape if is_stored else None  # type: ignore[union-attr]
        if shape is None and is_stored and value is not None and value.const_value is not None:
            shape = value.const_value.shape
        if shape is None or not len(shape):
            continue
        match layer.op_type:
            case "MatMul":
                axis = -1 if index else max(-2, -len(shape))
            case "Gemm":
                axis = 0 if layer.attributes.get_int("transB", 0) else -1
            case "ConvTranspose":
                axis = 1
            case _:
                axis = 0
        groups = layer.attributes.get_int("group", 1) if layer.op_type == "ConvTranspose" else 1
        dim = shape[axis]
        return groups * dim if isinstance(dim, int) else 0
    return 0


def _makes_constant(node: ir.Node | None) -> bool:
    return node is not None and node.op_type in ("Constant", "ConstantOfShape")


def _allowed(stored: StoredTensor, model: ir.Model) -> bool:
    """Whether ConstantOfShape may give the tensor's type in the opset of its graph."""
    import onnx

    opsets = model.opset_imports if stored.site.function is None else stored.site.function.opset_imports
    opset = min(opsets.get("", 0), onnx.defs.onnx_opset_version())
    if opset < _FIRST_OPSET:
        return False
    schema = onnx.defs.get_schema("ConstantOfShape", opset, "")
    types = {name for parameter in schema.type_constraints for name in parameter.allowed_type_strs}
    kind = {ir.DataType.FLOAT: "float", ir.DataType.DOUBLE: "double"}.get(stored.dtype, stored.dtype.name.lower())
    if f"tensor({kind})" in types:
        return True
    logger.info("%s stays: ConstantOfShape gives no %s before a later opset", stored.name, kind)
    return False


def _fill_of(stored: StoredTensor) -> Array | None:
    """The value of the ConstantOfShape node, one element; None where the tensor is to stay."""
    if not stored.is_absent:  # else nobody can tell a mask from weights any more
        array = stored.numpy().reshape(-1)
        sample = _distinct(array[:_SAMPLE])
        if len(sample) <= 2:
            values = _distinct(array)
            if len(values) == 1 and array.size > 1:
                return plain(values)
            if len(values) == 2 and bool((np.abs(values.astype(np.float64)) >= _MASK).any()):
                return None
    return np.full(1, 1 if _divides(stored.value) else 0, stored.dtype.numpy())


def _divides(value: ir.Value) -> bool:
    """Whether something is divided by a value: by itself, or by its root as a norm that is written out does, which adds
    a small number first.
    """
    uses = _uses(value)
    uses += [use for node, _ in uses if node.op_type == "Add" for use in _uses(node.outputs[0])]
    return any((node.op_type, index) in _DIVISORS for node, index in uses)


def _multiplies(value: ir.Value) -> bool:
    """Whether a value is a factor to all that reads it."""
    return {node.op_type for node, _ in _uses(value)} == {"Mul"}


def _is_added(stored: StoredTensor, fill: Array) -> bool:
    """Whether a trained vector that becomes zeros is read by additions."""
    if fill.any() or not (stored.is_absent or stored.numpy().any()):
        return False
    return any(node.op_type == "Add" and node.domain in ("", "ai.onnx") for node, _ in _uses(stored.value))


def _distinct(array: Array) -> Array:
    """At most three distinct values, or three for "many"; NaNs count as one."""
    found = array[:1]
    for _ in range(2):
        rest = array
        for value in found:
            same = (rest != rest) if value != value else (rest == value)
            rest = rest[~same]
        if not rest.size:
            break
        found = np.concatenate([found, rest[:1]])
    return found


def _shape_value(
    stored: StoredTensor, shapes: dict[tuple[ir.Graph, tuple[int, ...]], ir.Value], taken: set[str | None]
) -> ir.Value:
    """The Constant with the tensor's shape, one for all tensors of that shape in a graph."""
    graph = stored.site.graph
    key = (graph, stored.shape)
    if key not in shapes:
        name = base = "shape_" + "x".join(map(str, stored.shape))
        number = 2
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name)
        tensor = ir.Tensor(np.array(stored.shape, np.int64), name=name)
        node = ir.Node("", "Constant", [], [ir.AttrTensor("value", tensor)], outputs=[ir.Value(name=name)], name="")
        shapes[key] = node.outputs[0]
    return shapes[key]


def _store_zeros(stored: StoredTensor) -> None:
    zeros = ir.Tensor(np.zeros(stored.shape, stored.dtype.numpy()), dtype=stored.dtype, name=stored.value.name)
    if stored.node is None:
        stored.value.const_value = zeros
    else:
        stored.node.attributes.clear()
        stored.node.attributes.add(ir.AttrTensor("value", zeros))


def _replace(stored: StoredTensor, fill: Array, shape: ir.Value) -> None:
    attribute = ir.AttrTensor("value", ir.Tensor(fill, dtype=stored.dtype))
    if stored.node is not None:  # a Constant: the node stays where it is
        stored.node.op_type = "ConstantOfShape"
        stored.node.name = ""  # Constants may share a name, as onnxruntime makes initializers of them; others may not
        stored.node.attributes.clear()
        stored.node.attributes.add(attribute)
        stored.node.resize_inputs(1)
        stored.node.replace_input_with(0, shape)
        return
    graph, value = stored.site.graph, stored.value
    if value.is_graph_input():
        # Before IR version 4 every initializer is listed as an input; what a node produces cannot be one.
        graph.inputs.remove(value)
    del graph.initializers[value.name or ""]
    value.const_value = None
    node = ir.Node("", "ConstantOfShape", [shape], [attribute], outputs=[value], name="")
    _prepend(graph, node)


def _prepend(graph: ir.Graph, node: ir.Node) -> None:
    if len(graph):
        graph.insert_before(graph[0], node)
    else:
        graph.append(node)


def _move_shapes_first(shapes: dict[tuple[ir.Graph, tuple[int, ...]], ir.Value]) -> None:
    for (graph, _), value in shapes.items():
        producer = value.producer()
        assert producer is not None
        _prepend(graph, producer)


def _drop_documentation(model: ir.Model) -> None:
    """Metadata, doc strings (stack traces, in torch's files) and the types of inner values."""
    model.metadata_props.clear()
    model.doc_string = None
    for site in walk.sites(model):
        graph = site.graph
        graph.metadata_props.clear()
        graph.doc_string = None
        for value in [*graph.inputs, *graph.outputs, *graph.initializers.values()]:
            value.metadata_props.clear()
            value.doc_string = None
        for node in graph:
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
                value.doc_string = None
                if not value.is_graph_output():
                    value.shape = value.type = None
                    forget_map_type(value)
    for function in model.functions.values():
        function.metadata_props.clear()
        function.doc_string = None
    for slot in walk.slots(model):
        if not isinstance(slot.tensor, ir.TensorProtoTensor):  # whose setters would change its protobuf
            slot.tensor.metadata_props.clear()
            slot.tensor.doc_string = None
