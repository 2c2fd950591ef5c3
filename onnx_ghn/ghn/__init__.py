"""The hypernetworks: GHN-1, GHN-2 and MLP of PPUDA, GHN-3; their checkpoints. Imports torch."""

from onnx_ghn.ghn.checkpoint import CheckpointInfo, fingerprint, list_ghns, load_ghn, save_ghn
from onnx_ghn.ghn.config import GHNConfig
from onnx_ghn.ghn.initialise import new_ghn
from onnx_ghn.ghn.network import GHN
from onnx_ghn.ghn.tiling import Block

__all__ = ["GHN", "Block", "CheckpointInfo", "GHNConfig", "fingerprint", "list_ghns", "load_ghn", "new_ghn", "save_ghn"]
