"""Tensors of a file of ours that a tool merged or renamed, as the export had them, and a check that all are there.

Simplifiers keep one of equal tensors, be it that one is a running mean and the other a bias, and call tensors by new
names. An export notes which operator reads each tensor (`onnx_io.marks`): as long as the operators' outputs keep their
names, that says what was one and what it was called.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import onnx_ir as ir

from onnx_ghn.errors import ModelReadError
from onnx_ghn.onnx_io.injection import drop_if_unused
from onnx_ghn.onnx_io.marks import Note, notes
from onnx_ghn.onnx_io.stored import StoredTensor, stored_tensors
from onnx_ghn.onnx_io.tensors import AbsentTensor, LazyTensor
from onnx_ghn.passes.results import Rewrite

__all__ = ["Lost", "RestoreTensors", "check_frozen", "lost_tensors"]


class RestoreTensors(ir.passes.InPlacePass):
    """Gives the tensors that an export noted their names and their readers back; the changes are their names."""

    def call(self, model: ir.Model) -> Rewrite:
        """Rewrite the model in place. Raises ModelReadError for a damaged note."""
        restored: list[str] = []
        for note in notes(model):
            stored = stored_tensors(model)
            for prefix in note.prefixes(stored) if any(name not in stored for name in note.reads) else ():
                restored += _restore(model, note, prefix)
        return Rewrite(model, bool(restored), tuple(restored))


@dataclasses.dataclass(frozen=True)
class Lost:
    """A tensor that an export noted and that the file has no more."""

    name: str
    frozen: bool
    stranger: str  # a tensor that the export did not have, which may be this one under another name; "" without any


def lost_tensors(model: ir.Model, stored: Mapping[str, StoredTensor]) -> list[Lost]:
    """What an export noted and the file has no more, the frozen ones first."""
    said = notes(model)
    known = {prefix + name for note in said for prefix in note.prefixes(stored) for name in note.names}
    strangers = [
        name
        for name, tensor in stored.items()
        if name not in known and tensor.dtype.is_floating_point() and math.prod(tensor.shape) > 1
    ]
    lost = [
        Lost(prefix + name, name in note.frozen, strangers[0] if strangers else "")
        for note in said
        for prefix in note.prefixes(stored)
        for name in note.reads
        if prefix + name not in stored
    ]
    return sorted(lost, key=lambda one: not one.frozen)


def check_frozen(model: ir.Model, stored: Mapping[str, StoredTensor]) -> list[str]:
    """Check that what is frozen can still be told from what is trained.

    Returns:
        a note where other tensors that the export noted are gone, so that `load` will not find them.

    Raises:
        ModelReadError: a frozen tensor is gone, and another that the export did not have may be that one.
    """
    lost = lost_tensors(model, stored)
    if not lost:
        return []
    first = lost[0]
    if first.frozen and first.stranger:
        raise ModelReadError(
            f"tensor {first.name!r}, which the export noted as frozen, is gone, and {first.stranger!r} is new: a tool "
            "renamed or replaced tensors, and nothing tells what is frozen; predict the file that `export` wrote, and "
            "run the tool on the result"
        )
    if not first.stranger:  # parts of the model were cut off, with their tensors
        return []
    return [
        f"{len(lost)} tensors that the export noted are gone, first {first.name}: `load` needs the file that `predict` "
        "makes of the export, before any tool"
    ]


def _restore(model: ir.Model, note: Note, prefix: str) -> list[str]:
    stored = stored_tensors(model)
    by_value = {id(tensor.value): tensor for tensor in stored.values()}
    nodes = {output.name: node for node in model.graph for output in node.outputs[:1]}
    restored = []
    for name, (shape, reads) in note.reads.items():
        if prefix + name in stored or any(value.name == prefix + name for value in model.graph.inputs):
            continue
        places = [(nodes.get(prefix + read.output), read.place) for read in reads]
        if any(node is None or index >= len(node.inputs) for node, index in places):
            continue
        found = [by_value.get(id(_source(node.inputs[index]))) for node, index in places if node is not None]
        first = found[0] if found else None
        if first is None or first.shape != shape or any(other is not first for other in found):
            continue
        if prefix + name in nodes:  # the name of what an operator computes now
            continue
        value = ir.Value(
            name=prefix + name,
            shape=ir.Shape(shape),
            type=ir.TensorType(first.dtype),
            const_value=_renamed(first, prefix + name),
        )
        model.graph.initializers.add(value)
        for node, index in places:
            assert node is not None
            node.replace_input_with(index, value)
        drop_if_unused(first.value)
        restored.append(prefix + name)
    return restored


def _renamed(stored: StoredTensor, name: str) -> ir.TensorProtocol:
    if isinstance(stored.tensor, AbsentTensor):
        return AbsentTensor(stored.tensor.source, name, stored.dtype, stored.shape)
    return LazyTensor(stored.numpy, name, stored.dtype, stored.shape)


def _source(value: ir.Value | None) -> ir.Value | None:
    """What Identity nodes pass on."""
    while value is not None and (node := value.producer()) is not None and node.op_type == "Identity":
        value = node.inputs[0]
    return value
