"""What JSON holds. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

__all__ = ["Json", "JsonView"]

Json: TypeAlias = dict[str, Any]
"""A JSON object."""

JsonView: TypeAlias = Mapping[str, Any]
"""A JSON object that is only read."""
