"""The way there and back, the same for every framework: codes in, export, trace, own values in; and the file's out.

A framework's module gives a `LiveModel`; what it is made of is its own affair.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import CheckpointError, GraphError
from onnx_ghn.exporters.reports import ExportReport, LoadReport, WeightNote
from onnx_ghn.exporters.tracing import Codes, Trace
from onnx_ghn.onnx_io import check_target, inject, read_model, stored_tensors, write_model
from onnx_ghn.onnx_io.injection import drop_if_unused
from onnx_ghn.onnx_io.marks import TRACE, Ranges, mark

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["Exported", "LiveModel", "export_live", "free_name", "load_live", "to_model"]

Array = npt.NDArray[Any]
_OCTAVES = 16  # what is computed with codes this much larger differs visibly
_KEPT = "keeps its value"
_UNUSED = "the exported computation does not read it"
_UNUSED_REMEDY = "nothing to do if only training needs it"
_COMPUTED = "the exporter computed something from it (folded, fused or quantised it)"
_COMPUTED_REMEDY = "switch the exporter's optimisation off, or remove the layer's parametrisation before the export"


class LiveModel(Protocol):
    """A framework's model with weights that can be read and set, and its exporter."""

    framework: str
    exporter: str
    numbered: bool  # names carry numbers that another instance of the same model has not (conv2d_1/kernel)

    def read(self) -> dict[str, Array]:
        """Copies of all floating-point weights and statistics by name."""

    def write(self, values: Mapping[str, Array]) -> None:
        """Set some of them, in place."""

    def trainable(self) -> Set[str]:
        """Names of those that training would change."""

    def convert(self, folder: Path) -> onnx.ModelProto | Path:
        """The model as it is now as ONNX, or a file written into `folder`."""


def export_live(live: LiveModel, path: str | os.PathLike[str], *, force: bool = False) -> ExportReport:
    """Write a live model as ONNX, with the place of each of its weights in the file's metadata.

    The model's weights are what they were afterwards, also after an error.

    Raises:
        GraphError: its exporter cannot export it. ModelWriteError: the target exists, or cannot be written.
    """
    check_target(os.fspath(path), force)
    with to_model(live) as exported:
        write_model(exported.model, path, force=force)
    return dataclasses.replace(exported.report, path=Path(path))


@dataclasses.dataclass(frozen=True)
class Exported:
    """A live model as an ir.Model with its marks, and where its weights are in it."""

    model: ir.Model
    trace: Trace
    report: ExportReport


@contextlib.contextmanager
def to_model(live: LiveModel) -> Iterator[Exported]:
    """Export a live model, for the time of the context; its weights are what they were, also after an error.

    Raises:
        GraphError: its exporter cannot export it.
    """
    originals = live.read()
    half = [name for name, values in originals.items() if values.dtype not in (np.float32, np.float64)]
    if half:
        raise GraphError(
            f"weight {half[0]!r} is {originals[half[0]].dtype}: only float32 and float64 weights can be told apart "
            "in a file; convert the model to float32 first"
        )
    codes = Codes({name: values.shape for name, values in originals.items()})
    with tempfile.TemporaryDirectory(prefix="onnx-ghn-") as name:
        folder = Path(name)
        model = _coded(live, codes, originals, _subfolder(folder, "coded"))
        stored = stored_tensors(model)
        values_of = {name: tensor.numpy() for name, tensor in stored.items() if _is_float(tensor)}
        trace = codes.trace(values_of)
        if trace.missing:  # what was computed from codes may look like others
            other = Codes(codes.shapes, _OCTAVES)
            again = stored_tensors(_coded(live, other, originals, _subfolder(folder, "again")))
            certain = _certain(codes, values_of, other, {n: t.numpy() for n, t in again.items() if _is_float(t)})
            trace = codes.trace({name: values_of[name] for name in certain})
        else:
            certain = list(values_of)
        new: dict[str, Array] = {}
        for name in certain:
            restored = codes.restored(values_of[name], originals)
            if restored is not None:
                new[name] = restored
        computed: dict[str, Array] = {}
        if trace.missing:  # either nothing reads it, or the file holds what was computed from codes
            rest = {name: values for name, values in values_of.items() if name not in new}
            computed = _computed(live, rest, folder)
        inject(model, {name: lambda values=values: values for name, values in {**new, **computed}.items()}, stored)
        rest = {name: values for name, values in values_of.items() if name not in computed}
        mark(model, trace.to_json(), _frozen(codes, rest, live.trainable()))
        cause, remedy = (_COMPUTED, _COMPUTED_REMEDY) if computed else (_UNUSED, _UNUSED_REMEDY)
        report = ExportReport(
            framework=live.framework,
            exporter=live.exporter,
            n_weights=len(originals),
            n_elements=sum(values.size for values in originals.values()),
            left=tuple(WeightNote(name, codes.shapes[name], cause, remedy) for name in trace.missing),
        )
        yield Exported(model, trace, report)


