"""A small residual network for 32 × 32 images in Flax, which `benchmarks/journeys.py` exports."""

from __future__ import annotations

import sys
from pathlib import Path

from flax import nnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from flax_models import ResNet


def build() -> nnx.Module:
    """Ten classes."""
    return ResNet(nnx.Rngs(0))
