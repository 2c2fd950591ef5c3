"""A model from any source, made ready to be read and filled: merged tensors told apart, stored tensors listed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import onnx_ir as ir

from onnx_ghn.onnx_io.absent import absent_note
from onnx_ghn.onnx_io.copying import copy_model
from onnx_ghn.onnx_io.marks import notes, torch_kinds
from onnx_ghn.onnx_io.read import read_model
from onnx_ghn.onnx_io.stored import StoredTensor, stored_tensors
from onnx_ghn.passes.called_tensors import BindCalledTensors
from onnx_ghn.passes.folded import find_folded
from onnx_ghn.passes.quantised_merges import SeparateQuantised
from onnx_ghn.passes.restoring import RestoreTensors, lost_tensors
from onnx_ghn.passes.shared_fills import shared_fills
from onnx_ghn.passes.unfolding import UnfoldBatchNorms
from onnx_ghn.passes.untying import UntieMergedTensors

if TYPE_CHECKING:
    import onnx

__all__ = ["OpenedModel", "open_model"]


@dataclasses.dataclass(frozen=True, eq=False)
class OpenedModel:
    """A model of our own, which may be changed, the tensors that it stores, and notes on what was done to it."""

    model: ir.Model
    stored: dict[str, StoredTensor]
    notes: tuple[str, ...] = ()
    untied: tuple[str, ...] = ()  # tensors that were one with another in the source


def open_model(
    source: str | os.PathLike[str] | onnx.ModelProto | ir.Model,
    *,
    base_dir: str | os.PathLike[str] | None = None,
    unfold_batchnorm: bool = False,
) -> OpenedModel:
    """Read a model and rewrite it so that each of its parameters is a tensor of its own.

    Args:
        source: a file, a ModelProto or an ir.Model; none of them is changed. An ir.Model's tensors are shared. The
            weights of a large file are read from it when they are asked for: it must stay as it is.
        base_dir: where the external data of a ModelProto lie; for a file, its folder. Data that are lost become a note:
            only who asks for their values gets an error.
        unfold_batchnorm: put back the batch norms that an exporter folded into convolutions.

    Raises:
        ModelReadError: the file cannot be read, is damaged, or asks for something unsafe.
    """
    if isinstance(source, ir.Model):
        model = copy_model(source)
    else:
        model = read_model(source, base_dir=base_dir, allow_absent=True, leave_on_disk=True)
    BindCalledTensors().call(model)
    RestoreTensors().call(model)
    untied = UntieMergedTensors().call(model)
    separate = SeparateQuantised().call(model)
    stored = stored_tensors(model)
    said: tuple[str, ...] = ()
    if unfold_batchnorm:
        unfolded = UnfoldBatchNorms().call(model).changes
        said = (f"{len(unfolded)} folded batch norms put back" if unfolded else "no folded batch norms were found",)
        stored = stored_tensors(model)
    elif not _is_whole(model, stored) and (folded := find_folded(model)):
        said = (
            f"{len(folded)} convolutions look as if batch norms had been folded into them: keep those in the export "
            "(see the README), or put them back with `unfold_batchnorm`",
        )
    if shared := {} if _keeps_notes(model, stored) else shared_fills(stored):
        name, n_readers = next(iter(shared.items()))
        what = "1 matrix" if len(shared) == 1 else f"{len(shared)} matrices"
        said = (
            *said,
            f"{what} of one value, first {name}, read by {n_readers} layers, will be one weight for all of these: if a "
            "simplifier merged the layers of a stripped file, predict first and simplify afterwards",
        )
    if absent := absent_note(stored.values()):
        said = (absent, *said)
    return OpenedModel(model, stored, said, (*untied.origins, *untied.changes, *separate.changes))


def _keeps_notes(model: ir.Model, stored: Mapping[str, StoredTensor]) -> bool:
    """Whether a file of our exporters holds all that their notes name: no tool has merged or folded anything."""
    return any(note.is_of_export for note in notes(model)) and not lost_tensors(model, stored)


def _is_whole(model: ir.Model, stored: Mapping[str, StoredTensor]) -> bool:
    """Whether a file shows that no batch norm was folded, whatever values look like: that takes statistics away.

    Torch's second exporter lists the buffers of a model, those too that it folded.
    """
    buffers = {name for name, kind in torch_kinds(model).items() if kind == "BUFFER"}
    return _keeps_notes(model, stored) or (bool(torch_kinds(model)) and buffers <= stored.keys())
