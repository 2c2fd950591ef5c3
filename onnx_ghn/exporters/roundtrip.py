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
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import CheckpointError, GraphError, OnnxGhnError
from onnx_ghn.exporters.alignment import Found, Rewritten, align, traced
from onnx_ghn.exporters.coded_values import (
    COMPUTED_REMEDY,
    computed_values,
    float_values,
    frozen_elements,
    holds,
    is_among,
    is_float,
    n_repeated,
    repeated_elements,
    same_in_both,
    varied_weights,
)
from onnx_ghn.exporters.live import ExportedElsewhere, HoldsConstants, LiveModel, MendsFiles
from onnx_ghn.exporters.loadable import check_loads
from onnx_ghn.exporters.reports import ExportReport, LoadReport, WeightNote
from onnx_ghn.exporters.same_outputs import check_same_outputs
from onnx_ghn.exporters.weight_map import Array, Codes, WeightMap
from onnx_ghn.onnx_io import check_target, inject, read_model, stored_tensors, write_model
from onnx_ghn.onnx_io.injection import drop_if_unused
from onnx_ghn.onnx_io.inputs_read import data_inputs, inputs_read
from onnx_ghn.onnx_io.marks import mark
from onnx_ghn.onnx_io.reads import reads
from onnx_ghn.passes.restoring import RestoreTensors
from onnx_ghn.scratch import scratch_folder

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnx_ghn.onnx_io import StoredTensor

__all__ = [
    "Exported",
    "export_live",
    "load_live",
    "to_model",
    "unique_name",
]

logger = logging.getLogger(__name__)

