"""Where the weights of a live model are in a file at hand: by the file's notes, or beside an export of the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from onnx_ghn.arrays import Array
from onnx_ghn.errors import CheckpointError
from onnx_ghn.exporters.anchors import by_anchor
from onnx_ghn.exporters.weight_map import WeightMap
from onnx_ghn.onnx_io.marks import notes
from onnx_ghn.onnx_io.reads import Read, reads, reads_of
from onnx_ghn.onnx_io.stored import stored_tensors

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["Found", "Rewritten", "align", "traced"]

_REMEDY = "load the file that `predict` wrote, before any tool"

#: Where the computation first reads a stored tensor: operator, index of the input, shape and name of the tensor.
_FirstRead = tuple[str, int, tuple[int, ...], str]
#: The shape of each tensor at the export, and what read it.
_Reads = Mapping[str, tuple[tuple[int, ...], tuple[Read, ...]]]


class Rewritten(CheckpointError):
    """The file is of this model, and a tool has changed its tensors since it was exported."""


@dataclasses.dataclass(frozen=True)
class Found:
    """The map of a model's weights under the names of a file, and the file's tensors, as the map takes them."""

    weight_map: WeightMap
    arrays: dict[str, Array]
    notes: tuple[str, ...] = ()


def traced(
    model: ir.Model, stored: Mapping[str, StoredTensor], shapes: Mapping[str, tuple[int, ...]], *, numbered: bool
) -> Found | None:
    """What the notes of an export say; None where the file has none.

    Args:
        shapes: the live model's weights.
        numbered: see `roundtrip.LiveModel`.

    Raises:
        CheckpointError: the file is of another model.
        Rewritten: a tool changed it since.
    """
    fitting: list[tuple[WeightMap, _Reads, str]] = []
    others: list[WeightMap] = []
    for note in notes(model):
        if not note.trace:
            continue
        weight_map = WeightMap.from_json(note.trace)
        if numbered:
            weight_map = weight_map.renamed(list(shapes))
        for prefix in note.prefixes(stored):
            if weight_map.shapes == dict(shapes):
                by_name = {prefix + name: read for name, read in note.reads.items()}
                fitting.append((_renamed(weight_map, {n: prefix + n for n in weight_map.stored}), by_name, prefix))
            else:
                others.append(weight_map)
    if fitting:
        weight_map, expected, prefix = fitting[0]
        said = (f"the file holds this model {len(fitting)} times; the weights are those under {prefix!r}",)
        return Found(weight_map, _oriented(weight_map, expected, model, stored), said if len(fitting) > 1 else ())
    if len(others) > 1:
        raise CheckpointError(f"the file joins {len(others)} exports, and none of them is of this model; load another")
    for weight_map in others:
        _check_shapes(weight_map, shapes)
    return None


def align(
    exported: ir.Model,
    weight_map: WeightMap,
    model: ir.Model,
    stored: Mapping[str, StoredTensor],
    repeated: Mapping[str, npt.NDArray[np.int64]] | None = None,
    *,
    strict: bool = False,
    rewritten: bool = False,
) -> Found:
    """The map of an export under the names of another export of the same model.

    Some exporters number tensors differently for each instance, and sort them by these names. The computation stays the
    same, so tensors are matched in the order in which it reads them, from the outputs backwards; where that differs
    (equal tensors are one in the file), by the operators that read them; and where the computations differ (another
    version, other options), by name.

    Args:
        exported: the export, of which `weight_map` is the map.
        repeated: what of the export holds elements several times; the file must hold one value at all these places.
        strict: the export's own names are numbers, by which nothing is matched.
        rewritten: a tool went over the file: what no name and no reader tells is guessed by the values around it, and
            the caller has to see whether the guess is right.

    Raises:
        CheckpointError: the file lacks a tensor, or reads it otherwise.
    """
    own = reads(exported)
    renamed = _by_order(exported, model, stored) or _by_reader(own, model, stored)
    if rewritten:
        lost = [name for name in weight_map.stored if name not in renamed and name not in stored]
        renamed |= by_anchor(exported, lost, model, stored)
    names: dict[str, str] = {}
    for name in weight_map.stored:
        if name in renamed:
            names[name] = renamed[name]
        elif not strict or name in weight_map.shapes:
            names[name] = name
        else:
            raise CheckpointError(f"tensor {name} of an export of this model is not in the file")
    expected = {names[name]: read for name, read in own.items() if name in names}
    arrays = _oriented(_renamed(weight_map, names), expected, model, stored)
    for name, elements in (repeated or {}).items():
        if name in names and not _one_value_each(arrays[names[name]], elements):
            raise CheckpointError(
                f"tensor {names[name]} holds one weight several times, by now with different values; "
                "export the model with a free batch size"
            )
    if len(set(names.values())) < len(names):  # two tensors of the export are one in the file
        return Found(*_apart(weight_map, names, arrays))
    return Found(_renamed(weight_map, names), arrays)


def _apart(
    weight_map: WeightMap, names: Mapping[str, str], arrays: Mapping[str, Array]
) -> tuple[WeightMap, dict[str, Array]]:
    return weight_map, {name: arrays[other] for name, other in names.items()}


def _renamed(weight_map: WeightMap, names: Mapping[str, str]) -> WeightMap:
    return dataclasses.replace(weight_map, stored={names[name]: shape for name, shape in weight_map.stored.items()})


def _one_value_each(values: Array, elements: npt.NDArray[np.int64]) -> bool:
    flat = values.reshape(-1)
    order = np.argsort(elements, kind="stable")
    same = elements[order][1:] == elements[order][:-1]
    return bool((flat[order][1:] == flat[order][:-1])[same & (elements[order][1:] >= 0)].all())


def _oriented(
    weight_map: WeightMap, expected: _Reads, model: ir.Model, stored: Mapping[str, StoredTensor]
) -> dict[str, Array]:
    """The file's tensors as the export stored them: those that a tool transposed are turned back."""
    arrays = {}
    for name, shape in weight_map.stored.items():
        if name not in stored:
            raise Rewritten(f"tensor {name} is absent, {shape} in the export of this model; {_REMEDY}")
        tensor = stored[name]
        now = {read.how for read in reads_of(tensor, model)}
        then = {read.how for read in expected[name][1]} if name in expected else now
        turned = len(shape) == 2 and len(now) == len(then) == 1 and now != then and _is_linear(now) and _is_linear(then)
        values = tensor.numpy().T if turned else tensor.numpy()
        if tuple(values.shape) != shape:
            raise Rewritten(f"tensor {name} is {tensor.shape}, {shape} in the export of this model; {_REMEDY}")
        if len(shape) > 1 and not turned and not now <= then:
            raise Rewritten(
                f"tensor {name} is read as {_told(now)} here and as {_told(then)} in the export of this model: a tool "
                f"rewrote the file; {_REMEDY}"
            )
        arrays[name] = values
    return arrays


