"""A model whose external data are lost, with zeros in their place: enough for onnxruntime to tell shapes and costs."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import onnx_ir as ir

from onnx_ghn.onnx_io import read_model
from onnx_ghn.onnx_io.sites import slots
from onnx_ghn.onnx_io.tensors import AbsentTensor, FileTensor, HeldTensor
from onnx_ghn.profiling.rewriting import load_structure, serialized

__all__ = ["completed", "zero_filled"]

_ZEROS = "zeros.data"


def completed(path: str, folder: Path) -> str:
    """The path of a copy of a file in `folder`, which has zeros for the external data that are lost.

    Raises:
        ModelReadError: as `zero_filled` does.
    """
    filled = zero_filled(load_structure(path), os.path.dirname(path), folder)
    if filled is None:  # somebody has put them back in the meantime
        return path
    copy = folder / os.path.basename(path)
    copy.write_bytes(serialized(filled, path))
    return os.fspath(copy)


def zero_filled(proto: onnx.ModelProto, folder: str, scratch: Path) -> onnx.ModelProto | None:
    """A copy whose external tensors are zeros in a file of `scratch`; None where no external data are lost.

    The file has one hole as large as the largest tensor, and takes no room on most disks.

    Args:
        proto: without its external data, which lie in `folder`.

    Raises:
        ModelReadError: a vector of int64 is lost, which may be a shape or axes.
    """
    model = read_model(proto, base_dir=folder or os.curdir, allow_absent=True)
    found = [(slot, slot.tensor) for slot in slots(model)]
    if not any(isinstance(tensor, AbsentTensor) for _, tensor in found):
        return None
    largest = 0
    for slot, tensor in found:
        if not isinstance(tensor, AbsentTensor | FileTensor):
            continue
        if tensor.dtype == ir.DataType.INT64 and len(tensor.dims) < 2:
            slot.put(HeldTensor(memoryview(bytes(tensor.buffer())), tensor.name, tensor.dtype, tensor.dims))
            continue
        largest = max(largest, tensor.nbytes)
        shape = ir.Shape(tensor.dims)
        slot.put(ir.ExternalTensor(_ZEROS, 0, tensor.nbytes, tensor.dtype, shape=shape, name=tensor.name or ""))
    with open(scratch / _ZEROS, "wb") as file:
        file.truncate(largest)
    return ir.serde.serialize_model(model)
