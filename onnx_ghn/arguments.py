"""Arguments of the wrong type, told by their names instead of by what Python says of them somewhere below."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from onnx_ghn.errors import OptionError

__all__ = ["listed", "path_given", "value_told"]

_LONGEST = 40  # characters of a value in a message


def value_told(value: object) -> str:
    """A value in a message: as Python writes it where that is short, else its type."""
    if isinstance(value, str | int | float | None | list | tuple | dict) and len(told := repr(value)) <= _LONGEST:
        return told
    return f"of type {type(value).__name__}"


def path_given(name: str, value: object, otherwise: str = "") -> str:
    """A path as text.

    Args:
        name: of the argument.
        otherwise: what the argument may be instead, for the message.

    Raises:
        OptionError: it is no path.
    """
    if isinstance(value, str | os.PathLike):
        path = os.fspath(value)
        if isinstance(path, str):
            return path
    raise OptionError(f"`{name}` {value_told(value)} must be a path{f', {otherwise}' if otherwise else ''}")


def listed(name: str, given: Any) -> tuple[Any, ...]:
    """A list, of which a text or a path may be the only entry.

    Args:
        name: of the argument.

    Raises:
        OptionError: it is no list.
    """
    if isinstance(given, str | os.PathLike):
        return (given,)
    if not isinstance(given, Iterable):
        raise OptionError(f"`{name}` {value_told(given)} must be a list")
    return tuple(given)
