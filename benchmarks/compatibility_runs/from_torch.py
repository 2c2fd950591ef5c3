"""PyTorch's exporters, with their defaults, and our own."""

from __future__ import annotations

import contextlib
import functools
import io
from pathlib import Path

import torch

from compatibility_runs.built import Built, Exporter
from compatibility_runs.cells import Cell
from compatibility_runs.exporting import measure_exporter
from compatibility_runs.rows import Row
from compatibility_runs.torch_networks import build
from onnx_ghn.exporters import pytorch

__all__ = ["export_traced", "load", "measure", "plain_export"]


def plain_export(built: Built, path: Path, **options: object) -> None:
    """torch.onnx.export, to a single file."""
    inputs = tuple(torch.from_numpy(value) for value in built.inputs)
    with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        torch.onnx.export(built.model, inputs, str(path), **options)


def load(built: Built, path: Path) -> object:
    """Our way back. The inputs are for files that the exporter wrote without us."""
    return pytorch.load(built.model, path, tuple(torch.from_numpy(value) for value in built.inputs))


def export_traced(built: Built, path: Path) -> object:
    return pytorch.export(built.model, path, tuple(torch.from_numpy(value) for value in built.inputs))


_EXPORTERS = {
    "torchscript": Exporter(build, functools.partial(plain_export, dynamo=False), load),
    "dynamo": Exporter(build, functools.partial(plain_export, dynamo=True), load),
    "dynamo-plain": Exporter(build, functools.partial(plain_export, dynamo=True, optimize=False), load),
    "torch-ours": Exporter(build, export_traced, load),
}


def measure(row: Row, network: str, folder: Path) -> dict[str, Cell]:
    """The cells of one of these rows."""
    return measure_exporter(_EXPORTERS, row, network, folder)
