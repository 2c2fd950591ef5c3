"""A framework's own file or folder of weights, which appears whole or not at all."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from pathlib import Path

from onnx_ghn.errors import ModelWriteError, OptionError
from onnx_ghn.exporters.registry import NamedModel
from onnx_ghn.onnx_io import check_target
from onnx_ghn.onnx_io.transaction import write_file
from onnx_ghn.scratch import scratch_folder

__all__ = ["check_weights_target", "write_weights"]

_CHUNK_BYTES = 1 << 20


def check_weights_target(named: NamedModel, path: str, force: bool, inputs: Iterable[str] = ()) -> None:
    """Check that a file of weights can be written, which is none of the inputs.

    Raises:
        OptionError: its suffix is not one of the framework's.
        ModelWriteError: it exists, or cannot be written.
    """
    _suffix(named, path)
    if os.path.isdir(path):
        raise ModelWriteError(f"{path}: is a folder already, which is not replaced; remove it or choose another name")
    check_target(path, force, inputs=inputs)


def _suffix(named: NamedModel, path: str) -> str:
    for suffix in named.suffixes:
        if path.endswith(suffix):
            return suffix
    wanted = " or ".join(named.suffixes)
    raise OptionError(f"{path}: the weights of this framework need a file name that ends in {wanted}")


def write_weights(named: NamedModel, path: str, *, force: bool = False) -> Path:
    """Save a live model's weights as its framework does.

    Raises:
        OptionError: the suffix is not one of the framework's.
        ModelWriteError: the file exists, or cannot be written; nothing was changed.
    """
    check_weights_target(named, path, force)
    # Beside the target, so that a folder can be moved into place.
    beside = os.path.dirname(os.path.abspath(path))
    try:
        with scratch_folder(beside) as folder:
            saved = Path(folder, f"weights{_suffix(named, path)}")
            named.exporter.save_weights(named.model, saved)
            if saved.is_dir():
                saved.rename(path)
            else:
                with saved.open("rb") as source:
                    write_file(path, iter(functools.partial(source.read, _CHUNK_BYTES), b""), force=force)
    except OSError as error:
        raise ModelWriteError(f"{path}: cannot be written ({error.strerror or error}); free some space") from error
    return Path(path)
