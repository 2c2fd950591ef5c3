"""The state of a run that trains one network: its weights and its optimisers', and the settings they belong to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from onnx_ghn.errors import CheckpointError
from onnx_ghn.training.checkpoint_state import load_state, save_state
from onnx_ghn.training.optimizers import Optimizers

__all__ = ["keep", "restore"]


def keep(path: Path, net: nn.Module, optimizers: Optimizers, record: Mapping[str, Any]) -> None:
    """Write a run's state, whole or not at all.

    Args:
        record: what else belongs to it, its "settings" among it.

    Raises:
        CheckpointError: it cannot be written.
    """
    tensors = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
    tensors |= {f"opt.{name}": tensor for name, tensor in optimizers.state().items()}
    save_state(path, tensors, dict(record))


def restore(
    path: Path, net: nn.Module, optimizers: Optimizers, settings: Mapping[str, Any], free: Collection[str]
) -> dict[str, Any]:
    """Take up what `keep` wrote; its record.

    Args:
        settings: of this run.
        free: those of them that may differ.

    Raises:
        CheckpointError: the state is damaged, or of a run with other settings or another network.
    """
    tensors, record = load_state(path, next(net.parameters()).device)
    theirs = record.get("settings", {})
    differ = sorted(key for key, value in settings.items() if key not in free and value != theirs.get(key))
    if differ:
        raise CheckpointError(f"{path}: a run with other settings ({', '.join(differ)}); choose another --name")
    try:
        net.load_state_dict({name.removeprefix("net."): t for name, t in tensors.items() if name.startswith("net.")})
    except RuntimeError as error:
        raise CheckpointError(f"{path}: the weights of another network; choose another --name") from error
    optimizers.restore({name.removeprefix("opt."): t for name, t in tensors.items() if name.startswith("opt.")})
    return record
