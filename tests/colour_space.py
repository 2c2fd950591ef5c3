"""Colours as people see them."""

from __future__ import annotations

import numpy as np

__all__ = ["lab", "luminance"]


def _linear(colour: str) -> np.ndarray:
    """Linear red, green and blue, 0 to 1, of an sRGB colour such as #2563eb."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    return float(_linear(colour) @ [0.2126, 0.7152, 0.0722])


def lab(colour: str) -> np.ndarray:
    """CIE L*a*b* (D65)."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ _linear(colour) / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
