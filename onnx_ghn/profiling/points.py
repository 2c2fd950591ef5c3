"""The points of a sweep: all combinations of the values asked for."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from onnx_ghn.errors import OptionError
from onnx_ghn.profiling.settings import Point

__all__ = ["groups", "sweep_points"]


def sweep_points(
    axes: Sequence[Sequence[Any]],
    shapes: Mapping[str, Sequence[tuple[int, ...]]],
    size: Sequence[tuple[str, Sequence[int]]],
) -> tuple[list[Point], bool]:
    """The points, and whether shapes or sizes have several values.

    Args:
        axes: providers with their devices, levels of optimisation, threads, threads between operators, streams,
            contexts (None: none), batches (None: as the file says).
        shapes: of inputs, by name: those with several change together.
        size: symbols with their sizes.

    Raises:
        OptionError: shapes and sizes that make no sense.
    """
    sizes = [[(symbol, one) for one in several] for symbol, several in _once(size)]
    shaped = _shaped(shapes)
    every = itertools.product(*axes, shaped, list(itertools.product(*sizes)))
    points = [
        Point(items, threads, inter, streams, name, level, one_shaped, one_sized, context, device)
        for (name, device), level, threads, inter, streams, context, items, one_shaped, one_sized in every
    ]
    return list(dict.fromkeys(points)), len(shaped) > 1 or any(len(one) > 1 for one in sizes)


def groups(points: Sequence[Point]) -> list[list[Point]]:
    """Points that differ in their inputs alone."""
    found: dict[Point, list[Point]] = {}
    for point in points:
        found.setdefault(dataclasses.replace(point, batch=None, shapes=(), sizes=()), []).append(point)
    return list(found.values())


def _once(size: Sequence[tuple[str, Sequence[int]]]) -> Sequence[tuple[str, Sequence[int]]]:
    """The sizes of symbols. Raises OptionError: one is there twice, or has none."""
    names = [symbol for symbol, _ in size]
    for symbol, several in size:
        if names.count(symbol) > 1 or not several:
            raise OptionError(f"`size` {symbol}: has {'no sizes' if not several else 'two lists of sizes; write one'}")
    return size


def _shaped(shapes: Mapping[str, Sequence[tuple[int, ...]]]) -> list[tuple[tuple[str, tuple[int, ...]], ...]]:
    """The shapes of the inputs at each point; an input with one shape has it at all of them. Raises OptionError."""
    n_points = max(map(len, shapes.values()), default=1)
    for name, several in shapes.items():
        if len(several) not in (1, n_points):
            raise OptionError(
                f"`shapes`: input {name!r} has {len(several)} shapes, another {n_points}; give each as many, or one"
            )
        bad = next((shape for shape in several if any(dim < 1 for dim in shape)), None)
        if bad is not None:
            raise OptionError(f"`shapes`: that of input {name!r} is {bad}, must hold numbers from 1")
    return [
        tuple((name, tuple(several[number % len(several)])) for name, several in shapes.items())
        for number in range(n_points)
    ]
