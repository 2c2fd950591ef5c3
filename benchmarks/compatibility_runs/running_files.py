"""Outputs of a file by onnxruntime on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

__all__ = ["run"]

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


def run(path: Path, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """The first output. Inputs are given in the file's order and in its types."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feeds = {
        given.name: value.astype(_TYPES[given.type]) for given, value in zip(session.get_inputs(), inputs, strict=True)
    }
    return session.run(None, feeds)[0]
