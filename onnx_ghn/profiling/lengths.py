"""Sizes as they come in use: drawn from a file of lengths, one number a line."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.errors import OptionError
from onnx_ghn.profiling.settings import Settings
from onnx_ghn.profiling.sizing import batch_symbols, described, symbols_of
from onnx_ghn.profiling.specs import InputSpec
from onnx_ghn.reading import read_regular

__all__ = ["drawn_lengths", "lengths_symbol", "read_lengths", "typical_length", "typical_sizes"]

_MAX_BYTES = 1 << 26
_DRAWN = 256  # lengths of a round, each run as often as the others; in memory at once
_SHOWN = 20  # characters of what is wrong


def read_lengths(path: str | os.PathLike[str]) -> Array:
    """The whole numbers of a text file, (n,) int64.

    Raises:
        OptionError: the file cannot be read, has no number, or a line that is no whole number from 1.
    """
    name = os.fspath(path)
    try:
        lines = read_regular(path, _MAX_BYTES).decode("utf-8").splitlines()
    except OSError as error:
        raise OptionError(f"`lengths` {name}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise OptionError(f"`lengths` {name}: is no text; write one whole number a line") from error
    found = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        if not (text.isascii() and text.isdigit()) or not 0 < len(text) < 10 or int(text) < 1:
            raise OptionError(
                f"`lengths` {name}: line {number} is {text[:_SHOWN]!r}; write one whole number from 1 a line"
            )
        found.append(int(text))
    if not found:
        raise OptionError(f"`lengths` {name}: has no numbers; write one whole number a line")
    return np.array(found, np.int64)


def lengths_symbol(specs: Sequence[InputSpec], name: str) -> str:
    """The symbol that lengths are drawn for: `name`, or the only one beside the batch's.

    Raises:
        OptionError: the inputs have no such symbol, or several.
    """
    known = symbols_of(specs)
    if name:
        if name not in known:
            raise OptionError(f"`lengths` {name}: no input has that symbol; the inputs are {described(specs)}")
        return name
    others = [one for one in known if one not in batch_symbols(specs)]
    if len(others) != 1:
        say = "no input has a symbol for a length" if not others else f"say of which symbol, {others[0]}=FILE"
        raise OptionError(f"`lengths`: {say}; the inputs are {described(specs)}")
    return others[0]


def drawn_lengths(lengths: Array, seed: int) -> Array:
    """A round of lengths in random order, (k,): all of them, or 256 where there are more."""
    drawn: Array = np.random.default_rng(seed).permutation(lengths)[:_DRAWN]
    return drawn


def typical_length(drawn: Array) -> int:
    """The median of a round of lengths, (k,): the upper one of two."""
    return int(np.sort(drawn)[len(drawn) // 2])


def typical_sizes(specs: Sequence[InputSpec], settings: Settings) -> dict[str, int]:
    """The median of a round of drawn lengths, by its symbol, where lengths are drawn: what is done once is done there.

    Raises:
        OptionError: see `read_lengths` and `lengths_symbol`.
    """
    if settings.lengths is None:
        return {}
    name, file = settings.lengths
    return {lengths_symbol(specs, name): typical_length(drawn_lengths(read_lengths(file), settings.seed))}
