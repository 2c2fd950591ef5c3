"""Arrays of whatever type a file stores."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy.typing as npt

__all__ = ["Array", "read_only"]

Array: TypeAlias = npt.NDArray[Any]
"""An array of any type and shape."""


def read_only(array: Array) -> Array:
    """A view of an array that nobody can write to, so that it may be shared."""
    view = array.view()
    view.flags.writeable = False
    return view
