"""Predictions for benchmarks that run where a framework is and torch may not be."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from typing import Any, Literal

__all__ = ["predicted"]


def predicted(path: str, filled: str, *, calibrate: Literal["none", "synthetic"] = "none") -> dict[str, Any]:
    """Fill whatever a GHN decodes, in this process or by the interpreter that ONNX_GHN_PYTHON names: the coverage."""
    if importlib.util.find_spec("torch") is not None:
        from onnx_ghn import predict

        return predict(
            path, filled, policy="all", calibrate=calibrate, correct_scales=False, force=True
        ).coverage.to_dict()
    command = [os.environ["ONNX_GHN_PYTHON"], "-m", "onnx_ghn", "predict", path, "-o", filled]
    command += ["--policy", "all", "--calibrate", calibrate, "--no-correct-scales", "--json", "--force"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    found: dict[str, Any] = json.loads(done.stdout)
    return found
