"""Tensors of a file of ours that a tool merged or renamed, as the export had them, and a check that all are there.

Simplifiers keep one of equal tensors, be it that one is a running mean and the other a bias, and call tensors by new
names. An export notes which operator reads each tensor (`onnx_io.marks`): as long as the operators' outputs keep their
names, that says what was one and what it was called.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Mapping

import onnx_ir as ir

from onnx_ghn.errors import ModelReadError
from onnx_ghn.onnx_io.injection import drop_if_unused
from onnx_ghn.onnx_io.marks import Note, Ranges, frozen_tensors, notes
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
    """What an export noted and the file has no more, the frozen ones first.

    A constant of the computation (the zeros from which an LSTM starts) may be gone for good, folded away. A tensor of
    the framework's model, which its author froze, is not given up where any other may be that one.
    """
    said = notes(model)
    known = {prefix + name for note in said for prefix in note.prefixes(stored) for name in note.names}
    strangers = [
        name
        for name, tensor in stored.items()
        if name not in known and tensor.dtype.is_floating_point() and math.prod(tensor.shape) > 1
    ]
    frozen = frozen_tensors(model, stored)
    lost = []
    for note in said:
        for prefix in note.prefixes(stored):
            gone = [name for name in note.reads if prefix + name not in stored]
            told = {prefix + read.output for _, reads in note.reads.values() for read in reads}
            search = _Search(model, note, prefix, stored, frozen, [name for name in strangers if name not in told])
            for name in gone:
                is_frozen = name in note.frozen
                stranger = search.stranger(name, gone) if is_frozen else next(iter(strangers), "")
                lost.append(Lost(prefix + name, is_frozen, stranger))
    return sorted(lost, key=lambda one: not one.frozen)


@dataclasses.dataclass(frozen=True)
class _Search:
    """What a frozen tensor that is gone may be now, of the tensors that an export did not have.

    Attributes:
        frozen: the file's tensors that are known to be frozen.
        strangers: the names of those of which nothing tells what they were made of.
    """

    model: ir.Model
    note: Note
    prefix: str
    stored: Mapping[str, StoredTensor]
    frozen: Mapping[str, Ranges]
    strangers: list[str]

    def stranger(self, name: str, gone: Collection[str]) -> str:
        """The name of a tensor that the file may have in the place of a frozen one, "" where it can have none.

        Args:
            gone: all tensors of the note that the file has no more.
        """
        outputs = [self.prefix + read.output for read in self.note.reads[name][1]]
        if outputs and all(output in self.frozen and output in self.stored for output in outputs):
            return ""  # what was made of it is there, and known to be frozen
        if self.note.weights is None or name in self.note.weights:
            mixed = (output for output in outputs if output in self.stored)  # folded with what is trained
            return next(itertools.chain(self.strangers, mixed), "")
        if still_read := self._in_its_place(name):
            return still_read
        new = sum(math.prod(self.stored[other].shape) for other in self.strangers)
        trained = sum(math.prod(self.note.reads[other][0]) for other in gone if other not in self.note.frozen)
        return self.strangers[0] if new > trained else ""  # else all that is new may hold what was trained

    def _in_its_place(self, name: str) -> str:
        """The new tensor that an operator reads where it read this one; "" where none does."""
        nodes = {output.name: node for node in self.model.graph for output in node.outputs[:1]}
        by_value = {id(tensor.value): tensor.name for tensor in self.stored.values()}
        for read in self.note.reads[name][1]:
            node = nodes.get(self.prefix + read.output)
            if node is not None and read.place < len(node.inputs):
                found = by_value.get(id(_source(node.inputs[read.place])))
                if found in self.strangers:
                    return found or ""
        return ""


def check_frozen(model: ir.Model, stored: Mapping[str, StoredTensor]) -> list[str]:
    """Check that what is frozen can still be told from what is trained.

    Returns:
        a note where other tensors that the export noted are gone, so that `load` will not find them.

    Raises:
        ModelReadError: a frozen tensor is gone, and another that the export did not have may be that one.
    """
    lost = lost_tensors(model, stored)
    replaced = [one for one in lost if one.stranger]
    if not replaced:  # parts of the model were cut off, with their tensors
        return []
    first = replaced[0]
    if first.frozen:
        raise ModelReadError(
            f"tensor {first.name!r}, which the export noted as frozen, is gone, and {first.stranger!r} is new: a tool "
            "renamed or replaced tensors, and nothing tells what is frozen; predict the file that `export` wrote, and "
            "run the tool on the result"
        )
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
