"""Tensors and a JSON record in one safetensors file, replaced atomically: the form of a training state."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from onnx_ghn.errors import CheckpointError, ModelWriteError
from onnx_ghn.json_types import Json
from onnx_ghn.onnx_io import write_file
from onnx_ghn.reading import open_regular

__all__ = ["load_state", "save_state"]

_KEY = "onnx_ghn.training"


def save_state(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, object]) -> None:
    """Write tensors and a JSON record. Raises CheckpointError; whatever was there stays whole.

    Args:
        path: the file; its folder is made.
        tensors: of any device.
        record: what JSON can hold.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = save(plain, metadata={_KEY: json.dumps(record)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, data, force=True, what="a training state")
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written ({error.strerror}); free some space or choose another folder"
        ) from error
    except ModelWriteError as error:
        raise CheckpointError(str(error)) from error


def load_state(path: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], Json]:
    """Read what `save_state` wrote. Raises CheckpointError."""
    try:
        os.close(open_regular(path))
        with safe_open(str(path), framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            record = json.loads(metadata[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if not isinstance(record, dict):
            raise TypeError("its record is none")
    except (SafetensorError, OSError, LookupError, ValueError, TypeError, RecursionError, RuntimeError) as error:
        raise CheckpointError(f"{path}: no training state that can be read ({error}); start without it") from error
    return tensors, record