_OCTAVES = 16  # the second codes are 2^16 times larger, so that values computed from them differ visibly
_KEEPS_VALUE = "keeps its value"
_NOT_HELD = "the file does not hold it as it is"
_PLAIN_EXPORT = "export it again with optimize=False (torch.onnx.export), or by `onnx-ghn export`"
_UNUSED = "the exported computation does not read it"
_UNUSED_REMEDY = "nothing to do if only training needs it"
_CONSTANT = "a constant of the model, which no training changes, and which the file does not hold as it is"
_CONSTANT_REMEDY = "nothing to do: the file computes with it"
_COMPUTED = "the exporter computed something from it (folded, fused or quantised it)"


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
        is_complex = originals[unsupported[0]].dtype.kind == "c"
        parts = "hold its real and imaginary parts in two float32 weights"
        remedy = parts if is_complex else "convert the model to float32 first"
        dtype = "bfloat16" if originals[unsupported[0]].dtype == "V2" else originals[unsupported[0]].dtype
        raise GraphError(
            f"weight {unsupported[0]!r} is {dtype}: only float32 and float64 weights can be "
            f"told apart in a file; {remedy}"
        )
    codes = Codes({name: values.shape for name, values in originals.items()})
    with scratch_folder() as folder:
        model = _export_coded(live, codes, originals, _subfolder(folder, "coded"), checked=True)
        stored = stored_tensors(model)
        values_of = float_values(stored)
        weight_map = codes.locate(values_of)
        certain = list(values_of)
        if weight_map.unmatched:  # then the file may hold values computed from codes, which may equal other codes
            second_codes = Codes(codes.shapes, _OCTAVES)
            second = stored_tensors(_export_coded(live, second_codes, originals, _subfolder(folder, "again")))
            certain = same_in_both(codes, values_of, second_codes, float_values(second))
            weight_map = codes.locate({name: values_of[name] for name in certain})
        decoded: dict[str, Array] = {}
        for name in certain:
            values = codes.decoded(values_of[name], originals)
            if values is not None:
                decoded[name] = values
        computed: dict[str, Array] = {}
        trainable = live.trainable()
        loses = not trainable.isdisjoint(weight_map.unmatched)
        if weight_map.unmatched:  # the computation does not read them, or the file holds what was computed from them
            plain = stored_tensors(read_model(live.convert(_subfolder(folder, "plain"))))
            # Products of codes can be so small, or cancel so far, that a sum with them is a code again. With the own
            # values they may be nothing at all, as that of LoRA's two matrices is before any training.
            sums = [name for name, values in decoded.items() if loses or not is_among(plain, name, values)]
            if sums:  # or an exporter left out what does nothing with the own values: zeros that are added
                varied = varied_weights(originals)
                other = _exported_with(live, varied, originals, _subfolder(folder, "varied"))
                sums = [name for name in sums if not holds(other, name, codes.decoded(values_of[name], varied))]
            if sums:
                decoded = {name: values for name, values in decoded.items() if name not in sums}
                weight_map = codes.locate({name: values_of[name] for name in certain if name not in sums})
            undecoded = {name: values for name, values in values_of.items() if name not in decoded}
            computed = computed_values(plain, undecoded)
        inject(
            model, {name: functools.partial(_given, values) for name, values in {**decoded, **computed}.items()}, stored
        )
        # What is computed from weights that are not trained (scales of quantised ones) is not trained either.
        uncomputed = {name: values for name, values in values_of.items() if not loses or name not in computed}
        held = {name: values_of[name] for name in decoded}
        trace = weight_map.to_json(n_repeated(codes, held, weight_map.stored, trainable))
        mark(model, trace, frozen_elements(codes, uncomputed, trainable), reads(model))
        read_inputs = inputs_read(model)
        told = (_COMPUTED, COMPUTED_REMEDY) if computed else (_UNUSED, _UNUSED_REMEDY)
        constants = _constants(live)
        report = ExportReport(
            framework=live.framework,
            exporter=live.exporter,
            n_weights=len(originals),
            n_elements=sum(values.size for values in originals.values()),
            unmatched=tuple(
                WeightNote(name, codes.shapes[name], *((_CONSTANT, _CONSTANT_REMEDY) if name in constants else told))
                for name in weight_map.unmatched
            ),
            notes=tuple(
                f"no output of the file depends on its input {name!r}"
                for name in data_inputs(model)
                if name not in read_inputs
            ),
        )
        repeated = {
            name: elements for name in decoded if (elements := repeated_elements(codes, values_of[name])) is not None
        }
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
    constants = _constants(live)
    return LoadReport(
        framework=live.framework,
        exporter=live.exporter,
        n_weights=len(current),
        n_elements=sum(values.size for values in current.values()),
        unmatched=tuple(
            WeightNote(name, shapes[name], _CONSTANT if name in constants else _NOT_HELD, _KEEPS_VALUE)
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


def _constants(live: LiveModel) -> Set[str]:
    return live.constants() if isinstance(live, HoldsConstants) else frozenset()


def _given(values: Array) -> Array:
    return values


def _export_coded(
    live: LiveModel, codes: Codes, originals: Mapping[str, Array], folder: Path, *, checked: bool = False
) -> ir.Model:
    """Export with codes for weights. The live model has its own weights again afterwards.

    Args:
        checked: this is the file that is kept: mend what its exporter wrote wrong, and see that a runtime loads it.
    """
    try:
        live.write({name: codes.values(name).astype(values.dtype) for name, values in originals.items()})
        source = live.convert(folder)
    finally:
        live.write(originals)
    if checked:
        if isinstance(live, MendsFiles) and isinstance(source, Path):
            live.mend(source)
        check_loads(source, live.exporter)
    model = read_model(source)
    if checked and live.takes_inputs:
        _check_dependence(model, live.exporter)
    _forget_branch_shapes(model)
    _tie_copies(model, codes)
    return model


def _forget_branch_shapes(model: ir.Model) -> None:
    """Leave out the sizes of what the branches of an If give, which nobody needs.

    Torch's first exporter guesses them, and where it guesses wrongly onnxruntime allocates too little and stops.
    """
    for node in model.graph.all_nodes():
        if node.op_type == "If":
            for branch in node.attributes.values():
                for output in branch.as_graph().outputs:
                    output.shape = None


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


def _tie_copies(model: ir.Model, codes: Codes) -> None:
    """Let one initializer replace those that hold the same weights: they are one parameter."""
    first: dict[tuple[tuple[int, ...], str, bytes], ir.Value] = {}
    for tensor in stored_tensors(model).values():
        if tensor.kind != "initializer" or not is_float(tensor) or tensor.value.is_graph_output():
            continue
        values = tensor.numpy()
        elements = codes.elements(values)
        if (elements < 0).any():
            continue
        signs = np.signbit(values)
        key = (tensor.shape, tensor.dtype.name, hashlib.sha256(elements.tobytes() + signs.tobytes()).digest())
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
