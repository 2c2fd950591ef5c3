"""Tensors that an exporter merged because they happened to be equal, told apart again.

torch's first exporter and tf2onnx keep one copy of equal tensors: a fresh network's batch norms all read one
vector of ones, their running means share zeros with biases. Those are different parameters: predicting one vector for
all would tie layers that the framework keeps apart.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable

import onnx_ir as ir

from onnx_ghn.onnx_io.common_value import common_value
from onnx_ghn.onnx_io.marks import noted_shared, notes
from onnx_ghn.onnx_io.stored import StoredTensor, stored_tensors
from onnx_ghn.onnx_io.view_operators import VIEW_OPERATORS
from onnx_ghn.passes.own_initializers import free_name, own_initializer, taken_names
from onnx_ghn.passes.restoring import lost_tensors
from onnx_ghn.passes.results import Rewrite

__all__ = ["UntieMergedTensors", "Untied"]

logger = logging.getLogger(__name__)

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
_PIECES = frozenset({"Slice", "Split", "Gather"})
_STEPS = frozenset({"Slice", "Gather"})  # by which an unrolled loop takes a step of what a layer makes of all steps
_LOOPS = frozenset({"Loop", "Scan"})
_HAVE_BIAS = frozenset({"Gemm", "Conv", "ConvTranspose"})
_MULTIPLY = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose"})
_BATCH_NORM_INPUTS = {1: "scale", 2: "bias", 3: "running_mean", 4: "running_var"}


@dataclasses.dataclass
class Untied(Rewrite):
    """The changes are the names of the new tensors, the origins those of the tensors that they were one with."""

    origins: tuple[str, ...] = ()


class UntieMergedTensors(ir.passes.InPlacePass):
    """Gives each merged tensor of the main graph an initializer of its own; the changes are the names of the new ones.

    A merged tensor is 1-D, or a matrix or kernel of zeros, all its elements are equal, and

    - Identity nodes pass it on (torch): the new initializer takes the name of the Identity's output, which is the
      parameter's; the node stays, and its output is called `<name>_identity`; or
    - in this file such a tensor is read in two different places of operators (as a scale and as a variance, say), which
      no layer shared on purpose does, or no matrix of the file is read twice, as those of such a layer are (torch's new
      exporter merges the scales of equal norms): then each reader after the first gets a copy, named after what it
      computes. Operators that read a piece of it (query, key and value of one bias) go on reading one tensor.

    Matrices of other values are left tied: those are tied by design (an embedding and an output layer). Biases of two
    layers whose matrix is one are the bias of one layer, which is used twice, and stay one.

    What `strip` saw to be shared while its values told so stays one.

    Torch's first exporter says more: it merges what is tied by design without an Identity, and names the Identity of
    what it found to be equal after the parameter or buffer that it stands for. Those are told apart whatever they hold:
    copies of a layer, states that all layers of a kind begin with, single numbers.
    """

    def call(self, model: ir.Model) -> Untied:
        """Rewrite the model in place."""
        said, tensors = [note for note in notes(model) if note.is_of_export], stored_tensors(model)
        if said and not lost_tensors(model, tensors):
            # Exported with no two tensors equal, and all are there: what is shared is meant to be.
            return Untied(model, modified=False)
        if model.ir_version < 4:  # there an initializer has to be a graph input: the file's interface would change
            return Untied(model, modified=False)
        taken = taken_names(model)
        new: list[str] = []
        origins: dict[str, None] = {}
        for stored in tensors.values() if model.producer_name == "pytorch" else ():
            for node, index in _named_apart(model, stored):
                name = node.outputs[0].name or ""
                node.outputs[0].name = free_name(taken, f"{name}_identity")
                node.replace_input_with(index, own_initializer(model, stored, name))
                new.append(name)
                origins[stored.name] = None
        if new:
            tensors = stored_tensors(model)
        shared = noted_shared(model)
        merged = [s for s in tensors.values() if s.name not in shared and _may_be_merged(model, s)]
        by_value = any(len(_places(stored)) > 1 for stored in merged) or (
            bool(merged) and _reads_matrices_once(tensors.values())
        )
        roots: dict[int, str] = {}
        if merged:
            roots = {id(stored.value): stored.name for stored in tensors.values() if not _is_zero(stored)}
        for stored in merged:
            first = True
            of_layer: dict[str, ir.Value] = {}  # the bias of each layer by the name of its matrix
            uses = list(stored.value.uses())
            layers = _with_loops(
                [use.node for use in uses], [_layer_of(use.node, use.idx, roots) for use in uses], roots
            )
            for use, layer in zip(uses, layers, strict=True):
                node = use.node
                if len(stored.value.uses()) < 2:
                    break
                if _undoes(node, use.idx):  # goes with what it takes back
                    continue
                if layer is not None and layers.count(layer) > 1:
                    if layer in of_layer:
                        node.replace_input_with(use.idx, of_layer[layer])
                        continue
                    if layers.count(layer) == len(layers):
                        break
                if _is_identity(node) and not node.outputs[0].is_graph_output():
                    name = node.outputs[0].name or ""
                    node.outputs[0].name = free_name(taken, f"{name}_identity")
                elif node.op_type in _PIECES:
                    continue
                elif by_value and not first and node.graph is model.graph:
                    of_batch_norm = _BATCH_NORM_INPUTS if node.op_type == "BatchNormalization" else {}
                    name = free_name(taken, f"{node.outputs[0].name}_{of_batch_norm.get(use.idx, f'input{use.idx}')}")
                else:
                    first = False
                    if layer is not None:
                        of_layer[layer] = stored.value
                    continue
                value = own_initializer(model, stored, name)
                for undoing in _undoing(node, use.idx):
                    undoing.replace_input_with(1, value)
                node.replace_input_with(use.idx, value)
                if layer is not None:
                    of_layer[layer] = value
                new.append(name)
                origins[stored.name] = None
        if new:
            logger.debug("%d tensors that the exporter had merged have initializers of their own", len(new))
        return Untied(model, bool(new), tuple(new), tuple(origins))


def _with_loops(readers: list[ir.Node], layers: list[str | None], roots: dict[int, str]) -> list[str | None]:
    """The layers whose bias each reader takes, where a loop is one that takes the layer's matrix, too.

    tf2onnx computes the first step of a recurrence before the loop, and gives both to it.
    """
    found = list(layers)
    for i, node in enumerate(readers):
        if found[i] is None and node.op_type in _LOOPS:
            given = {roots.get(id(value)) for value in node.inputs if value is not None}
            found[i] = next((layer for layer in layers if layer is not None and layer in given), None)
    return found


def _named_apart(model: ir.Model, stored: StoredTensor) -> list[tuple[ir.Node, int]]:
    """The Identity nodes of torch's first exporter that stand for another parameter of equal values, and their inputs.

    Its other values have names that hold a slash or two colons: what layers compute, and what it folded.
    """
    if stored.kind != "initializer" or stored.site.graph is not model.graph or stored.dtype not in _FLOATS:
        return []
    uses = list(stored.value.uses())
    return [
        (use.node, use.idx)
        for use in uses
        if len(uses) > 1
        and _is_identity(use.node)
        and use.node.graph is model.graph
        and not use.node.outputs[0].is_graph_output()
        and not any(mark in (use.node.outputs[0].name or "/") for mark in ("/", "::"))
    ]


def _may_be_merged(model: ir.Model, stored: StoredTensor) -> bool:
    if stored.kind not in ("initializer", "constant_of_shape", "constant") or stored.site.graph is not model.graph:
        return False
    if not stored.shape or math.prod(stored.shape) < 2 or stored.dtype not in _FLOATS or stored.is_sparse:
        return False
    if len(stored.value.uses()) < 2:
        return False
    if len(stored.shape) > 1:  # zeros alone: other matrices are shared by their author
        return _is_zero(stored) and any(_is_identity(use.node) for use in stored.value.uses())
    if stored.is_absent:  # its values cannot tell: only what no shared layer does
        return len(_places(stored)) > 1
    return common_value(stored) is not None


def _is_zero(stored: StoredTensor) -> bool:
    return stored.dtype in _FLOATS and common_value(stored) == 0


def _layer_of(node: ir.Node, index: int, roots: dict[int, str]) -> str | None:
    """The name of the matrix of the layer whose bias a node reads as that input; None where it reads no bias."""
    while _is_view(node):
        uses = list(node.outputs[0].uses())
        if len(uses) != 1:
            return None
        node, index = uses[0].node, uses[0].idx
    if node.op_type in _HAVE_BIAS and index == 2:
        return _root(node.inputs[1], roots)
    if node.op_type != "Add" or len(node.inputs) != 2:
        return None
    other = node.inputs[1 - index]
    while other is not None and (before := other.producer()) is not None:
        if before.op_type == "Add" and all(map(_is_product, before.inputs)):  # of data and of a state
            before = before.inputs[0].producer()  # type: ignore[union-attr]
            assert before is not None
        if before.op_type in _MULTIPLY:
            return _root(before.inputs[1], roots) or _root(before.inputs[0], roots)
        if not _is_view(before) and before.op_type not in _STEPS:
            return None
        other = before.inputs[0]
    return None


def _is_product(value: ir.Value | None) -> bool:
    return value is not None and (made := value.producer()) is not None and made.op_type in _MULTIPLY


def _root(value: ir.Value | None, roots: dict[int, str]) -> str | None:
    """The name of the stored tensor that a value is a view or a piece of."""
    while value is not None and id(value) not in roots:
        node = value.producer()
        if node is None or not (_is_view(node) or node.op_type in ("Slice", "Split")):
            return None
        value = node.inputs[0]
    return None if value is None else roots[id(value)]


def _is_view(node: ir.Node) -> bool:
    return node.op_type in VIEW_OPERATORS and not node.domain


def _is_identity(node: ir.Node) -> bool:
    return node.op_type == "Identity" and not node.domain


def _places(stored: StoredTensor) -> set[tuple[str, int]]:
    """(operator, input) pairs that read a tensor, Identity nodes and what takes back a quantisation by it aside."""
    uses = (use for use in stored.value.uses() if not _is_identity(use.node) and not _undoes(use.node, use.idx))
    return {(use.node.op_type, use.idx) for use in uses}


def _undoes(node: ir.Node, index: int) -> bool:
    """Whether a node takes back, by the scale that it reads there, what the model quantised by that same scale."""
    if node.op_type != "DequantizeLinear" or index != 1 or (quantised := node.inputs[0]) is None:
        return False
    before = quantised.producer()
    return before is not None and before.op_type == "QuantizeLinear" and before.inputs[1] is node.inputs[1]


def _undoing(node: ir.Node, index: int) -> list[ir.Node]:
    """What takes back a node's quantisation by the scale that it reads there."""
    if node.op_type != "QuantizeLinear" or index != 1:
        return []
    return [use.node for use in node.outputs[0].uses() if use.idx == 0 and _undoes(use.node, 1)]


def _reads_matrices_once(tensors: Iterable[StoredTensor]) -> bool:
    """Whether there are several matrices, and none by which two operators multiply, as a layer used twice does."""
    n_matrices = 0
    for stored in tensors:
        if len(stored.shape) > 1 and stored.dtype in _FLOATS:
            readers = [use.node for value in _views(stored.value) for use in value.uses()]
            times = sum(node.op_type in ("MatMul", "Gemm", "Conv", "ConvTranspose") for node in readers)
            if times > 1:
                return False
            n_matrices += times
    return n_matrices > 1


def _views(value: ir.Value) -> list[ir.Value]:
    """A value, and its transposed or renamed copies."""
    turned = [use.node for use in value.uses() if use.node.op_type in ("Transpose", "Identity", "Cast")]
    return [value, *(view for node in turned for view in _views(node.outputs[0]))]
