"""The way to ONNX and back, which is the same for every framework.

An export gives the live model codes for weights, lets the framework's exporter write it, locates the codes in the file
and puts the model's own weights in their place. A load goes the other way with the map of weights that the file holds.
Each framework's module adapts its models to `LiveModel`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import CheckpointError, GraphError, OnnxGhnError
from onnx_ghn.exporters.alignment import Found, Rewritten, align, traced
from onnx_ghn.exporters.loadable import check_loads
from onnx_ghn.exporters.reports import ExportReport, LoadReport, WeightNote
from onnx_ghn.exporters.same_outputs import check_same_outputs
from onnx_ghn.exporters.weight_map import Array, Codes, WeightMap
from onnx_ghn.onnx_io import check_target, inject, read_model, stored_tensors, write_model
from onnx_ghn.onnx_io.injection import drop_if_unused
from onnx_ghn.onnx_io.inputs_read import data_inputs, inputs_read
from onnx_ghn.onnx_io.marks import Ranges, mark
from onnx_ghn.onnx_io.reads import reads
from onnx_ghn.passes.restoring import RestoreTensors
from onnx_ghn.scratch import scratch_folder

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["Exported", "ExportedElsewhere", "LiveModel", "export_live", "load_live", "to_model", "unique_name"]

logger = logging.getLogger(__name__)

_OCTAVES = 16  # the second codes are 2^16 times larger, so that values computed from them differ visibly
_KEEPS_VALUE = "keeps its value"
_PLAIN_EXPORT = "export it again with optimize=False (torch.onnx.export), or by `onnx-ghn export`"
_UNUSED = "the exported computation does not read it"
_UNUSED_REMEDY = "nothing to do if only training needs it"
_COMPUTED = "the exporter computed something from it (folded, fused or quantised it)"
_COMPUTED_REMEDY = "switch the exporter's optimisation off, or remove the layer's parametrisation before the export"


class LiveModel(Protocol):
    """A framework's model whose weights can be read and set, and its exporter."""

    framework: str
    exporter: str
    numbered: bool = False  # weights' names hold numbers that differ between instances of one model (conv2d_1/kernel)
    takes_inputs: bool = True  # a file of it has to depend on inputs

    def read(self) -> dict[str, Array]:
        """Copies of all floating-point weights and statistics by name."""

    def write(self, values: Mapping[str, Array]) -> None:
        """Set some of them, in place."""

    def trainable(self) -> Set[str]:
        """Names of the weights that training would change."""

    def convert(self, folder: Path) -> onnx.ModelProto | Path:
        """Convert the model as it is now to ONNX: a model in memory, or a file in `folder`."""


@runtime_checkable
class ExportedElsewhere(Protocol):
    """A live model that people also export without us, in ways that leave its weights in other places."""

    def elsewhere(self, model: ir.Model) -> Iterator[LiveModel]:
        """The same live model with other ways of exporting it, first the one that a file looks like."""


def export_live(live: LiveModel, path: str | os.PathLike[str], *, force: bool = False) -> ExportReport:
    """Write a live model as ONNX, with the map of its weights in the file's metadata.

    Afterwards the model has its own weights again, also after an error.

    Raises:
        GraphError: its exporter cannot export it.
        ModelWriteError: the target exists, or cannot be written.
    """
    check_target(os.fspath(path), force)
    with to_model(live) as exported:
        write_model(exported.model, path, force=force)
    return dataclasses.replace(exported.report, path=Path(path))


@dataclasses.dataclass(frozen=True)
class Exported:
    """A live model as an ir.Model with its notes, and the map of its weights."""

    model: ir.Model
    weight_map: WeightMap
    report: ExportReport
    repeated: Mapping[str, npt.NDArray[np.int64]]  # of tensors that hold an element several times: which ones, flat


