"""Converted models that stay: their folder is looked at before any work, and each file appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from onnx_ghn.errors import ModelWriteError
from onnx_ghn.onnx_io import check_target, write_file
from onnx_ghn.profiling.precision_names import FULL, converted_name, data_name

__all__ = ["check_kept", "keep"]

_CHUNK_BYTES = 1 << 20


def check_kept(folder: str, model: str, precisions: Sequence[str], force: bool) -> None:
    """Refuse a folder for converted models that is none, or that has one of them already.

    Args:
        folder: where they are kept.
        model: the file that is converted; it is never written, whatever its name is.
        precisions: of which all but fp32 leave a file, and weights beside it where they are large.
        force: whether existing files may be replaced.

    Raises:
        ModelWriteError: it cannot be written.
    """
    if not os.path.isdir(folder):
        raise ModelWriteError(f"{folder}: is no folder to keep models in; make it first")
    for precision in precisions:
        if precision != FULL:
            name = converted_name(model, precision)
            check_target(os.path.join(folder, name), force, "a model", [model])
            check_target(os.path.join(folder, data_name(name)), force, "the weights of a model", [model])


def keep(file: Path, folder: Path, force: bool) -> None:
    """Copy a converted model, after the weights that lie beside it. Raises ModelWriteError: it cannot be written."""
    for one in sorted(file.parent.iterdir(), key=lambda one: one == file):
        write_file(folder / one.name, _chunks(one), force=force, what="a model")


def _chunks(file: Path) -> Iterator[bytes]:
    with open(file, "rb") as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            yield chunk
