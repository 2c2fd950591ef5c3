"""The hypernetworks: GHN-1, GHN-2 and MLP of PPUDA, GHN-3; their checkpoints.

Names are resolved on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_ghn.lazy import lazy_names

if TYPE_CHECKING:
    from onnx_ghn.ghn.array_network import ArrayGHN, load_array_ghn
    from onnx_ghn.ghn.checkpoint import fingerprint, load_ghn, save_ghn
    from onnx_ghn.ghn.config import GHNConfig
    from onnx_ghn.ghn.initialise import new_ghn
    from onnx_ghn.ghn.listing import CheckpointInfo, list_ghns
    from onnx_ghn.ghn.network import GHN
    from onnx_ghn.ghn.stored import StoredGHN, read_ghn
    from onnx_ghn.ghn.tiling import Block

__all__ = [
    "GHN",
    "ArrayGHN",
    "Block",
    "CheckpointInfo",
    "GHNConfig",
    "StoredGHN",
    "fingerprint",
    "list_ghns",
    "load_array_ghn",
    "load_ghn",
    "new_ghn",
    "read_ghn",
    "save_ghn",
]

_HOMES = {
    "GHN": "network",
    "ArrayGHN": "array_network",
    "Block": "tiling",
    "CheckpointInfo": "listing",
    "GHNConfig": "config",
    "StoredGHN": "stored",
    "fingerprint": "checkpoint",
    "list_ghns": "listing",
    "load_array_ghn": "array_network",
    "load_ghn": "checkpoint",
    "new_ghn": "initialise",
    "read_ghn": "stored",
    "save_ghn": "checkpoint",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
