"""Operators that give the elements of what they are given, all of them, each once."""

from __future__ import annotations

__all__ = ["RESHAPE_OPERATORS", "VIEW_OPERATORS"]

RESHAPE_OPERATORS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
"""Those that keep the order of the elements, under another shape."""

VIEW_OPERATORS = RESHAPE_OPERATORS | {"Identity", "Cast", "Transpose"}
"""And those that change their type or their order."""
