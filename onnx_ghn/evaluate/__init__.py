"""Accuracy over a data set: of networks with predicted tensors, of torch modules, of ONNX files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_ghn.lazy import lazy_names

if TYPE_CHECKING:
    from onnx_ghn.evaluate.networks import Logits, accuracy, architecture_logits, batch_statistics_mode, onnx_logits
    from onnx_ghn.evaluate.onnx_files import onnx_scores
    from onnx_ghn.evaluate.scoring import Accuracy, accuracy_of

_HOMES = {
    "Accuracy": "scoring",
    "Logits": "networks",
    "accuracy": "networks",
    "accuracy_of": "scoring",
    "architecture_logits": "networks",
    "batch_statistics_mode": "networks",
    "onnx_logits": "networks",
    "onnx_scores": "onnx_files",
}

__all__ = [
    "Accuracy",
    "Logits",
    "accuracy",
    "accuracy_of",
    "architecture_logits",
    "batch_statistics_mode",
    "onnx_logits",
    "onnx_scores",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
