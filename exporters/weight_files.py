"""A framework's own files of weights, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from onnx_ghn.errors import ModelWriteError, OptionError
from onnx_ghn.exporters.targets import Target
from onnx_ghn.onnx_io import check_target
from onnx_ghn.onnx_io.transaction import Transaction

__all__ = ["check_weights_target", "write_weights"]

_CHUNK_BYTES = 1 << 20


def check_weights_target(target: Target, path: str, force: bool) -> None:
    """Raise where a file of weights could not be written there: OptionError (its suffix), ModelWriteError."""
    if not path.endswith(target.suffix):
        raise OptionError(f"{path}: weights of this framework go to a file that ends in {target.suffix}")
    check_target(path, force)


def write_weights(target: Target, path: str, *, force: bool = False) -> Path:
    """Save a live model's weights as its framework does.

    Raises:
        OptionError: another suffix. ModelWriteError: the file exists, or cannot be written; nothing was changed.
    """
    check_weights_target(target, path, force)
    with tempfile.TemporaryDirectory(prefix="onnx-ghn-") as folder:
        saved = Path(folder, f"weights{target.suffix}")
        try:
            target.exporter.save_weights(target.model, saved)
        except OSError as error:
            raise ModelWriteError(f"{saved}: cannot be written ({error.strerror}); free some space") from error
        with Transaction(path) as transaction, saved.open("rb") as source:
            file = transaction.create(os.path.basename(path))
            while chunk := source.read(_CHUNK_BYTES):
                file.write(chunk)
            transaction.place(file, os.path.basename(path), last=True)
    return Path(path)
