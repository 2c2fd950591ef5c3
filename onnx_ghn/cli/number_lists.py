"""Types of options: several values (`1,8,32`, `0-3`, `cpu,cuda`), a shape, an assignment, a limit."""

from __future__ import annotations

import ast
import math

import click

from onnx_ghn.profiling.optimization_levels import OPTIMIZATIONS

__all__ = [
    "assignment",
    "cores",
    "figure_limit",
    "levels",
    "named_file",
    "named_shapes",
    "named_sizes",
    "numbers",
    "provider_option",
    "shape",
    "slowdown",
    "words",
]


def numbers(value: str | tuple[int, ...], ranges: bool = False) -> tuple[int, ...]:
    """Numbers from 1, such as `1,8,32`; with ranges, `0-3` too, and from 0."""
    if isinstance(value, tuple):
        return value
    found: list[int] = []
    for part in value.split(","):
        first, dash, last = part.partition("-")
        try:
            ends = int(first), int(last if dash else first)
        except ValueError as error:
            message = f"{part!r} is no number; write numbers with commas between, such as 1,8,32"
            raise click.BadParameter(message) from error
        if (dash and not ranges) or ends[0] < (0 if ranges else 1) or ends[1] - ends[0] > 4096:
            raise click.BadParameter(f"{part!r} is not in the range of this option")
        found += range(ends[0], ends[1] + 1)
    return tuple(found)


def cores(value: str | tuple[int, ...]) -> tuple[int, ...]:
    """Numbers from 0 and ranges of them, such as `0,2-3`."""
    return numbers(value, ranges=True)


def words(value: str | tuple[str, ...], choices: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Words such as `cpu,cuda`."""
    words = value if isinstance(value, tuple) else tuple(word.strip() for word in value.split(","))
    for word in words:
        if not word or (choices and word not in choices):
            raise click.BadParameter(f"{word!r}: choose of {', '.join(choices) or 'cpu, cuda, tensorrt'}")
    return words


def levels(value: str | tuple[str, ...]) -> tuple[str, ...]:
    """Levels of optimisation, such as `basic,all`."""
    return words(value, tuple(OPTIMIZATIONS))


def shape(text: str | tuple[int, ...]) -> tuple[int, ...]:
    """A type of options: a shape, such as `1x3x224x224`; commas between are accepted, too."""
    if isinstance(text, tuple):
        return text
    try:
        return tuple(int(side) for side in text.replace("×", "x").replace(",", "x").split("x")) if text else ()
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no shape; write 1x3x224x224") from error


def named_shapes(text: str | tuple[str, tuple[tuple[int, ...], ...]]) -> tuple[str, tuple[tuple[int, ...], ...]]:
    """A type of options: the name of an input, or none, and shapes, such as `images:1x3x224x224` or `ids:1x16,1x128`.

    Commas between sides alone (`1,3,224,224`) are one shape.
    """
    if isinstance(text, tuple):
        return text
    name, _, sides = text.rpartition(":")
    several = sides.split(",") if "x" in sides or "×" in sides else [sides]
    return name, tuple(shape(one) for one in several)


def named_sizes(text: str | tuple[str, tuple[int, ...]]) -> tuple[str, tuple[int, ...]]:
    """A type of options: the name of a symbol and its sizes from 0, such as `sequence=16,128`."""
    if isinstance(text, tuple):
        return text
    name, equals, sizes = text.rpartition("=")
    found = sizes.split(",")
    if not name or not equals or not all(_is_size(one.strip()) for one in found):
        raise click.BadParameter(f"{text!r} must be SYMBOL=N,…, such as sequence=16,128")
    return name.strip(), tuple(int(one) for one in found)


def named_file(text: str | tuple[str, str]) -> tuple[str, str]:
    """A type of options: a name, or none, and a file, such as `sequence=lengths.txt`."""
    if isinstance(text, tuple):
        return text
    name, equals, file = text.partition("=")
    name, file = (name, file) if equals else ("", name)
    if not file:
        raise click.BadParameter(f"{text!r} names no file; write [SYMBOL=]FILE")
    return name.strip(), file


def provider_option(text: str | tuple[str, str, str]) -> tuple[str, str, str]:
    """A type of options: a provider, its option's name, and a value, such as `cuda.use_tf32=0`."""
    if isinstance(text, tuple):
        return text
    where, equals, value = text.partition("=")
    name, dot, key = where.partition(".")
    if not (name and dot and key and equals):
        raise click.BadParameter(f"{text!r} must be NAME.KEY=VALUE, such as cuda.use_tf32=0")
    return name.strip(), key.strip(), value


def figure_limit(text: str | tuple[str, float]) -> tuple[str, float]:
    """A type of options: the name of a figure and a number, such as `p95_ms=12`."""
    if isinstance(text, tuple):
        return text
    name, equals, value = text.partition("=")
    number = _number(value)
    if not name or not equals or number is None:
        raise click.BadParameter(f"{text!r} must be FIGURE=NUMBER, such as p95_ms=12")
    return name.strip(), number


def slowdown(text: str | tuple[str, float]) -> tuple[str, float]:
    """A type of options: a file, or none, and a percentage from 0, such as `baseline.json:5%`."""
    if isinstance(text, tuple):
        return text
    name, _, share = text.rpartition(":")
    number = _number(share.removesuffix("%")) if share.endswith("%") else None
    if number is None or number < 0:
        raise click.BadParameter(f"{text!r} must be BASELINE.json:PERCENT%, such as baseline.json:5%")
    return name, number


def _is_size(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _number(text: str) -> float | None:
    """A finite number; None for anything else."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def assignment(text: str) -> tuple[str, object]:
    """A type of options: a name and a value of Python, or the text itself."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise click.BadParameter(f"{text!r} must be NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
