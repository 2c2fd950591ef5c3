"""What a measurement is held to: limits of figures, and a baseline that it must not be slower than."""

from __future__ import annotations

import dataclasses
import operator
import types
from collections.abc import Sequence
from typing import TYPE_CHECKING, Union, get_args, get_origin, get_type_hints

from onnx_ghn.errors import OptionError, did_you_mean
from onnx_ghn.profiling.report import (
    Check,
    Latency,
    LengthProfile,
    Machine,
    Memory,
    OperatorProfile,
    PointResult,
    Ratio,
)
from onnx_ghn.profiling.settings import Settings
from onnx_ghn.profiling.slowdowns import LEAST_RUNS, slowdown_check, slower_by
from onnx_ghn.settings import Settings as _Settings
from onnx_ghn.settings import setting

if TYPE_CHECKING:
    from onnx_ghn.profiling.baseline import Baseline

__all__ = ["Gates", "figures", "held"]

_SECTIONS: dict[str, type] = {
    "latency": Latency,
    "lengths": LengthProfile,
    "memory": Memory,
    "operators": OperatorProfile,
    "machine": Machine,
}


def figures() -> dict[str, tuple[str, str]]:
    """The figures of a point by name, each with its section of the JSON output ("" for the point itself) and key.

    Each is known by its key, and by section and key: `p50_ms`, `latency.p50_ms`.
    """
    found = {"session_creation_ms": ("", "session_creation_ms")}
    for section, kind in _SECTIONS.items():
        hints = get_type_hints(kind)
        for key in (field.name for field in dataclasses.fields(kind)):
            if _is_number(hints[key]):
                found[key] = found[f"{section}.{key}"] = section, key
    return found


def _is_number(hint: object) -> bool:
    kinds = set(get_args(hint)) if get_origin(hint) in (Union, types.UnionType) else {hint}
    return kinds - {type(None)} in ({int}, {float})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gates(_Settings):
    """What every point of a sweep is held to; by default, nothing."""

    fail_above: tuple[tuple[str, float], ...] = setting(
        (),
        "Exit with 3 where a figure of --json is above a number, such as p95_ms=12; may be given several times.",
        form="figure_limit",
        metavar="FIGURE=NUMBER",
    )
    fail_below: tuple[tuple[str, float], ...] = setting(
        (),
        "Exit with 3 where a figure is below a number, such as items_per_s=100; may be given several times.",
        form="figure_limit",
        metavar="FIGURE=NUMBER",
    )
    fail_slower_than: tuple[str, float] | None = setting(
        None,
        "Exit with 3 where the model is slower than a file that --json wrote (without a file, than --against) by more "
        "than this, and the whole 95 % interval says so.",
        form="slowdown",
        metavar="[BASELINE.json:]PERCENT%",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        known = figures()
        for option in ("fail_above", "fail_below"):
            for name, _ in getattr(self, option):
                if name not in known:
                    meant = did_you_mean(name, known) or "; docs/profiling.md lists those of a point"
                    raise OptionError(f"`{option}` {name!r}: the JSON output has no such figure{meant}")

    def check(self, settings: Settings, estimate: bool, has_other: bool, together: bool = False) -> None:
        """Refuse what the measurement would not tell.

        Args:
            settings: how it is measured.
            estimate: nothing is run.
            has_other: another model is measured in turn.
            together: points share a process.

        Raises:
            OptionError: a figure that is not measured, or too few runs for an interval.
        """
        known = figures()
        for option in ("fail_above", "fail_below"):
            for name, _ in getattr(self, option):
                section = known[name][0]
                if estimate and section in ("latency", "memory", "lengths"):
                    raise OptionError(f"`{option}` {name}: an estimate does not measure it; leave `estimate` out")
                if section == "memory" and together:
                    raise OptionError(f"`{option}` {name}: points share a process; set `one_session` to False")
                if section == "lengths" and settings.lengths is None:
                    raise OptionError(f"`{option}` {name}: no lengths are drawn; name a file in `lengths`")
                if section in ("operators", "machine") and not (settings.operators or estimate):
                    raise OptionError(f"`{option}` {name}: operators are not measured; leave `operators` out")
        if self.fail_slower_than is None:
            return
        if estimate:
            raise OptionError("`fail_slower_than`: an estimate measures no latency; leave `estimate` out")
        if not self.fail_slower_than[0] and not has_other:
            raise OptionError("`fail_slower_than`: name a baseline, BASELINE.json:5%, or another model in `against`")
        if settings.iterations is not None and settings.iterations < LEAST_RUNS:
            raise OptionError(f"`iterations` {settings.iterations}: `fail_slower_than` needs {LEAST_RUNS} runs or more")


def held(
    gates: Gates, points: Sequence[PointResult], ratios: Sequence[Ratio], baseline: Baseline | None, seed: int
) -> tuple[Check, ...]:
    """Each requirement against each point that was measured.

    Args:
        ratios: of the model and another one in turn, where there is another.
        baseline: where `fail_slower_than` names one.
        seed: of the bootstrap.
    """
    found: list[Check] = []
    for point in points:
        if point.error is not None:
            continue
        found += [_limit(point, name, bound, True) for name, bound in gates.fail_above]
        found += [_limit(point, name, bound, False) for name, bound in gates.fail_below]
        if gates.fail_slower_than is not None and baseline is not None:
            found.append(baseline.held(point, gates.fail_slower_than[1], seed))
    if gates.fail_slower_than is not None and baseline is None:
        percent = gates.fail_slower_than[1]
        found += [_in_turn(ratio, percent) for ratio in ratios if ratio.error is None]
    return tuple(found)


def _limit(point: PointResult, name: str, bound: float, is_most: bool) -> Check:
    section, key = figures()[name]
    value = getattr(getattr(point, section) if section else point, key, None)
    word = "at most" if is_most else "at least"
    requirement = f"{name} {word} {bound:.7g}"
    if value is None:
        return Check(point.point, requirement, False, f"{name} was not measured, so nothing holds it to its limit")
    passed = bool((operator.le if is_most else operator.ge)(value, bound))
    if passed:
        return Check(point.point, requirement, True, f"{name} is {value:.7g}, {word} {bound:.7g} is allowed", value)
    gap = abs(value - bound)
    share = f" ({gap / bound:.1%})" if bound > 0 else ""
    side = "above" if is_most else "below"
    told = f"{name} is {value:.7g}, {side} the limit of {bound:.7g} by {gap:.3g}{share}"
    return Check(point.point, requirement, False, told, value)


def _in_turn(ratio: Ratio, percent: float) -> Check:
    interval = ratio.ratio or 0.0, ratio.low or 0.0, ratio.high or 0.0  # there are some where there is no error
    if ratio.n_pairs < LEAST_RUNS:
        told = f"{ratio.n_pairs} runs of each model are too few to compare; {LEAST_RUNS} are needed: measure for longer"
        return Check(ratio.point, slower_by(percent), False, told)
    return slowdown_check(ratio.point, interval, percent, "the other model")
