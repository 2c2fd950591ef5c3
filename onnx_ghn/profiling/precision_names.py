"""The names of precisions."""

from __future__ import annotations

__all__ = ["FULL", "PRECISIONS"]

FULL = "fp32"  # the file as it is
#: `conversions.py` says what each is.
PRECISIONS = (FULL, "fp16", "fp16-common", "int8", "int8-dynamic")
