"""What can be said about paths, names and patterns before anything heavy is imported.

Each check raises what the library would raise in the end, some seconds later.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

from onnx_ghn.errors import ModelReadError, ModelWriteError, OnnxGhnError, OptionError
from onnx_ghn.shipped import find_ghn

__all__ = [
    "check_ending",
    "check_file",
    "check_ghn",
    "check_included",
    "check_library",
    "check_model",
    "check_output",
    "check_pattern",
]

#: Endings that say what is in a file.
_KINDS = (
    *(".onnx", ".pt", ".pth", ".bin", ".safetensors", ".h5", ".hdf5", ".keras", ".pb", ".tf", ".tflite", ".mlmodel"),
    *(".npz", ".npy", ".pkl", ".pickle", ".msgpack", ".orbax", ".eqx", ".ckpt", ".pdparams"),
    *(".txt", ".md", ".rst", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".toml", ".html", ".htm"),
    *(".pdf", ".svg", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".dot", ".gv"),
    *(".py", ".ipynb", ".zip", ".gz", ".tar"),
)


def check_model(path: str) -> None:
    """Refuse a model file that is not there, or is no model by its first byte. Raises ModelReadError.

    What is read last, behind all that a framework loads, is told first.
    """
    from onnx_ghn.onnx_io.lookalikes import told_at_once

    _check_there(path, ModelReadError)
    try:
        told = told_at_once(path)
    except OSError:  # the reader says what stands in its way
        return
    if told is not None:
        raise ModelReadError(f"{path}: {told}")


def check_file(path: str) -> None:
    """Refuse a file or folder that is not there. Raises OptionError."""
    _check_there(path, OptionError)


def _check_there(path: str, kind: type[OnnxGhnError]) -> None:
    try:
        os.stat(path)
    except ValueError as error:
        raise kind(f"{path!r}: not a path ({error}); name a file") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise kind(f"{path}: cannot be read ({reason}); check path and permissions") from error


def check_ghn(name: str) -> None:
    """Refuse a GHN that is no shipped name, no path and no address of the hub. Raises CheckpointError."""
    from onnx_ghn.ghn.hub import SCHEME, Address

    if name.startswith(SCHEME):
        Address.of(name)  # the hub is asked when it is needed
    else:
        find_ghn(name)


def check_library(path: str) -> None:
    """Refuse a library of custom operators that is no file. Raises OptionError."""
    if not os.path.isfile(path):
        raise OptionError(f"custom operators: {path} is no file")


def check_pattern(pattern: str) -> None:
    """Refuse what is no regular expression. Raises OptionError."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise OptionError(f"{pattern!r} is no regular expression: {error}") from error


def check_included(patterns: Iterable[str], names: Sequence[str]) -> None:
    """Refuse patterns that select no parameter. Raises OptionError."""
    for pattern in patterns:
        if not any(re.search(pattern, name) for name in names):
            some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            raise OptionError(f"`include` {pattern}: matches none of {len(names)} parameters ({some})")


def check_ending(path: str, endings: Sequence[str], content: str) -> None:
    """Refuse a file name whose ending says another kind of content.

    Args:
        path: the file to write.
        endings: what it may end in, beside nothing and endings that say nothing (.new, .bak).
        content: the kind, with its article, for the message.

    Raises:
        ModelWriteError: the ending of another kind.
    """
    ending = os.path.splitext(path)[1].lower()
    if ending in _KINDS and ending not in endings:
        allowed = " or ".join(endings) if len(endings) < 3 else f"one of {', '.join(endings)}"
        raise ModelWriteError(f"{path}: {content} is not written as {ending}; name another file, ending in {allowed}")


def check_output(
    path: str, endings: Sequence[str], content: str, force: bool, inputs: Iterable[str | None] = ()
) -> None:
    """Refuse a file that cannot or should not be written: one of the inputs, for instance. Raises ModelWriteError."""
    from onnx_ghn.onnx_io import check_target

    if path == "-":  # elsewhere the standard output, which a file that appears whole or not at all cannot be
        raise ModelWriteError(f"-: nothing is written to the standard output; name {content}")
    check_target(path, force, content, inputs)
    check_ending(path, endings, content)
