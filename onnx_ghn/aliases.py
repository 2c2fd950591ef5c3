"""Types that have no narrower name: arrays of whatever type a file stores, and what JSON holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy.typing as npt

__all__ = ["Array", "Json", "JsonView"]

Array: TypeAlias = npt.NDArray[Any]
"""An array of any type and shape."""

Json: TypeAlias = dict[str, Any]
"""A JSON object."""

JsonView: TypeAlias = Mapping[str, Any]
"""A JSON object that is only read."""
