"""What JSON holds. Nothing heavy is imported here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

__all__ = ["Json", "JsonView", "finite"]

Json: TypeAlias = dict[str, Any]
"""A JSON object."""

JsonView: TypeAlias = Mapping[str, Any]
"""A JSON object that is only read."""


def finite(value: Any) -> Any:
    """A value whose numbers that are not finite, which JSON does not have, are null; also within lists and objects."""
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