def _is_linear(hows: Iterable[str]) -> bool:
    return all(how.startswith("linear:") for how in hows)


def _told(hows: Iterable[str]) -> str:
    words = {"linear": "a matrix that sums over axis", "plain": "values of no layer"}
    kinds = [how.partition(":") for how in sorted(hows)]
    return " and ".join(f"{words.get(kind, f'the kernel of {kind}')} {axis}".strip() for kind, _, axis in kinds)


def _by_reader(own: _Reads, model: ir.Model, stored: Mapping[str, StoredTensor]) -> dict[str, str]:
    """From an export's names to those of the file, by the operators that read the tensors, named by their outputs."""
    by_value = {id(tensor.value): tensor for tensor in stored.values()}
    nodes = {output.name: node for node in model.graph for output in node.outputs[:1]}
    found = {}
    for name, (shape, readers) in own.items():
        sources = set()
        for read in readers:
            node = nodes.get(read.output)
            value = node.inputs[read.place] if node is not None and read.place < len(node.inputs) else None
            while value is not None and (before := value.producer()) is not None and before.op_type == "Identity":
                value = before.inputs[0]
            tensor = by_value.get(id(value))
            sources.add(tensor.name if tensor is not None and tensor.shape == shape else "")
        if len(sources) == 1 and "" not in sources:
            found[name] = sources.pop()
    return found


def _by_order(exported: ir.Model, model: ir.Model, stored: Mapping[str, StoredTensor]) -> dict[str, str]:
    """From an export's names to those of the file, where both read tensors of the same shapes in the same order."""
    own, other = _first_reads(exported, stored_tensors(exported)), _first_reads(model, stored)
    if [read[:-1] for read in own] != [read[:-1] for read in other]:
        return {}
    return {ours[-1]: theirs[-1] for ours, theirs in zip(own, other, strict=True)}


def _first_reads(model: ir.Model, stored: Mapping[str, StoredTensor]) -> list[_FirstRead]:
    """Where each stored tensor is first read, depth first from the outputs."""
    names = {id(tensor.value): name for name, tensor in stored.items()}
    reads: dict[str, _FirstRead] = {}
    visited: set[int] = set()
    pending = [output.producer() for output in reversed(model.graph.outputs)]
    while pending:
        node = pending.pop()
        if node is None or id(node) in visited:
            continue
        visited.add(id(node))
        for index, value in enumerate(node.inputs):
            name = names.get(id(value))
            if name is not None and name not in reads:
                reads[name] = (node.op_type, index, stored[name].shape, name)
        pending.extend(value.producer() for value in reversed(node.inputs) if value is not None)
    return list(reads.values())


def _check_shapes(weight_map: WeightMap, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        mapped = weight_map.shapes.get(name)
        if mapped != shape:
            raise CheckpointError(
                f"weight {name!r} {list(shape)} of the model is "
                f"{'not in' if mapped is None else f'{list(mapped)} in'} the file: it was exported from another model"
            )
    for name in weight_map.shapes:
        if name not in shapes:
            raise CheckpointError(
                f"weight {name!r} of the file is not in the model: the file was exported from another model"
            )
