"""A model without its weights: what is trained goes, what the computation means literally stays."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_ghn.errors import GraphError
from onnx_ghn.graph import Parameter, Role
from onnx_ghn.graph.builder import graph_of
from onnx_ghn.graph.frequencies import FREQUENCIES
from onnx_ghn.graph.ledger import UNREACHED
from onnx_ghn.onnx_io import check_target, read_model, stored_tensors, write_model
from onnx_ghn.onnx_io.absent import absent_note, require_values
from onnx_ghn.onnx_io.common_value import common_value
from onnx_ghn.onnx_io.marks import (
    frozen_tensors,
    mark_constants,
    mark_learned,
    mark_shared,
    noted_learned,
    noted_shared,
    notes,
)
from onnx_ghn.onnx_io.provenance import STARTS, provenance
from onnx_ghn.passes import StripWeights, open_model
from onnx_ghn.passes.called_tensors import BindCalledTensors
from onnx_ghn.prediction.fallback import has_standard
from onnx_ghn.prediction.fixed_tables import fixed_table, may_mask

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["strip"]

logger = logging.getLogger(__name__)

_SHOWN = 3  # names in a line


def strip(source: str | os.PathLike[str], target: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write a copy of the model file `source` without weights: it still runs, and `predict` fills it.

    No trained values stay in it, small ones (biases, slopes, scales) included. What the computation means literally
    does: shapes, indices, masks, tables that were computed (sines and cosines of positions, windows, filter banks),
    and small settings such as the channel means that inputs are normalised by. What may be either stays, and its names
    are logged.

    Raises:
        ModelReadError: the file cannot be read. ModelWriteError: the target exists, or cannot be written.
    """
    check_target(target, force, "an .onnx file", [source])
    model = read_model(source, allow_absent=True)
    BindCalledTensors().call(model)
    stored = stored_tensors(model)
    if absent := absent_note(stored.values()):
        logger.warning("%s", absent)
    read = _read(model, stored)
    StripWeights(read.settings, read.learned, read.unfilled)(model)
    if read.shared:
        mark_shared(model, read.shared)
    _note(model, read)
    require_values(stored_tensors(model).values())
    return write_model(model, target, force=force, external=False)[0]


@dataclasses.dataclass(frozen=True)
class _Read:
    """What a model's graph says of its tensors, by their stored names.

    Attributes:
        settings: what is not trained, or may not be. `predict` keeps these, so nothing could bring them back.
        constants: those of them that are constants for sure.
        starts: those of these that are zeros from which the computation starts.
        learned: what is trained.
        shared: vectors of these that several operators read, and whose values are no fill that was merged.
        unfilled: what is learned, and may have no standard initialisation.
        told: what is learned as the file says, be it taken out now or by a `strip` before.
    """

    settings: frozenset[str] = frozenset()
    constants: frozenset[str] = frozenset()
    starts: frozenset[str] = frozenset()
    learned: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()
    unfilled: frozenset[str] = frozenset()
    told: frozenset[str] = frozenset()


def _read(model: ir.Model, stored: dict[str, StoredTensor]) -> _Read:
    """Tell settings from weights by the graph; nothing is told where it cannot be read."""
    try:
        opened = open_model(model)
        graph = graph_of(opened.model, opened.stored, "onnx")
    except GraphError as error:
        logger.warning("constants are told from weights by their values alone: %s", error)
        return _Read()
    noted = {
        name for note in notes(model) if not note.is_of_export for name in note.frozen
    }  # when it was stripped before
    readable = {
        name: tensor
        for name, tensor in stored.items()
        if not (tensor.is_absent or tensor.is_sparse or tensor.kind == "constant_of_shape")  # a fill already
    }
    doubtful = [row.name for row in graph.uncertain if row.name in readable]
    named = [row.name for row in graph.uncertain if row.name in readable and row.size > 1]  # not each exponent
    by_file = provenance(opened.model, opened.stored, frozen_tensors(opened.model, opened.stored)).learned
    tables = [
        p.name
        for p in graph.parameters
        if p.name in readable
        and (_is_table(p, readable[p.name]) or (p.doubt == FREQUENCIES and (p.frozen or p.name not in by_file)))
    ]
    masks = {p.name for p in graph.parameters if p.name in readable and may_mask(p, readable[p.name])}
    frozen = [
        p.name
        for p in graph.parameters
        if p.frozen and p.role is not Role.statistic and p.name not in {*tables, *noted}
    ]
    lost = [name for name in frozen if name in stored and stored[name].kind != "constant_of_shape"]
    sparse = [name for name, tensor in stored.items() if tensor.is_sparse]
    for names, told in (
        (sparse, "stay: they are sparse, and carried as they are (make them dense to take them out)"),
        (named, "stay: they may be learned, or constants"),
        (tables, "stay: they look computed: no initialiser draws such values, or sines and cosines are taken of them"),
        (
            lost,
            "are not trained by the framework: they are taken out like weights, and predict fills them like weights",
        ),
    ):
        if names:
            listed = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
            logger.warning("%d of the tensors %s (%s)", len(names), told, listed)
    scales = {name for p in graph.parameters for name in (p.scale_name, p.zero_point_name)}  # written with their weight
    computed = {row.name for row in graph.constants if row.reason != UNREACHED} - scales | noted
    settings = frozenset((*doubtful, *tables, *computed, *masks))
    learned = {p.name for p in graph.parameters if p.name in readable and not p.frozen} - settings
    learned |= {p.name for p in graph.parameters if "int" in p.dtype and p.name in readable and p.size > 1}
    starts = frozenset(row.name for row in graph.constants if row.reason == STARTS)
    vectors = [name for name in learned & stored.keys() if len(stored[name].shape) == 1]
    read_often = [name for name in vectors if len(stored[name].value.uses()) > 1]
    shared = {name for name in read_often if common_value(stored[name]) is None} | (noted_shared(model) & stored.keys())
    by_file &= learned | noted_learned(model)
    # A gain that no node decodes may be told by the marks of an exporter alone, which go.
    gains = {p.name for p in graph.parameters if p.role is Role.norm_scale and p.reason}
    bare = frozenset(learned & (gains | {p.name for p in graph.parameters if not has_standard(p)}))
    return _Read(settings, frozenset(computed), starts, frozenset(learned), frozenset(shared), bare, by_file)


def _note(model: ir.Model, read: _Read) -> None:
    """Write down which constants nothing but the marks of an exporter, or weights beside them, told from weights, and
    which weights nothing but these marks told from constants.

    Without them a mask of zeros would be a bias of scores to `predict`, what scales scores may be learned, and the
    zeros that a decoder begins with (DETR) would be constants as any other, on which no layer computes. A parameter
    that is subtracted from what comes in (centres of radial functions) would be a constant, which no donor could give.
    """
    if not (read.constants or read.told):
        return
    opened = open_model(model)
    graph = graph_of(opened.model, opened.stored, "onnx")
    doubtful = read.constants & {row.name for row in (*graph.parameters, *graph.uncertain)}
    doubtful |= read.starts & {row.name for row in graph.constants if row.reason != STARTS}
    if doubtful:
        mark_constants(model, doubtful)
    if learned := read.told & {row.name for row in graph.uncertain}:
        mark_learned(model, learned)


def _is_table(parameter: Parameter, tensor: StoredTensor) -> bool:
    if not tensor.dtype.is_floating_point() or parameter.scale_name is not None or common_value(tensor) is not None:
        return False  # of one value: nobody has trained it yet
    return bool(fixed_table(parameter, tensor.numpy()))
