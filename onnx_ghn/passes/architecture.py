"""A model's architecture without its weights: a few KB to share, to version, to predict on."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["strip"]


def strip(source: str | os.PathLike[str], target: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write an architecture-only copy of the model file `source`; it runs, and `predict` fills it."""
    from onnx_ghn.onnx_io import read_model, write_model
    from onnx_ghn.passes import strip_model

    model = read_model(source)
    strip_model(model)
    return write_model(model, target, force=force, external=False)[0]