@contextlib.contextmanager
def to_model(live: LiveModel) -> Iterator[Exported]:
    """Export a live model for the time of the context, which holds the files that the ir.Model reads.

    The live model has its own weights again, also after an error.

    Raises:
        GraphError: its exporter cannot export it.
    """
    originals = live.read()
    unsupported = [name for name, values in originals.items() if values.dtype not in (np.float32, np.float64)]
    if unsupported:
        raise GraphError(
            f"weight {unsupported[0]!r} is {originals[unsupported[0]].dtype}: only float32 and float64 weights can be "
            "told apart in a file; convert the model to float32 first"
        )
    codes = Codes({name: values.shape for name, values in originals.items()})
    with scratch_folder() as folder:
        model = _export_coded(live, codes, originals, _subfolder(folder, "coded"), checked=True)
        stored = stored_tensors(model)
        values_of = _floats(stored)
        weight_map = codes.locate(values_of)
        certain = list(values_of)
        if weight_map.unmatched:  # then the file may hold values computed from codes, which may equal other codes
            second_codes = Codes(codes.shapes, _OCTAVES)
            second = stored_tensors(_export_coded(live, second_codes, originals, _subfolder(folder, "again")))
            certain = _same_in_both(codes, values_of, second_codes, _floats(second))
            weight_map = codes.locate({name: values_of[name] for name in certain})
        decoded: dict[str, Array] = {}
        for name in certain:
            values = codes.decoded(values_of[name], originals)
            if values is not None:
                decoded[name] = values
        computed: dict[str, Array] = {}
        if weight_map.unmatched:  # the computation does not read them, or the file holds what was computed from them
            plain = stored_tensors(read_model(live.convert(_subfolder(folder, "plain"))))
            # Products of codes can be so small, or cancel so far, that a sum with them is a code again.
            sums = [name for name, values in decoded.items() if not _is_among(plain, name, values)]
            if sums:  # or an exporter left out what does nothing with the own values: zeros that are added
                varied = _varied(originals)
                other = _exported_with(live, varied, originals, _subfolder(folder, "varied"))
                sums = [name for name in sums if not _holds(other, name, codes.decoded(values_of[name], varied))]
            if sums:
                decoded = {name: values for name, values in decoded.items() if name not in sums}
                weight_map = codes.locate({name: values_of[name] for name in certain if name not in sums})
            undecoded = {name: values for name, values in values_of.items() if name not in decoded}
            computed = _computed(plain, undecoded)
        inject(
            model, {name: functools.partial(_given, values) for name, values in {**decoded, **computed}.items()}, stored
        )
        uncomputed = {name: values for name, values in values_of.items() if name not in computed}
        mark(model, weight_map.to_json(), _frozen(codes, uncomputed, live.trainable()), reads(model))
        read_inputs = inputs_read(model)
        cause, remedy = (_COMPUTED, _COMPUTED_REMEDY) if computed else (_UNUSED, _UNUSED_REMEDY)
        report = ExportReport(
            framework=live.framework,
            exporter=live.exporter,
            n_weights=len(originals),
            n_elements=sum(values.size for values in originals.values()),
            unmatched=tuple(WeightNote(name, codes.shapes[name], cause, remedy) for name in weight_map.unmatched),
            notes=tuple(
                f"no output of the file depends on its input {name!r}"
                for name in data_inputs(model)
                if name not in read_inputs
            ),
        )
        repeated = {name: elements for name in decoded if (elements := _repeated(codes, values_of[name])) is not None}
        yield Exported(model, weight_map, report, repeated)


def load_live(live: LiveModel, source: str | os.PathLike[str] | ir.Model) -> LoadReport:
    """Set a live model's weights to those of an ONNX model of it, in place.

    A file that `export_live` wrote says where they are. For any other file, the live model is exported once more, in
    memory, and compared; then in the ways of its framework that others may have exported it in. In a file that a tool
    rewrote, tensors are guessed, and taken if the model then computes what the file computes.

    Raises:
        CheckpointError: the file is of another model; the live model is unchanged.
        ModelReadError: the file cannot be read.
    """
    model = read_model(source) if isinstance(source, str | os.PathLike) else source
    RestoreTensors()(model)
    stored = stored_tensors(model)
    current = live.read()
    shapes = {name: tuple(values.shape) for name, values in current.items()}
    try:
        found = traced(model, stored, shapes, numbered=live.numbered) or _found_by_exporting(live, model, stored)
    except Rewritten as error:
        found = _found_behind_a_tool(live, model, stored, error)
    weights = found.weight_map.collect(found.arrays)
    live.write({name: values.astype(current[name].dtype) for name, values in weights.items()})
    return LoadReport(
        framework=live.framework,
        exporter=live.exporter,
        n_weights=len(current),
        n_elements=sum(values.size for values in current.values()),
        unmatched=tuple(
            WeightNote(name, shapes[name], "the file does not hold it as it is", _KEEPS_VALUE)
            for name in found.weight_map.unmatched
        ),
        notes=(*found.notes, *_rounded(stored, found.weight_map, current)),
    )


def unique_name(name: str, taken: Mapping[str, object]) -> str:
    """A weight's name, with a number at its end where `taken` holds the name."""
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def _repeated(codes: Codes, values: Array) -> npt.NDArray[np.int64] | None:
    """Which element of the weights each value of a tensor is, where it holds more values than there are elements."""
    elements = codes.elements(values)
    coded = elements[elements >= 0]
    return elements if len(coded) and len(coded) > int(coded.max() - coded.min()) + 1 else None


