"""Perceptrons."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

__all__ = ["perceptron"]


def perceptron(columns: int, outputs: int, widths: Sequence[int]) -> nn.Module:
    """Linear layers with rectifiers between them."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(columns, width), nn.ReLU()]
        columns = width
    return nn.Sequential(*layers, nn.Linear(columns, outputs))
