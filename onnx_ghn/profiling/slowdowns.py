"""Whether a slowdown is one: the whole interval of the ratio of two medians lies above what is allowed."""

from __future__ import annotations

from onnx_ghn.profiling.report import Check, Source
from onnx_ghn.profiling.settings import Point

__all__ = ["LEAST_RUNS", "slowdown_check", "slower_by"]

LEAST_RUNS = 20  # for an interval of the median that means anything


def slower_by(percent: float) -> str:
    """The requirement in words."""
    return f"slower by at most {percent:g} %"


def slowdown_check(point: Point, ratio: tuple[float, float, float], percent: float, than: str, source: Source) -> Check:
    """Hold the ratio of two medians to an allowed slowdown.

    Args:
        ratio: model / baseline, and the ends of its 95 % interval.
        percent: the slowdown that is allowed.
        than: the baseline, for the message.
        source: of the ratio.
    """
    value, low, high = ratio
    passed = low <= 1 + percent / 100
    told = (
        f"p50 is {_change(value)} than that of {than} (95 % interval of the ratio {low:.3f} to {high:.3f}), "
        f"{percent:g} % slower is allowed"
    )
    return Check(point, slower_by(percent), passed, told, value, low, high, source)


def _change(ratio: float) -> str:
    return f"{ratio - 1:.1%} slower" if ratio >= 1 else f"{1 - ratio:.1%} faster"
