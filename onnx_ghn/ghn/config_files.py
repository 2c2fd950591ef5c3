"""The file that holds a GHN's config."""

from __future__ import annotations

from pathlib import Path

from onnx_ghn.errors import CheckpointError
from onnx_ghn.ghn.config import GHNConfig
from onnx_ghn.reading import read_json

__all__ = ["CONFIG", "read_config"]

CONFIG = "config.json"
_MAX_CONFIG_BYTES = 2**20


def read_config(path: Path) -> GHNConfig:
    """The config of a file. Raises CheckpointError: absent, or none."""
    values = read_json(path, _MAX_CONFIG_BYTES, "config")
    try:
        return GHNConfig.from_dict(values)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
