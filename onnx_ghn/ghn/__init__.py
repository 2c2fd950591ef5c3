"""The hypernetworks: GHN-1, GHN-2 and MLP of PPUDA, GHN-3; their checkpoints.

Names are resolved on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_ghn.lazy import lazy_names

if TYPE_CHECKING:
    from onnx_ghn.ghn.checkpoint import CheckpointInfo, fingerprint, list_ghns, load_ghn, save_ghn
    from onnx_ghn.ghn.config import GHNConfig
    from onnx_ghn.ghn.initialise import new_ghn
    from onnx_ghn.ghn.network import GHN
    from onnx_ghn.ghn.tiling import Block

__all__ = ["GHN", "Block", "CheckpointInfo", "GHNConfig", "fingerprint", "list_ghns", "load_ghn", "new_ghn", "save_ghn"]

_HOMES = {
    "GHN": "network",
    "Block": "tiling",
    "CheckpointInfo": "checkpoint",
    "GHNConfig": "config",
    "fingerprint": "checkpoint",
    "list_ghns": "checkpoint",
    "load_ghn": "checkpoint",
    "new_ghn": "initialise",
    "save_ghn": "checkpoint",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
