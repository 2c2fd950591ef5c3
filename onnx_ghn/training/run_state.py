"""A run that trains one network: where its state lies, how it is kept and taken up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from onnx_ghn.errors import CheckpointError
from onnx_ghn.training.checkpoint_state import load_state, save_state
from onnx_ghn.training.optimizers import Optimizers

__all__ = ["NetworkRun"]

_STATE = "state.safetensors"
#: Settings that a resumed run may change.
_FREE = frozenset({"save_interval", "log_interval"})


class NetworkRun:
    """What trainers of one network share.

    Args:
        folder: of the checkpoint, the log and the trained weights; None keeps nothing.
        settings: of the run; a checkpoint of others is refused.
        weights_name: of the file of trained weights.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizers: Optimizers,
        folder: Path | None,
        settings: Mapping[str, Any],
        weights_name: str,
    ) -> None:
        self.net, self.optimizers, self.folder = net, optimizers, folder
        self._settings, self._weights_name = dict(settings), weights_name

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.net.parameters()).device

    def _take_up(self) -> dict[str, Any] | None:
        """Set weights and optimisers to those in the folder; what else was kept, None where there is no run.

        Raises:
            CheckpointError: the state is damaged, or of a run with other settings or another network.
        """
        if self.folder is None or not (self.folder / _STATE).exists():
            return None
        path = self.folder / _STATE
        tensors, record = load_state(path, self.device)
        theirs = record.get("settings", {})
        differ = sorted(key for key, value in self._settings.items() if key not in _FREE and value != theirs.get(key))
        if differ:
            raise CheckpointError(f"{path}: a run with other settings ({', '.join(differ)}); choose another --name")
        weights = {name.removeprefix("net."): t for name, t in tensors.items() if name.startswith("net.")}
        try:
            self.net.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError(f"{path}: the weights of another network; choose another --name") from error
        self.optimizers.restore({n.removeprefix("opt."): t for n, t in tensors.items() if n.startswith("opt.")})
        return record

    def _keep(self, record: Mapping[str, Any], *, finished: bool) -> None:
        """Write the state, whole or not at all; of a finished run also the weights alone.

        Raises:
            CheckpointError: it cannot be written.
        """
        if self.folder is None:
            return
        full = {**record, "settings": self._settings}
        state = dict(self.net.state_dict())
        tensors = {f"net.{name}": tensor for name, tensor in state.items()}
        tensors |= {f"opt.{name}": tensor for name, tensor in self.optimizers.state().items()}
        save_state(self.folder / _STATE, tensors, full)
        if finished:
            save_state(self.folder / self._weights_name, state, full)
