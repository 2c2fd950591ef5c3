"""Arrays from a file of inputs: .npz, .npy, or numbers in a text."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.errors import OptionError
from onnx_ghn.limits import gib, memory_bytes

__all__ = ["INPUT_FILES", "is_input_file", "read_arrays", "read_inputs"]

#: How the names of such files end.
INPUT_FILES = (".npz", ".npy", ".txt")

_INTEGER = re.compile(r"[+-]?\d+")
_SHOWN = 20  # characters of what is wrong


def is_input_file(path: str | os.PathLike[str]) -> bool:
    """Whether a path is named as a file of inputs is."""
    return Path(path).suffix.lower() in INPUT_FILES


def read_arrays(path: str | os.PathLike[str]) -> Array | Mapping[str, Array]:
    """The array of an .npy file or of a text, or the arrays of an .npz file by their names.

    A text holds a sample a line, its numbers apart by spaces or commas; shorter lines are filled with zeros. All whole
    numbers become int64 (n, longest), others float32.

    Raises:
        OptionError: the file cannot be read, is of another kind, or does not fit into half of the memory.
    """
    try:
        if Path(path).suffix.lower() == ".txt":
            return _numbers(path)
        _check_size(path)
        with open(path, "rb") as file:  # numpy would leave it open where it is no archive
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found
            with found:
                return {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise OptionError(f"{path}: cannot be read as .npz or .npy ({error}); save it with numpy.savez") from error


def read_inputs(path: str | os.PathLike[str], names: Collection[str], described: str) -> Mapping[str, Array]:
    """An array for each input of a model, and no others. One array without a name is that of the only input.

    Args:
        described: the inputs, for messages.

    Raises:
        OptionError: see `read_arrays`; an input has no array, or an array no input.
    """
    found = read_arrays(path)
    if isinstance(found, np.ndarray):
        if len(names) != 1:
            raise OptionError(f"{path}: one array for {len(names)} inputs; give an .npz file with {described}")
        return {next(iter(names)): found}
    absent, unknown = sorted(set(names) - found.keys()), sorted(found.keys() - set(names))
    if absent or unknown:
        wrong = f"lacks input {absent[0]!r}" if absent else f"holds {unknown[0]!r}, which is no input"
        raise OptionError(f"{path}: {wrong}; the model's inputs are {described}")
    return found


def _check_size(path: str | os.PathLike[str]) -> None:
    """Refuse an archive that holds more than the memory does."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        _check_bytes(path, sum(member.file_size for member in archive.infolist()))


def _check_bytes(path: str | os.PathLike[str], needed_bytes: int) -> None:
    if needed_bytes > memory_bytes() / 2:
        raise OptionError(
            f"{path} holds {gib(needed_bytes)}, more than half of this machine's memory: give fewer samples"
        )


def _numbers(path: str | os.PathLike[str]) -> Array:
    try:
        _check_bytes(path, 8 * os.path.getsize(path))
        with open(path, encoding="utf-8") as file:
            rows = [line.replace(",", " ").split() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{path}: cannot be read as a text of numbers ({error}); give an .npz file") from error
    rows = [row for row in rows if row]
    if not rows:
        raise OptionError(f"{path}: no numbers in it; give a sample a line")
    whole = all(_INTEGER.fullmatch(entry) for row in rows for entry in row)
    longest = max(map(len, rows))
    _check_bytes(path, 8 * len(rows) * longest)
    array = np.zeros((len(rows), longest), np.int64 if whole else np.float32)
    for i, row in enumerate(rows):
        try:
            array[i, : len(row)] = [int(entry) if whole else float(entry) for entry in row]
        except (ValueError, OverflowError) as error:
            wrong = next((entry for entry in row if not _is_number(entry)), row[0])
            raise OptionError(
                f"{path}, sample {i + 1}: {wrong[:_SHOWN]!r} is no number; "
                "give token numbers or values, a sample a line"
            ) from error
    return array


def _is_number(entry: str) -> bool:
    try:
        float(entry)
    except ValueError:
        return False
    return True
