"""Tensors of checkpoint files: plain arrays of floats, no larger than what the file holds."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from onnx_ghn.errors import CheckpointError

__all__ = ["check_archive", "check_plain"]

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# torch.save compresses nothing; archives that other programs packed may be a little smaller than their content.
_PACKED = 4
_SMALL_BYTES = 1 << 24


def check_archive(path: Path) -> None:
    """Refuse a zip archive whose content is out of proportion to its size. What is no archive is passed over.

    Raises:
        CheckpointError: it is, or its directory is damaged.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            content_bytes = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise CheckpointError(f"{path}: truncated or damaged ({error}); copy it again") from error
    size_bytes = path.stat().st_size
    if content_bytes > max(_PACKED * size_bytes, _SMALL_BYTES):
        raise CheckpointError(
            f"{path}: {size_bytes:,} bytes that unpack to {content_bytes:,}, out of proportion for a GHN; "
            "is it one? torch.save compresses nothing"
        )


def check_plain(tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are no plain arrays of floats in memory.

    Raises:
        CheckpointError: a sparse, nested, quantised or meta tensor, one of another type, or one that shows the same
            few numbers many times.
    """
    for name, tensor in tensors.items():
        kind = _kind(tensor)
        if kind is not None:
            raise CheckpointError(f"tensor {name} is {kind}, must be a plain tensor; convert it where it was made")
        if not tensor.is_floating_point():
            raise CheckpointError(f"tensor {name} is {tensor.dtype}, must be floating point")
        if tensor.dtype not in _FLOATS:
            raise CheckpointError(f"tensor {name} is {tensor.dtype}, must be float16, bfloat16, float32 or float64")
        needed_bytes, held_bytes = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
        if needed_bytes > held_bytes:
            raise CheckpointError(
                f"tensor {name} of shape {tuple(tensor.shape)} needs {needed_bytes:,} bytes, "
                f"the file holds {held_bytes:,} of it; save it as a contiguous tensor"
            )


def _kind(tensor: Tensor) -> str | None:
    if tensor.is_nested:
        return "nested"
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_quantized:
        return "quantised"
    if tensor.device.type != "cpu":
        return f"without content (on the device {tensor.device.type})"
    return None
