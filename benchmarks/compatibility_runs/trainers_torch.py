"""Trainers that make PyTorch modules of a predicted file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from compatibility_runs.cells import Cell
from compatibility_runs.given_files import given, trainer_cells
from compatibility_runs.messages import short
from compatibility_runs.rows import Row

__all__ = ["measure"]


def _onnx2torch(path: Path) -> nn.Module:
    from onnx2torch import convert

    return convert(str(path))


def _onnx2pytorch(path: Path) -> nn.Module:
    from onnx2pytorch import ConvertModel

    return ConvertModel(onnx.load(path))


def _onnx2fx(path: Path) -> nn.Module:
    from onnx2fx import convert

    return convert(str(path))


_TRAINERS: dict[str, Callable[[Path], nn.Module]] = {
    "onnx2torch": _onnx2torch,
    "onnx2pytorch": _onnx2pytorch,
    "onnx2fx": _onnx2fx,
}


def measure(row: Row, network: str, folder: Path) -> dict[str, Cell]:
    """Convert the predicted file: its outputs in evaluation, and what it would train."""
    files = given(network)
    try:
        module = _TRAINERS[row.key](files.path).eval()
        with torch.no_grad():
            outputs = module(*(torch.from_numpy(value) for value in files.inputs))
    except Exception as error:  # noqa: BLE001 - of foreign software; the cell tells it
        return {"outputs": Cell("refused", short(error))}
    trained = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    return trainer_cells(files, np.asarray(outputs), trained, row.tolerance)
