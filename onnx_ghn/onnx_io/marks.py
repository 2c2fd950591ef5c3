"""What onnx_ghn.exporters notes in a file's metadata about the model that it came from, and what torch marks itself.

`strip` takes both away with the weights, and notes in the same form which of the tensors that stay are constants, and
which weights are shared on purpose, or no operator tells from constants.

The keys end in a hash of the notes, so that tools can join two files of ours. Tools may also put a prefix before all
names, or drop and rename tensors: what a note says is taken by the names that the file has now.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Collection, Mapping

import onnx_ir as ir

from onnx_ghn.errors import ModelReadError
from onnx_ghn.onnx_io.reads import Read
from onnx_ghn.onnx_io.stored import StoredTensor, stored_tensors

__all__ = [
    "CONSTANTS",
    "FROZEN",
    "LEARNED",
    "READS",
    "SHARED",
    "TORCH_KIND",
    "TORCH_UNTRAINED",
    "TRACE",
    "Note",
    "Ranges",
    "frozen_tensors",
    "mark",
    "mark_constants",
    "mark_learned",
    "mark_shared",
    "noted_constants",
    "noted_learned",
    "noted_shared",
    "notes",
    "torch_kinds",
]

TRACE = "onnx_ghn.trace"  # where each weight of the framework's model is among the file's tensors
FROZEN = "onnx_ghn.frozen"  # what is not to be trained: buffers, constants, frozen layers
CONSTANTS = "onnx_ghn.constants"  # in a stripped file: which of the tensors that stay are constants
LEARNED = "onnx_ghn.learned"  # in a stripped file: weights that no operator tells from constants
SHARED = "onnx_ghn.shared"  # in a stripped file: which of its weights several operators read on purpose
READS = "onnx_ghn.reads"  # the shape of each tensor, and how the export's operators read it

# What torch.onnx.export(dynamo=True) writes beside each initializer: torch.export's kind of input.
TORCH_KIND = "pkg.torch.export.graph_signature.InputSpec.kind"
TORCH_UNTRAINED = ("BUFFER", "CONSTANT_TENSOR")
FOLDED_FROM = (
    "pkg.onnxscript.optimizer.folded_from"  # of onnxscript's constant folding: names of what a value is made of
)
_TORCH_SIGNATURE = "pkg.torch.export.ExportedProgram.graph_signature"  # of the graph: kinds and names of all inputs
_TORCH_INPUT = re.compile(r"^\S+: ([A-Z_]+) target='([^']+)'", re.MULTILINE)

_LARGEST = 1 << 62  # elements of a tensor
_DAMAGED = (ValueError, TypeError, AttributeError, LookupError, RecursionError)

#: Of a tensor's elements, in their order in memory: (first, behind the last) of each run. None: all of them.
Ranges = tuple[tuple[int, int], ...] | None


@dataclasses.dataclass(frozen=True)
class Note:
    """What one export noted; all names are those of the file that it wrote.

    Attributes:
        trace: where the framework's weights are, as `exporters.weight_map` writes it; "" where nothing is said of it.
        frozen: what is not to be trained.
        reads: the shape of each tensor of floats with several elements, and what read it.
    """

    trace: str
    frozen: Mapping[str, Ranges]
    reads: Mapping[str, tuple[tuple[int, ...], tuple[Read, ...]]]

    @property
    def is_of_export(self) -> bool:
        """Whether an export wrote it, that has noted all of its tensors; `strip` notes constants alone."""
        return bool(self.trace or self.reads)

    @functools.cached_property
    def weights(self) -> frozenset[str] | None:
        """The tensors that hold weights of the framework's model, be they trained or not; None: nothing readable says.

        The other tensors of an export are constants of its computation.
        """
        try:
            return frozenset(str(name) for name in json.loads(self.trace)["stored"]) if self.trace else None
        except _DAMAGED:
            return None

    @functools.cached_property
    def repeated(self) -> Mapping[str, int]:
        """For tensors that repeat trained elements which another place holds, too, how many of theirs do."""
        try:
            record = json.loads(self.trace)["repeated"] if self.trace else {}
            return {str(name): _size(number) for name, number in record.items()}
        except _DAMAGED:
            return {}

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The tensors that the note is about, as far as tools keep them: no single numbers."""
        return tuple(self.reads or self.frozen)

    def made_of_frozen(self, prefix: str, stored: Mapping[str, StoredTensor]) -> dict[str, Ranges]:
        """The file's tensors that a tool made of frozen ones alone: it gave them the names of operators' outputs.

        Folding an operator on constants does so, be it the turning of a matrix or the widening of a first state.
        """
        readers: dict[str, list[bool]] = {}
        for name, (_, reads) in self.reads.items():
            for read in reads:
                readers.setdefault(read.output, []).append(self.frozen.get(name, ()) is None)
        return {
            prefix + output: None
            for output, are_frozen in readers.items()
            if all(are_frozen) and output not in self.reads and prefix + output in stored
        }

    def prefixes(self, stored: Mapping[str, StoredTensor]) -> list[str]:
        """What stands before the note's names in a file that has these tensors: "" as a rule.

        A tool that joins models puts a prefix before all names of one. A file that holds one model twice has two.
        """
        if not self.names or any(name in stored for name in self.names):
            return [""]
        found: collections.Counter[str] = collections.Counter()
        for name in self.names:
            shape = self.reads[name][0] if self.reads else None
            found.update(
                other[: -len(name)]
                for other, tensor in stored.items()
                if other.endswith(name) and shape in (None, tensor.shape)
            )
        whole = sorted(prefix for prefix, times in found.items() if times == len(self.names))
        return whole or [prefix for prefix, _ in found.most_common(1)] or [""]


