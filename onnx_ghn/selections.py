"""Which channels of a wider donor a narrower recipient takes. Nothing heavy is imported here."""

from __future__ import annotations

from typing import Literal

__all__ = ["Selection"]

Selection = Literal["uniform", "first", "norm"]
