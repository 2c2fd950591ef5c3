"""Modules of GHNs from files and back: safetensors and JSON. Their class is given: it is not this module's."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors.torch import save
from torch import Tensor

from onnx_ghn.errors import CheckpointError, ModelWriteError, OptionError
from onnx_ghn.ghn.card import card
from onnx_ghn.ghn.config import GHNConfig
from onnx_ghn.ghn.config_files import CARD, CONFIG, WEIGHTS
from onnx_ghn.ghn.stored import CONFIG_KEY, read_ghn
from onnx_ghn.onnx_io import write_file
from onnx_ghn.shipped import POLICY_FILE

__all__ = ["file_of", "load_module", "save_module", "save_with_card"]


class _Module(Protocol):
    """A GHN as far as files are concerned: a torch module that has a config, and perhaps a policy."""

    config: GHNConfig
    policy_file: Path | None

    def state_dict(self) -> Mapping[str, Tensor]: ...
    def load_state_dict(self, state_dict: Mapping[str, Tensor], *, assign: bool) -> Any: ...
    def requires_grad_(self) -> Any: ...
    def to(self, device: str | torch.device) -> Any: ...
    def eval(self) -> Any: ...


Module = TypeVar("Module", bound=_Module)


def load_module(
    make: Callable[[GHNConfig], Module], source: str | os.PathLike[str] | None, device: str | torch.device
) -> Module:
    """A GHN, in evaluation mode.

    Args:
        make: its class.
        source: as of `read_ghn`.
        device: of the weights.

    Raises:
        CheckpointError: absent, damaged, not a GHN, or tensors that its config does not have.
        OptionError: a device that is not there.
    """
    stored = read_ghn(source)
    # On the meta device nothing is allocated or drawn at random.
    with torch.device("meta"):
        ghn = make(stored.config)
    ghn.load_state_dict({name: torch.from_numpy(values) for name, values in stored.tensors.items()}, assign=True)
    ghn.requires_grad_()
    ghn.policy_file = stored.policy_file
    try:
        ghn.to(device)  # in place
        ghn.eval()
    except (RuntimeError, AssertionError) as error:
        raise OptionError(f"device {device}: {str(error).splitlines()[0]}") from error
    return ghn


def save_module(ghn: _Module, folder: str | os.PathLike[str]) -> Path:
    """See `checkpoint.save_ghn`."""
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        write_file(target / WEIGHTS, file_of(ghn), force=True)
        write_file(target / CONFIG, ghn.config.to_json(), force=True)
    except (OSError, ModelWriteError) as error:
        cause = error.__cause__ or error  # the system's own error, if writing has failed
        reason = cause.strerror if isinstance(cause, OSError) else cause
        raise CheckpointError(f"{target}: cannot be written ({reason})") from error
    return target


def save_with_card(ghn: _Module, folder: str | os.PathLike[str]) -> Path:
    """As `save_module`, with the policy that the GHN was read with, and a card where there is none.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    target = save_module(ghn, folder)
    try:
        if ghn.policy_file is not None and ghn.policy_file.is_file():
            write_file(target / POLICY_FILE, ghn.policy_file.read_bytes(), force=True)
        if not (target / CARD).exists():
            n_weights = sum(tensor.numel() for tensor in ghn.state_dict().values())
            write_file(target / CARD, card(ghn.config, n_weights), what="a card")
    except (OSError, ModelWriteError) as error:
        raise CheckpointError(f"{target}: cannot be written ({error.__cause__ or error})") from error
    return target


def file_of(ghn: _Module) -> bytes:
    """The bytes of model.safetensors."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in ghn.state_dict().items()}
    # One key of metadata: several are written in no fixed order.
    return save(tensors, {CONFIG_KEY: json.dumps(dataclasses.asdict(ghn.config))})