def _given(values: Array) -> Array:
    return values


def _export_coded(
    live: LiveModel, codes: Codes, originals: Mapping[str, Array], folder: Path, *, checked: bool = False
) -> ir.Model:
    """Export with codes for weights. The live model has its own weights again afterwards.

    Args:
        checked: see that a runtime loads what was written.
    """
    try:
        live.write({name: codes.values(name).astype(values.dtype) for name, values in originals.items()})
        source = live.convert(folder)
    finally:
        live.write(originals)
    if checked:
        check_loads(source, live.exporter)
    model = read_model(source)
    if checked and live.takes_inputs:
        _check_dependence(model, live.exporter)
    _tie_copies(model, codes)
    return model


def _check_dependence(model: ir.Model, exporter: str) -> None:
    """Raise GraphError for a file that gives the same outputs whatever it is given."""
    if inputs_read(model):
        return
    given = data_inputs(model)
    lacks = (
        f"a file whose outputs do not depend on its inputs ({', '.join(given)})" if given else "a file without inputs"
    )
    raise GraphError(
        f"{exporter} wrote {lacks}: it stored what the model computed once; export the model another way, such as by "
        "torch's other exporter (`exporter`), and compute outputs from inputs by the framework's functions alone"
    )


def _exported_with(
    live: LiveModel, values: Mapping[str, Array], originals: Mapping[str, Array], folder: Path
) -> dict[str, StoredTensor]:
    """What an export stores of a model with other weights, which has its own again afterwards."""
    try:
        live.write(values)
        source = live.convert(folder)
    finally:
        live.write(originals)
    return stored_tensors(read_model(source))


def _varied(originals: Mapping[str, Array]) -> dict[str, Array]:
    """Weights of an ordinary size, no two of which are equal; positive, as variances must be."""
    rng = np.random.default_rng(0)
    return {name: rng.uniform(0.5, 1.5, values.shape).astype(values.dtype) for name, values in originals.items()}


def _holds(tensors: Mapping[str, StoredTensor], name: str, values: Array | None) -> bool:
    return values is not None and _is_among(tensors, name, values)


def _same_in_both(
    codes: Codes, stored: Mapping[str, Array], second_codes: Codes, second: Mapping[str, Array]
) -> list[str]:
    """Names of the tensors that hold the same elements of weights, or none, in exports with two different codes.

    The sum of a code and a small number may equal the code of another element. Only a second code shows that it was
    computed.
    """
    known: set[tuple[tuple[int, ...], bytes]] | None = None
    same = []
    for name, values in stored.items():
        elements = codes.elements(values)
        if name in second and np.array_equal(elements, second_codes.elements(second[name])):
            same.append(name)
        elif name not in second or second[name].shape != values.shape:  # the second export has it under another name
            if known is None:
                known = {(other.shape, second_codes.elements(other).tobytes()) for other in second.values()}
            if (values.shape, elements.tobytes()) in known:
                same.append(name)
    return same


def _tie_copies(model: ir.Model, codes: Codes) -> None:
    """Let one initializer replace those that hold the same weights: they are one parameter."""
    first: dict[tuple[tuple[int, ...], str, bytes], ir.Value] = {}
    for tensor in stored_tensors(model).values():
        if tensor.kind != "initializer" or not _is_float(tensor) or tensor.value.is_graph_output():
            continue
        elements = codes.elements(tensor.numpy())
        if (elements < 0).any():
            continue
        key = (tensor.shape, tensor.dtype.name, hashlib.sha256(elements.tobytes()).digest())
        if key not in first:
            first[key] = tensor.value
        elif tensor.site.graph is model.graph:
            tensor.value.replace_all_uses_with(first[key])
            drop_if_unused(tensor.value)


def _found_by_exporting(live: LiveModel, model: ir.Model, stored: Mapping[str, StoredTensor]) -> Found:
    """The weights of a file without a trace, which is compared with further exports of the live model."""
    try:
        with to_model(live) as exported:
            return align(exported.model, exported.weight_map, model, stored)
    except CheckpointError as error:
        first = error
    said: str | None = None
    for other in live.elsewhere(model) if isinstance(live, ExportedElsewhere) else ():
        try:
            with to_model(other) as exported:
                found = align(exported.model, exported.weight_map, model, stored, exported.repeated, strict=True)
                computed = [note for note in exported.report.unmatched if note.cause == _COMPUTED]
        except (CheckpointError, GraphError) as error:
            logger.debug("%s", error)
            continue
        if not computed:
            return found
        said = said or f"weight {computed[0].name!r} {list(computed[0].shape)}: {_COMPUTED}"
    kind = Rewritten if isinstance(first, Rewritten) and said is None else CheckpointError
    raise kind(f"{said or first}; {_PLAIN_EXPORT}") from first


