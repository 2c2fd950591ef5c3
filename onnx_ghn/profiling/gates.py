"""What a measurement is held to: limits of figures, and a baseline that it must not be slower than."""

from __future__ import annotations

import dataclasses
import math
import operator
import types
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Union, get_args, get_origin, get_type_hints

from onnx_ghn.errors import OptionError, did_you_mean
from onnx_ghn.profiling.report import (
    Binding,
    Check,
    CudaGraph,
    DeviceMemory,
    Energy,
    Generation,
    Latency,
    LengthProfile,
    Machine,
    Memory,
    OperatorProfile,
    PointResult,
    Ratio,
    Source,
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
    "binding": Binding,
    "cuda_graph": CudaGraph,
    "energy": Energy,
    "device_energy": Energy,
    "generation": Generation,
    "lengths": LengthProfile,
    "memory": Memory,
    "device_memory": DeviceMemory,
    "operators": OperatorProfile,
    "machine": Machine,
}
#: Of figures that were not measured at the point itself.
_WHOSE: Mapping[Source, str] = {
    "machine": " (by the machine's figures, measured once for all points of its threads)",
    "session": " (of the session that an earlier point opened, and this one shares)",
}
_SUMS = ("macs", "flops", "bytes", "estimate_ms")  # over the operators whose work is known


def figures() -> dict[str, tuple[str, str]]:
    """The figures of a point by name, each with its section of the JSON output ("" for the point itself) and key.

    Each is known by its key, and by section and key: `p50_ms`, `latency.p50_ms`. A key of several sections alone is
    that of the first: `peak_bytes` is the process's, `device_memory.peak_bytes` the GPU's.
    """
    found = {"session_creation_ms": ("", "session_creation_ms")}
    for section, kind in _SECTIONS.items():
        hints = get_type_hints(kind)
        for key in (field.name for field in dataclasses.fields(kind)):
            if _is_number(hints[key]):
                found[f"{section}.{key}"] = section, key
                found.setdefault(key, (section, key))
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

    @property
    def baseline(self) -> str | None:
        """The file that `fail_slower_than` names; None where it names none, and the other model is the baseline."""
        return None if self.fail_slower_than is None else self.fail_slower_than[0] or None

    def check(
        self, settings: Settings, estimate: bool, has_other: bool, together: bool = False, generates: bool = False
    ) -> None:
        """Refuse what the measurement would not tell.

        Args:
            settings: how it is measured.
            estimate: nothing is run.
            has_other: another model is measured in turn.
            together: points share a process.
            generates: points have a context.

        Raises:
            OptionError: a figure that is not measured, or too few runs for an interval.
        """
        known = figures()
        for option in ("fail_above", "fail_below"):
            for name, _ in getattr(self, option):
                section = known[name][0]
                if estimate and section not in ("", "operators", "machine"):
                    raise OptionError(f"`{option}` {name}: an estimate does not measure it; leave `estimate` out")
                if section in ("memory", "device_memory") and together:
                    raise OptionError(f"`{option}` {name}: points share a process; set `one_session` to False")
                if section == "generation" and not generates:
                    raise OptionError(f"`{option}` {name}: no text is generated; set `context`")
                if section == "binding" and not (settings.io_binding or settings.cuda_graph):
                    raise OptionError(f"`{option}` {name}: runs on the device are not measured; set `io_binding`")
                if section == "cuda_graph" and not settings.cuda_graph:
                    raise OptionError(f"`{option}` {name}: replays of a graph are not measured; set `cuda_graph`")
                if section == "lengths" and settings.lengths is None:
                    raise OptionError(f"`{option}` {name}: no lengths are drawn; name a file in `lengths`")
                if section in ("operators", "machine") and not (settings.operators or estimate):
                    raise OptionError(f"`{option}` {name}: operators are not measured; leave `operators` out")
        if self.fail_slower_than is None:
            return
        if estimate:
            raise OptionError("`fail_slower_than`: an estimate measures no latency; leave `estimate` out")
        if self.baseline is None and not has_other:
            raise OptionError("`fail_slower_than`: name a baseline, BASELINE.json:5%, or another model in `against`")
        if settings.iterations is not None and settings.iterations < LEAST_RUNS:
            raise OptionError(f"`iterations` {settings.iterations}: `fail_slower_than` needs {LEAST_RUNS} runs or more")


def held(
    gates: Gates, points: Sequence[PointResult], ratios: Sequence[Ratio], baseline: Baseline | None, seed: int
) -> tuple[Check, ...]:
    """Each requirement against each point that was measured.

    Args:
        ratios: of the model and another one in turn, where there is another.
        baseline: what `gates.baseline` names, read; None where it names none.
        seed: of the bootstrap.

    Raises:
        ValueError: the baseline is there and not asked for, or the other way round.
    """
    if (baseline is None) != (gates.baseline is None):
        raise ValueError(f"a baseline {gates.baseline!r} is asked for, and {baseline!r} is given")
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


def _missing(point: PointResult, key: str, value: float | None, is_most: bool) -> str | None:
    """Why a figure says nothing of a limit, though a number may stand in its place; None where it does."""
    if value is None or math.isnan(value):
        return "was not measured"
    if key == "std_ms" and point.latency is not None and point.latency.n_runs < 2:
        return "is not known from a single run"
    if key == "last_level_cache_bytes" and value == 0:
        return "is not told by the system"
    unknown = 0 if point.operators is None else point.operators.unknown
    if unknown and is_most and key in _SUMS:
        operators = "one operator" if unknown == 1 else f"{unknown} operators"
        return f"is {value:.7g} or more: work or shapes of {operators} are not known"
    return None


def _limit(point: PointResult, name: str, bound: float, is_most: bool) -> Check:
    section, key = figures()[name]
    value: float | None = getattr(getattr(point, section) if section else point, key, None)
    word = "at most" if is_most else "at least"
    source: Source = "machine" if section == "machine" or key == "estimate_ms" else "point"
    source = "session" if key == "session_creation_ms" and point.session_shared else source
    check = Check(point.point, f"{name} {word} {bound:.7g}", False, "", source=source)
    reason = _missing(point, key, value, is_most)
    # A part of a sum that is above the limit is enough to fail by.
    if value is None or (reason is not None and not (key in _SUMS and value > bound)):
        return dataclasses.replace(check, told=f"{name} {reason}, so that nothing holds it to its limit")
    whose = _WHOSE.get(source, "")
    if (operator.le if is_most else operator.ge)(value, bound):
        told = f"{name} is {value:.7g}{whose}, {word} {bound:.7g} is allowed"
        return dataclasses.replace(check, passed=True, told=told, value=value)
    gap = abs(value - bound)
    share = f" ({gap / bound:.1%})" if bound > 0 else ""
    side = "above" if is_most else "below"
    told = f"{name} is {value:.7g}{whose}, {side} the limit of {bound:.7g} by {gap:.3g}{share}"
    return dataclasses.replace(check, told=told, value=value)


def _in_turn(ratio: Ratio, percent: float) -> Check:
    check = Check(ratio.point, slower_by(percent), False, "", source="turn")
    if ratio.n_pairs < LEAST_RUNS:
        told = f"{ratio.n_pairs} runs of each model are too few to compare; {LEAST_RUNS} are needed: measure for longer"
        return dataclasses.replace(check, told=told)
    if ratio.ratio is None or ratio.low is None or ratio.high is None:
        return dataclasses.replace(check, told="the ratio was not measured, so that nothing holds it to its limit")
    interval = ratio.ratio, ratio.low, ratio.high
    return slowdown_check(ratio.point, interval, percent, "the other model, measured in turn", "turn")