def mark(
    model: ir.Model,
    trace: str,
    frozen: Mapping[str, Ranges],
    reads: Mapping[str, tuple[tuple[int, ...], tuple[Read, ...]]] | None = None,
) -> None:
    """Write the notes into the model's metadata."""
    texts = {
        TRACE: trace,
        FROZEN: json.dumps(frozen, separators=(",", ":")),
        READS: json.dumps(reads or {}, separators=(",", ":")),
    }
    name = hashlib.sha256("\n".join(texts.values()).encode()).hexdigest()[:12]
    for key, text in texts.items():
        model.metadata_props[f"{key}.{name}"] = text


def notes(model: ir.Model) -> list[Note]:
    """The notes of each export that the file has tensors of; none in a file of others.

    Raises:
        ModelReadError: a note cannot be read. Going on would change frozen layers.
    """
    found: dict[str, dict[str, str]] = {}
    for key, text in model.metadata_props.items():
        for kind in (TRACE, FROZEN, READS):
            if key == kind or key.startswith(f"{kind}."):
                found.setdefault(key[len(kind) :], {})[kind] = text
    return [_note(texts.get(TRACE, ""), texts.get(FROZEN, ""), texts.get(READS, "")) for texts in found.values()]


@functools.lru_cache(maxsize=8)  # every step of a prediction asks, and the notes of a large network take milliseconds
def _note(trace: str, frozen: str, reads: str) -> Note:
    return Note(trace, _frozen(frozen), _reads(reads))


def frozen_tensors(model: ir.Model, stored: Mapping[str, StoredTensor] | None = None) -> dict[str, Ranges]:
    """The stored tensors, or elements of them, that are not to be trained; none where the file does not say.

    Our exporters say so in a note; torch's newer exporter marks each tensor as a parameter, a buffer or a constant. It
    calls a parameter a constant that a module reads through a plain list or dict: the note knows better.

    Args:
        stored: the model's stored tensors, where they are listed already.

    Raises:
        ModelReadError: it says so in a way that cannot be read. Going on would change frozen layers.
    """
    frozen = _untrained_by_torch(model)
    said = notes(model)
    if stored is None:
        stored = stored_tensors(model) if said else {}
    for note in said:
        for prefix in note.prefixes(stored):
            for name in note.weights or ():
                frozen.pop(prefix + name, None)
            frozen |= {prefix + name: ranges for name, ranges in note.frozen.items()}
            frozen |= note.made_of_frozen(prefix, stored)
    return frozen


