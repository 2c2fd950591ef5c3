"""What onnx_ghn.exporters notes in a file's metadata about the model that it came from."""

from __future__ import annotations

import json
from collections.abc import Mapping

import onnx_ir as ir

from onnx_ghn.errors import ModelReadError

__all__ = ["FROZEN", "TRACE", "Ranges", "frozen_tensors", "mark"]

TRACE = "onnx_ghn.trace"  # where each weight of the framework's model is among the file's tensors
FROZEN = "onnx_ghn.frozen"  # what is not to be trained: buffers, constants, frozen layers

# What torch.onnx.export(dynamo=True) writes beside each initializer: torch.export's kind of input.
_TORCH_KIND = "pkg.torch.export.graph_signature.InputSpec.kind"
_TORCH_UNTRAINED = ("BUFFER", "CONSTANT_TENSOR")

_LARGEST = 1 << 62  # elements of a tensor

#: Of a tensor's elements, in their order in memory: (first, behind the last) of each run. None: all of them.
Ranges = tuple[tuple[int, int], ...] | None


def mark(model: ir.Model, trace: str, frozen: Mapping[str, Ranges]) -> None:
    """Write both notes into the model's metadata."""
    model.metadata_props[TRACE] = trace
    model.metadata_props[FROZEN] = json.dumps(frozen, separators=(",", ":"))


def _range(first: object, stop: object) -> tuple[int, int]:
    if type(first) is not int or type(stop) is not int or not 0 <= first <= stop <= _LARGEST:
        raise ValueError(f"{first!r:.20} to {stop!r:.20} is no range of elements")
    return first, stop


def frozen_tensors(model: ir.Model) -> dict[str, Ranges]:
    """The stored tensors, or elements of them, that are not to be trained; none where the file does not say.

    Our exporters say so in a note; torch's newer exporter marks each tensor as a parameter, a buffer or a constant.

    Raises:
        ModelReadError: it says so in a way that cannot be read. Going on would change frozen layers.
    """
    text = model.metadata_props.get(FROZEN)
    try:
        record = json.loads(text) if text else {}
        return _untrained_by_torch(model) | {
            str(name): None if ranges is None else tuple(_range(first, stop) for first, stop in ranges)
            for name, ranges in record.items()
        }
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ModelReadError(f"metadata {FROZEN} is damaged ({error}); export the model again, or remove it") from error


def _untrained_by_torch(model: ir.Model) -> dict[str, Ranges]:
    marked = ((name, value.metadata_props.get(_TORCH_KIND)) for name, value in model.graph.initializers.items())
    return {name: None for name, kind in marked if kind in _TORCH_UNTRAINED}