def load_live(live: LiveModel, source: str | os.PathLike[str] | ir.Model) -> LoadReport:
    """Set a live model's weights to those of an ONNX model of it, in place.

    A file that `export_live` wrote says where they are; of another file it is found out by exporting the
    model once more, in memory.

    Raises:
        CheckpointError: the file is of another model; the live model is unchanged. ModelReadError.
    """
    model = read_model(source) if isinstance(source, str | os.PathLike) else source
    stored = stored_tensors(model)
    current = live.read()
    shapes = {name: tuple(values.shape) for name, values in current.items()}
    text = model.metadata_props.get(TRACE)
    if text is not None:
        trace = Trace.from_json(text)
        if live.numbered:
            trace = trace.renamed(list(shapes))
        _check_shapes(trace, shapes)
    else:
        with to_model(live) as exported:
            trace = _aligned(exported, model, stored)
    weights = trace.collect({name: stored[name].numpy() for name in trace.stored if name in stored})
    live.write({name: values.astype(current[name].dtype) for name, values in weights.items()})
    return LoadReport(
        framework=live.framework,
        exporter=live.exporter,
        n_weights=len(current),
        n_elements=sum(values.size for values in current.values()),
        left=tuple(
            WeightNote(name, shapes[name], "the file does not hold it as it is", _KEPT) for name in trace.missing
        ),
    )


def _coded(live: LiveModel, codes: Codes, originals: Mapping[str, Array], folder: Path) -> ir.Model:
    """An export with codes for weights; the live model has its own again afterwards."""
    try:
        live.write({name: codes.values(name).astype(values.dtype) for name, values in originals.items()})
        source = live.convert(folder)
    finally:
        live.write(originals)
    model = read_model(source)
    _tie_copies(model, codes)
    return model


def _certain(codes: Codes, stored: Mapping[str, Array], other: Codes, again: Mapping[str, Array]) -> list[str]:
    """Tensors that are made of the same elements of weights in exports with two codes, or of none.

    A sum of a code and something small is a code as well, of another element: only two codes tell that it was computed.
    """
    known: set[tuple[tuple[int, ...], bytes]] | None = None
    certain = []
    for name, values in stored.items():
        numbers = codes.numbers(values)
        if name in again and np.array_equal(numbers, other.numbers(again[name])):
            certain.append(name)
        elif name not in again or again[name].shape != values.shape:  # under another name
            if known is None:
                known = {(found.shape, other.numbers(found).tobytes()) for found in again.values()}
            if (values.shape, numbers.tobytes()) in known:
                certain.append(name)
    return certain