def mark_constants(model: ir.Model, names: Collection[str]) -> None:
    """Write down which tensors are constants of the computation, and so are not to be trained either."""
    mark(model, "", dict.fromkeys(sorted(names)))
    _mark_names(model, CONSTANTS, names)


def noted_constants(model: ir.Model, stored: Mapping[str, StoredTensor]) -> frozenset[str]:
    """The stored tensors that `mark_constants` has noted.

    `frozen_tensors` has them, too: neither is to be trained, but no layer has a constant for its parameter.
    """
    note = Note("", dict.fromkeys(sorted(_noted_names(model, CONSTANTS))), {})
    return frozenset(prefix + name for prefix in note.prefixes(stored) for name in note.frozen)


def mark_learned(model: ir.Model, names: Collection[str]) -> None:
    """Write down which tensors are learned, though the graph does not say so, nor the file without its marks."""
    _mark_names(model, LEARNED, names)


def noted_learned(model: ir.Model) -> frozenset[str]:
    """The tensors that `mark_learned` has noted."""
    return _noted_names(model, LEARNED)


def mark_shared(model: ir.Model, names: Collection[str]) -> None:
    """Write down which tensors several operators read, and are one parameter nevertheless."""
    _mark_names(model, SHARED, names)


def noted_shared(model: ir.Model) -> frozenset[str]:
    """The tensors that `mark_shared` has noted."""
    return _noted_names(model, SHARED)


def _mark_names(model: ir.Model, key: str, names: Collection[str]) -> None:
    text = json.dumps(sorted(names), separators=(",", ":"))
    model.metadata_props[f"{key}.{hashlib.sha256(text.encode()).hexdigest()[:12]}"] = text


def _noted_names(model: ir.Model, key: str) -> frozenset[str]:
    """What `_mark_names` wrote; a list that cannot be read says nothing, and tensors are read as without one."""
    found: set[str] = set()
    for other, text in model.metadata_props.items():
        if other.startswith(f"{key}."):
            with contextlib.suppress(*_DAMAGED):
                found.update(str(name) for name in json.loads(text))
    return frozenset(found)


def torch_kinds(model: ir.Model) -> dict[str, str]:
    """Kinds of torch.export's inputs (PARAMETER, BUFFER, …) by torch's names of them; none where the file has no list.

    The list names those, too, that the exporter folded into other tensors, as the marks beside initializers do not.
    """
    signature = model.graph.metadata_props.get(_TORCH_SIGNATURE, "")
    return {name: kind for kind, name in _TORCH_INPUT.findall(signature)}


def _range(first: object, stop: object) -> tuple[int, int]:
    if type(first) is not int or type(stop) is not int or not 0 <= first <= stop <= _LARGEST:
        raise ValueError(f"{first!r:.20} to {stop!r:.20} is no range of elements")
    return first, stop


def _frozen(text: str) -> dict[str, Ranges]:
    try:
        record = json.loads(text) if text else {}
        return {
            str(name): None if ranges is None else tuple(_range(first, stop) for first, stop in ranges)
            for name, ranges in record.items()
        }
    except _DAMAGED as error:
        raise ModelReadError(f"metadata {FROZEN} is damaged ({error}); export the model again, or remove it") from error


def _reads(text: str) -> dict[str, tuple[tuple[int, ...], tuple[Read, ...]]]:
    try:
        record = json.loads(text) if text else {}
        return {
            str(name): (
                tuple(_size(size) for size in shape),
                tuple(Read(str(output), _size(index), str(how)) for output, index, how in reads),
            )
            for name, (shape, reads) in record.items()
        }
    except _DAMAGED as error:
        raise ModelReadError(f"metadata {READS} is damaged ({error}); export the model again, or remove it") from error


def _size(number: object) -> int:
    if type(number) is not int or not 0 <= number <= _LARGEST:
        raise ValueError(f"{number!r:.20} is no size")
    return number


def _untrained_by_torch(model: ir.Model) -> dict[str, Ranges]:
    marked = ((name, value.metadata_props.get(TORCH_KIND)) for name, value in model.graph.initializers.items())
    return {name: None for name, kind in marked if kind in TORCH_UNTRAINED}
