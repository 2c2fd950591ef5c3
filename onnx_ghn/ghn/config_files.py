"""The files of a GHN, by name, and the one that holds its config."""

from __future__ import annotations

from pathlib import Path

from onnx_ghn.errors import CheckpointError
from onnx_ghn.ghn.config import GHNConfig
from onnx_ghn.reading import read_json

__all__ = ["CARD", "CONFIG", "WEIGHTS", "config_names", "read_config"]

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
_MAX_CONFIG_BYTES = 2**20


def config_names(weights: str) -> list[str]:
    """What the config beside a file of weights may be called, the likeliest first: <stem>.config.json (for a stem a.b
    also a.config.json), or else config.json.
    """
    parts = weights.removesuffix(".safetensors").split(".")
    stems = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return [*(f"{stem}.{CONFIG}" for stem in stems), CONFIG]


def read_config(path: Path) -> GHNConfig:
    """The config of a file. Raises CheckpointError: absent, or none."""
    values = read_json(path, _MAX_CONFIG_BYTES, "config")
    try:
        return GHNConfig.from_dict(values)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