def free_name(name: str, taken: Mapping[str, object]) -> str:
    """A weight's name, numbered where another one bears it."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def _tie_copies(model: ir.Model, codes: Codes) -> None:
    """Have what reads one of several initializers with the same weights read the first: they are one parameter."""
    first: dict[tuple[tuple[int, ...], str, bytes], Any] = {}
    for tensor in stored_tensors(model).values():
        if tensor.kind != "initializer" or not _is_float(tensor) or tensor.value.is_graph_output():
            continue
        numbers = codes.numbers(tensor.numpy())
        if (numbers < 0).any():
            continue
        key = (tensor.shape, tensor.dtype.name, hashlib.sha256(numbers.tobytes()).digest())
        if key not in first:
            first[key] = tensor.value
        elif tensor.site.graph is model.graph:
            tensor.value.replace_all_uses_with(first[key])
            drop_if_unused(tensor.value)


def _aligned(exported: Exported, model: ir.Model, stored: Mapping[str, StoredTensor]) -> Trace:
    """The trace of an export under the names of another one of the same model.

    Some exporters number tensors from instance to instance, and sort by those names; what stays is the computation,
    read from its outputs backwards. Where that differs (another version, other options), names decide.
    """
    trace = exported.trace
    ours, theirs = _reading_order(exported.model, stored_tensors(exported.model)), _reading_order(model, stored)
    if [read[:-1] for read in ours] != [read[:-1] for read in theirs]:
        return trace
    new = {read[-1]: other[-1] for read, other in zip(ours, theirs, strict=True)}
    return dataclasses.replace(trace, stored={new.get(name, name): shape for name, shape in trace.stored.items()})


def _reading_order(model: ir.Model, stored: Mapping[str, StoredTensor]) -> list[tuple[str, int, tuple[int, ...], str]]:
    """(operator, input, shape, name) of each stored tensor where it is first read, depth first from the outputs."""
    names = {id(tensor.value): name for name, tensor in stored.items()}
    found: dict[str, tuple[str, int, tuple[int, ...], str]] = {}
    seen: set[int] = set()
    left = [output.producer() for output in reversed(model.graph.outputs)]
    while left:
        node = left.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        for index, value in enumerate(node.inputs):
            name = names.get(id(value))
            if name is not None and name not in found:
                found[name] = (node.op_type, index, stored[name].shape, name)
        left.extend(value.producer() for value in reversed(node.inputs) if value is not None)
    return list(found.values())


def _subfolder(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir()
    return path


def _is_float(tensor: StoredTensor) -> bool:
    return not tensor.is_sparse and not tensor.is_string and tensor.dtype.is_floating_point() and 0 not in tensor.shape


def _computed(live: LiveModel, rest: Mapping[str, Array], folder: Path) -> dict[str, Array]:
    """The tensors that depend on the weights without holding them, from an export with the weights as they are."""
    second = stored_tensors(read_model(live.convert(_subfolder(folder, "plain"))))
    found = {}
    for name, values in rest.items():
        if name in second and second[name].shape == values.shape:
            own = np.array(second[name].numpy())
            if not np.array_equal(own, values, equal_nan=True):
                found[name] = own
        elif values.size > 1 and not any(_same(tensor, values) for tensor in second.values()):
            raise GraphError(
                f"tensor {name!r} {list(values.shape)} holds what the exporter computed from weights, under a name "
                f"that changes from export to export; {_COMPUTED_REMEDY}"
            )
    return found


def _same(tensor: StoredTensor, values: Array) -> bool:
    return (
        _is_float(tensor)
        and tensor.shape == values.shape
        and bool(np.array_equal(tensor.numpy(), values, equal_nan=True))
    )


def _frozen(codes: Codes, stored: Mapping[str, Array], trainable: Set[str]) -> dict[str, Ranges]:
    """What of the stored tensors is no trainable weight's."""
    sizes = {name: int(np.prod(shape, dtype=np.int64)) for name, shape in codes.shapes.items()}
    part = np.zeros(sum(sizes.values()) + 1, dtype=bool)  # the last is number -1, which stands for no weight
    start = 0
    for name, size in sizes.items():
        part[start : start + size] = name in trainable
        start += size
    frozen: dict[str, Ranges] = {}
    for name, values in stored.items():
        mine = part[codes.numbers(values)]
        if not mine.any():
            frozen[name] = None
        elif not mine.all():
            ends = np.flatnonzero(np.diff(np.concatenate([[False], ~mine, [False]]).astype(np.int8)))
            frozen[name] = tuple((int(first), int(stop)) for first, stop in ends.reshape(-1, 2))
    return frozen


def _check_shapes(trace: Trace, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        if trace.shapes.get(name) != shape:
            there = trace.shapes.get(name)
            raise CheckpointError(
                f"weight {name!r} {list(shape)} of the model is "
                f"{'not in' if there is None else f'{list(there)} in'} the file: it was exported from another model"
            )
    for name in trace.shapes:
        if name not in shapes:
            raise CheckpointError(f"weight {name!r} of the file is not in the model: it was exported from another one")
