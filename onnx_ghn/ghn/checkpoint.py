"""GHNs as modules, from files and back: safetensors and JSON; published .pt files are read and converted."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import torch
from safetensors.torch import save

from onnx_ghn.errors import CheckpointError, ModelWriteError, OptionError
from onnx_ghn.ghn.config_files import CONFIG
from onnx_ghn.ghn.network import GHN
from onnx_ghn.ghn.stored import CONFIG_KEY, WEIGHTS, read_ghn
from onnx_ghn.onnx_io import write_file

__all__ = ["fingerprint", "load_ghn", "save_ghn"]


def load_ghn(source: str | os.PathLike[str] | None = None, device: str | torch.device = "cpu") -> GHN:
    """A GHN, in evaluation mode.

    Args:
        source: as of `read_ghn`.
        device: of the weights.

    Raises:
        CheckpointError: absent, damaged, not a GHN, or tensors that its config does not have.
        OptionError: a device that is not there.
    """
    stored = read_ghn(source)
    # On the meta device nothing is allocated or drawn at random.
    with torch.device("meta"):
        ghn = GHN(stored.config)
    ghn.load_state_dict({name: torch.from_numpy(values) for name, values in stored.tensors.items()}, assign=True)
    ghn.requires_grad_()
    ghn.policy_file = stored.policy_file
    try:
        return ghn.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise OptionError(f"device {device}: {str(error).splitlines()[0]}") from error


def save_ghn(ghn: GHN, folder: str | os.PathLike[str]) -> Path:
    """Write model.safetensors and config.json into a folder (made if absent), each whole or not at all.

    The config is also in the metadata of model.safetensors, so that file alone is a GHN. The same GHN gives
    the same bytes.

    Returns:
        The folder.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        write_file(target / WEIGHTS, _file_of(ghn), force=True)
        write_file(target / CONFIG, ghn.config.to_json(), force=True)
    except (OSError, ModelWriteError) as error:
        cause = error.__cause__ or error  # the system's own error, if writing has failed
        reason = cause.strerror if isinstance(cause, OSError) else cause
        raise CheckpointError(f"{target}: cannot be written ({reason})") from error
    return target


def fingerprint(ghn: GHN) -> str:
    """Which GHN it is, by config and weights: the first 16 digits of the SHA-256 of the file that `save_ghn` writes."""
    return hashlib.sha256(_file_of(ghn)).hexdigest()[:16]


def _file_of(ghn: GHN) -> bytes:
    """model.safetensors."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in ghn.state_dict().items()}
    # One key of metadata: several are written in no fixed order.
    return save(tensors, {CONFIG_KEY: json.dumps(dataclasses.asdict(ghn.config))})