def _found_behind_a_tool(
    live: LiveModel, model: ir.Model, stored: Mapping[str, StoredTensor], told: CheckpointError
) -> Found:
    """The weights of a file that a tool rewrote: guessed beside an export, and seen to compute what the file computes.

    Raises:
        CheckpointError: what was told before; the guess is no better, or the model cannot be exported.
    """
    try:
        with to_model(live) as exported:
            found = align(exported.model, exported.weight_map, model, stored, exported.repeated, rewritten=True)
            names = zip(exported.weight_map.stored, found.weight_map.stored, strict=True)
            check_same_outputs(exported.model, {own: found.arrays[name] for own, name in names}, model)
    except OnnxGhnError as error:
        logger.debug("%s", error)
        raise CheckpointError(str(told)) from error
    return found


def _rounded(
    stored: Mapping[str, StoredTensor], weight_map: WeightMap, current: Mapping[str, Array]
) -> tuple[str, ...]:
    """A note where the file holds weights in a type of fewer bits than the model has."""
    kinds = {stored[name].dtype for name in weight_map.stored if name in stored}
    small = sorted(kind.name.lower() for kind in kinds if kind.bitwidth < 32)
    if not small or all(values.dtype.itemsize < 4 for values in current.values()):
        return ()
    return (f"the file holds {' and '.join(small)}, so that the weights of the model are rounded to that",)


def _subfolder(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir()
    return path


def _is_float(tensor: StoredTensor) -> bool:
    return not tensor.is_sparse and not tensor.is_string and tensor.dtype.is_floating_point() and 0 not in tensor.shape


def _floats(stored: Mapping[str, StoredTensor]) -> dict[str, Array]:
    return {name: tensor.numpy() for name, tensor in stored.items() if _is_float(tensor)}


def _is_among(plain: Mapping[str, StoredTensor], name: str, values: Array) -> bool:
    """Whether an export with the own weights holds these values, under their name or another."""
    if name in plain and plain[name].shape == values.shape:
        return _equal(plain[name], values)
    return any(_equal(tensor, values) for tensor in plain.values())


def _computed(plain: Mapping[str, StoredTensor], undecoded: Mapping[str, Array]) -> dict[str, Array]:
    """Values of the tensors that depend on the weights without holding them.

    Args:
        plain: an export with the own weights.
    """
    computed = {}
    for name, values in undecoded.items():
        if name in plain and plain[name].shape == values.shape:
            own = np.array(plain[name].numpy())
            if not np.array_equal(own, values, equal_nan=True):
                computed[name] = own
        elif values.size > 1 and not any(_equal(tensor, values) for tensor in plain.values()):
            raise GraphError(
                f"tensor {name!r} {list(values.shape)} holds what the exporter computed from weights, under a name "
                f"that changes from export to export; {_COMPUTED_REMEDY}"
            )
    return computed


def _equal(tensor: StoredTensor, values: Array) -> bool:
    return (
        _is_float(tensor)
        and tensor.shape == values.shape
        and bool(np.array_equal(tensor.numpy(), values, equal_nan=True))
    )


def _frozen(codes: Codes, stored: Mapping[str, Array], trainable: Set[str]) -> dict[str, Ranges]:
    """The parts of stored tensors that hold no trainable weight."""
    sizes = {name: int(np.prod(shape, dtype=np.int64)) for name, shape in codes.shapes.items()}
    # One flag for each element, and a last one for element -1, which stands for no weight.
    is_trainable: npt.NDArray[np.bool_] = np.zeros(sum(sizes.values()) + 1, dtype=bool)
    start = 0
    for name, size in sizes.items():
        is_trainable[start : start + size] = name in trainable
        start += size
    frozen: dict[str, Ranges] = {}
    for name, values in stored.items():
        trains = is_trainable[codes.elements(values)]
        if not trains.any():
            frozen[name] = None
        elif not trains.all():
            ends = np.flatnonzero(np.diff(np.concatenate([[False], ~trains, [False]]).astype(np.int8)))
            frozen[name] = tuple((int(first), int(stop)) for first, stop in ends.reshape(-1, 2))
    return frozen
