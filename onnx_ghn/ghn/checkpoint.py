"""GHNs as modules, from files and back: safetensors and JSON; published .pt files are read and converted."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch

from onnx_ghn.ghn.module_files import file_of, load_module, save_module
from onnx_ghn.ghn.network import GHN

__all__ = ["fingerprint", "load_ghn", "save_ghn"]


def load_ghn(source: str | os.PathLike[str] | None = None, device: str | torch.device = "cpu") -> GHN:
    """A GHN, in evaluation mode.

    Args:
        source: as of `read_ghn`: a shipped name, a folder, a file, or an address `hf://owner/name[@revision][/file]`.
        device: of the weights.

    Raises:
        CheckpointError: absent, damaged, not a GHN, or tensors that its config does not have.
        OptionError: a device that is not there.
    """
    return load_module(GHN, source, device)


def save_ghn(ghn: GHN, folder: str | os.PathLike[str]) -> Path:
    """Write model.safetensors and config.json into a folder (made if absent), each whole or not at all.

    The config is also in the metadata of model.safetensors, so that file alone is a GHN. The same GHN gives
    the same bytes.

    Returns:
        The folder.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    return save_module(ghn, folder)


def fingerprint(ghn: GHN) -> str:
    """Which GHN it is, by config and weights: the first 16 digits of the SHA-256 of the file that `save_ghn` writes."""
    return hashlib.sha256(file_of(ghn)).hexdigest()[:16]
