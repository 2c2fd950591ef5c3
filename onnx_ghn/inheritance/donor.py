"""A donor: a trained model whose weights another one inherits."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.arrays import Array, read_only
from onnx_ghn.errors import OptionError
from onnx_ghn.garbage import no_garbage_collection
from onnx_ghn.graph import ComputationGraph, Parameter, Role
from onnx_ghn.graph.builder import read_graph
from onnx_ghn.graph.tables import are_sound
from onnx_ghn.inheritance.agreed import Model, with_agreed
from onnx_ghn.inheritance.fields import along
from onnx_ghn.inheritance.following import follow
from onnx_ghn.inheritance.structure import Structure, structure_of
from onnx_ghn.inheritance.tracing import Trace

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from onnx_ghn.passes import OpenedModel

__all__ = ["Donor", "open_donor"]

_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True, eq=False)
class Donor:
    """A trained model, read and understood.

    Attributes:
        name: of its file, or of its graph.
        sha256: of its file; "" where it was given as an object.
        notes: what a user should know of it.
    """

    name: str
    sha256: str
    opened: OpenedModel
    graph: ComputationGraph
    trace: Trace
    structure: Structure
    notes: tuple[str, ...] = ()

    def values(self, name: str) -> Array:
        """What one of its parameters holds; what is stored quantised, as floats, and a weight with its norms.

        Not to be written to: 32-bit floats are those of the file itself, not a copy.
        """
        if (part := self.trace.parts.get(name)) is not None:
            return self.values(part.name).take(part.index, part.axis)
        norms = self.trace.norms_of.get(name)
        return self.stored_values(name) if norms is None else _with_norms(*map(self.stored_values, (name, norms)))

    def stored_values(self, name: str) -> Array:
        """The same, but that a weight whose norms the model holds apart has its own, which no layer sees."""
        stored = self.opened.stored[name]
        parameter = self.trace.parameters[name]
        array = stored.numpy()
        if array.dtype.kind not in "iub" and not are_sound(array, parameter.role):
            raise OptionError(
                f"donor {self.name}: {name} holds NaN or infinity: give another file with `donors`, "
                "or leave what it makes out with `exclude`"
            )
        if parameter.scale_name is None:
            return read_only(array if array.dtype == np.float64 else array.astype(np.float32, copy=False))
        return _dequantised(array, parameter, self)


@no_garbage_collection()
def open_donor(
    source: str | os.PathLike[str] | onnx.ModelProto | ir.Model, rules: str = "onnx", heir: Model | None = None
) -> Donor:
    """Read a donor.

    Args:
        rules: of its computational graph.
        heir: the model that inherits, as far as it is known: what is a constant there is one here.

    Raises:
        ModelReadError: the file cannot be read.
        OptionError: it holds no weights, looks as if nobody had trained it, or stores weights in a form that holds
            nothing of its floats.
    """
    from onnx_ghn.onnx_io.absent import require_values
    from onnx_ghn.passes import open_model

    is_file = isinstance(source, str | os.PathLike)
    opened = open_model(source)
    graph, flat = read_graph(opened.model, opened.stored, rules)
    if heir is not None:
        graph = with_agreed((graph, opened.stored), [heir])
    name = os.path.basename(os.fspath(source)) if isinstance(source, str | os.PathLike) else graph.name or "donor"
    require_values(opened.stored.values())
    closed = [p.name for p in graph.parameters if p.reason.startswith("quantised weights")]
    if closed:
        raise OptionError(
            f"donor {name} stores {len(closed)} weights as integers that no DequantizeLinear reads, first {closed[0]}: "
            "give the file from before quantisation with `donors`"
        )
    if why := _untrained(graph, opened):
        raise OptionError(f"donor {name} {why}: give a trained file with `donors`")
    notes = []
    quantised = [p for p in graph.parameters if p.scale_name is not None]
    if quantised:
        notes.append(f"{len(quantised)} quantised tensors of {name} are inherited as floats, first {quantised[0].name}")
    trace = follow(flat, graph)
    if trace.unknown:
        kinds = ", ".join(sorted(trace.unknown)[:6])
        notes.append(f"channels of {name} are not followed through {kinds}")
    digest = _digest(os.fspath(source)) if is_file and isinstance(source, str | os.PathLike) else ""
    return Donor(name, digest, opened, graph, trace, structure_of(trace), tuple(notes))


def _with_norms(directions: Array, norms: Array) -> Array:
    """The weight that a layer gets of directions and norms, these over the axes that have length 1 in them."""
    axes = tuple(axis for axis, size in enumerate(norms.shape) if size == 1 and directions.shape[axis] > 1)
    lengths = np.sqrt((directions.astype(np.float64) ** 2).sum(axis=axes, keepdims=True))
    weight: Array = directions * np.divide(norms, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return weight.astype(directions.dtype)


def _untrained(graph: ComputationGraph, opened: OpenedModel) -> str:
    """Why a model looks as if nobody had trained it; "" where it does not."""
    from onnx_ghn.onnx_io.common_value import common_value

    weights = [p for p in graph.parameters if p.role in (Role.weight, Role.embedding) and p.size > 1]
    if not weights:
        return "has no weights"
    if all(common_value(opened.stored[p.name]) is not None for p in weights):
        return "holds no weights, only their shapes"
    # One that no node decodes is no norm's: a power transformation (scikit-learn) multiplies by zeros and ones.
    norms = [p for p in graph.parameters if p.role is Role.norm_scale and not p.magnitude_of and not p.reason]
    scales = [p for p in norms if p.size > 1]
    shifts = [p for p in graph.parameters if p.role is Role.norm_bias and p.size > 1]
    if scales and all(common_value(opened.stored[p.name]) is not None for p in (*scales, *shifts)):
        return f"looks untrained, as all elements of each of its {len(scales)} scales of norms are equal"
    return ""


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def _dequantised(array: Array, parameter: Parameter, donor: Donor) -> Array:
    """(number - zero point) × scale, along the axis of the scales, one of which may be for a block of numbers."""
    if array.dtype.kind == "f" and array.dtype.itemsize > 1:  # the file quantises its floats itself
        return array.astype(np.float32)
    stored = donor.opened.stored
    if parameter.scale_name not in stored:
        raise OptionError(
            f"donor {donor.name}: the scale of {parameter.name} is not stored, so its floats are not known: "
            "give the file from before quantisation with `donors`"
        )
    factors = stored[parameter.scale_name]
    scale = np.asarray(factors.numpy(), np.float32)
    zero: Array = np.zeros_like(scale)
    if parameter.zero_point_name in stored:
        zero = stored[parameter.zero_point_name].numpy().astype(np.float32)
    if parameter.quantization_axis is None and scale.size > 1:
        raise OptionError(
            f"donor {donor.name}: the scales of {parameter.name} go with no axis of what is stored, so its floats are "
            "not known: give the file from before quantisation with `donors`"
        )
    axis = (parameter.quantization_axis or 0) % max(array.ndim, 1)
    sizes = [use.node.attributes.get_int("block_size", 0) for use in factors.value.uses()]
    if any(sizes):
        scale, zero = (
            each.repeat(max(sizes), axis).take(range(array.shape[axis]), axis) if each.ndim == array.ndim else each
            for each in (scale, zero)
        )
    elif scale.size > 1:
        scale, zero = along(scale, array.ndim, axis), along(zero, array.ndim, axis)
    values: Array = (array.astype(np.float32) - zero) * scale
    return values
