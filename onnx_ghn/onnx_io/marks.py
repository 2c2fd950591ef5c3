"""What onnx_ghn.exporters notes in a file's metadata about the model that it came from."""

from __future__ import annotations

import json

import onnx_ir as ir

__all__ = ["FROZEN", "TRACE", "frozen_tensors", "mark"]

TRACE = "onnx_ghn.trace"  # where each weight of the framework's model is among the file's tensors
FROZEN = "onnx_ghn.frozen"  # the tensors that are not to be trained: buffers, constants, frozen layers


def mark(model: ir.Model, trace: str, frozen: list[str]) -> None:
    """Write both notes into the model's metadata."""
    model.metadata_props[TRACE] = trace
    model.metadata_props[FROZEN] = json.dumps(frozen, separators=(",", ":"))


def frozen_tensors(model: ir.Model) -> frozenset[str]:
    """Names of the stored tensors that are not to be trained; none where the file does not say."""
    text = model.metadata_props.get(FROZEN)
    try:
        names = json.loads(text) if text else []
    except ValueError:
        return frozenset()
    return frozenset(name for name in names if isinstance(name, str)) if isinstance(names, list) else frozenset()
