"""A picture of a profile: latencies, the longest operators, the roofline; for sweeps, curves."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_ghn.errors import OptionError
from onnx_ghn.installing import install_command
from onnx_ghn.profiling.report import Operator, PointResult, ProfileReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import RcKeyType

__all__ = ["check_picture", "draw_profile"]

_INK, _MUTED, _BLUE, _GREEN, _ORANGE = "#1e293b", "#94a3b8", "#2563eb", "#059669", "#d97706"
_CURVES = (_BLUE, _ORANGE, _GREEN, "#7c3aed", "#db2777", "#0891b2", "#64748b", "#b91c1c")
_FORMATS = (".png", ".svg", ".pdf")
_BARS = 12
_KINDS = (
    ("convolutions", _BLUE, ("Conv",)),
    ("matrix products", _ORANGE, ("Gemm", "MatMul", "Attention", "LSTM", "GRU", "RNN", "Einsum")),
    ("others", _GREEN, ("",)),
)


def check_picture(path: str | os.PathLike[str]) -> None:
    """Refuse a file that could not be drawn, before anything is measured.

    Raises:
        OptionError: another suffix, or no matplotlib.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise OptionError(f"{path}: no picture format {suffix!r}; name a file in {', '.join(_FORMATS)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise OptionError(f"{path}: a picture needs matplotlib; run {install_command('plot')}") from None


def draw_profile(report: ProfileReport, path: str | os.PathLike[str]) -> bytes:
    """The picture in the format that the suffix of `path` names.

    Raises:
        OptionError: nothing was measured, or see `check_picture`.
    """
    check_picture(path)
    import matplotlib
    from matplotlib.figure import Figure

    done = [point for point in report.points if point.error is None]
    if not done:
        raise OptionError(f"{path}: nothing was measured, so there is nothing to draw")
    panels: list[Any] = []
    measured = [point for point in done if point.latency is not None]
    if measured:
        panels.append((_latencies, (report, measured)))
    if len(measured) > 1:
        panels += [(_curves, (measured, name)) for name in ("p50", "throughput")]
    # Operators of the point that has most to do: the last of a sweep.
    profiled = next((point for point in reversed(done) if point.operators is not None), None)
    if profiled is not None:
        panels += [(_bars, (profiled,)), (_roofline, (profiled,))]
    style: dict[RcKeyType, object] = {"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "onnx-ghn"}
    style |= {"text.color": _INK, "xtick.color": _INK, "ytick.color": _INK}
    style |= {"axes.edgecolor": _MUTED, "axes.labelcolor": _INK}
    with matplotlib.rc_context(style):
        rows = [panels] if len(panels) <= 3 else [panels[:3], panels[3:]]
        width = max(len(row) for row in rows)
        figure = Figure(figsize=(5.2 * width, 4.2 * len(rows)), layout="constrained", facecolor="white")
        grid = figure.add_gridspec(len(rows), width)
        figure.suptitle(_title(report), x=0.01, ha="left", fontsize=13)
        for at, row in enumerate(rows):
            for number, (draw, arguments) in enumerate(row):
                # A row with fewer panels: its first, the operators with their long names, gets the room.
                first = 0 if number == 0 else number + width - len(row)
                axes = figure.add_subplot(grid[at, first : number + width - len(row) + 1])
                axes.spines[["top", "right"]].set_visible(False)
                draw(axes, *arguments)
        out = io.BytesIO()
        kind = Path(path).suffix.lower().removeprefix(".")
        figure.savefig(out, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return out.getvalue()


def _title(report: ProfileReport) -> str:
    names = " against ".join(os.path.basename(model) for model, _ in report.sides)
    return f"{names} — {report.system['processor']}, onnxruntime {report.system['onnxruntime']}".replace("$", "")


def _latencies(axes: Axes, report: ProfileReport, points: Sequence[PointResult]) -> None:
    """The distribution of one point as a histogram, of several as curves of the share below."""
    series = [
        ((f"{os.path.basename(model)}, " if report.against is not None else "") + _others(point, "", points), point)
        for model, measured in report.sides
        for point in measured
        if point.latency is not None
    ]
    if len(series) == 1:
        latency = series[0][1].latency
        assert latency is not None
        samples = np.array(latency.samples_ms)
        # What is beyond the 99.9th percentile would leave the rest a single bar.
        top = max(latency.p99_9_ms, latency.p50_ms * 1.05)
        axes.hist(samples, bins=min(40, max(10, len(samples) // 8)), range=(latency.min_ms, top), color="#bfdbfe")
        for name, at, colour in (("p50", latency.p50_ms, _BLUE), ("p99", latency.p99_ms, _ORANGE)):
            axes.axvline(at, color=colour, linewidth=1.5, label=f"{name} {at:.3g} ms")
        axes.set_ylabel("runs")
    else:
        for number, (label, point) in enumerate(series[: len(_CURVES)]):
            assert point.latency is not None
            ordered = np.sort(point.latency.samples_ms)
            share = np.arange(1, len(ordered) + 1) / len(ordered)
            shown = _shortened(label.removesuffix(", ") or point.point.label)
            axes.plot(ordered, share * 100, color=_CURVES[number], linewidth=1.8, label=shown)
        low, high = axes.get_xlim()
        if low > 0 and high > 10 * low:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:e}"[0] in "235" else "")
        axes.set_ylabel("% of runs below")
        if axes.get_xscale() == "linear":  # room for the legend
            axes.set_xlim(right=high + 0.4 * (high - low))
    axes.set_xlabel("latency, ms")
    axes.set_title("Latency", loc="left")
    axes.legend(frameon=False, fontsize=8.5)


def _curves(axes: Axes, points: Sequence[PointResult], what: str) -> None:
    """p50 or throughput over the batch, or over threads where there is one batch; a curve for each other setting."""
    over = next(
        (name for name in ("batch", "threads", "streams") if len({_at(point, name) for point in points}) > 1), "batch"
    )
    curves: dict[str, list[tuple[float, float]]] = {}
    for point in points:
        assert point.latency is not None
        value = point.latency.p50_ms if what == "p50" else point.latency.items_per_s
        curves.setdefault(_others(point, over, points), []).append((_at(point, over), value))
    for number, (label, found) in enumerate(curves.items()):
        xs, ys = zip(*sorted(found), strict=True)
        axes.plot(xs, ys, "o-", color=_CURVES[number % len(_CURVES)], linewidth=1.8, markersize=5, label=label)
    ticks = sorted({_at(point, over) for point in points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(0, 1.12 * max(value for found in curves.values() for _, value in found))
    axes.grid(alpha=0.25)
    axes.set_xlabel(over)
    axes.set_ylabel("p50, ms" if what == "p50" else "items / s")
    axes.set_title("Latency by " + over if what == "p50" else "Throughput by " + over, loc="left")
    if len(curves) > 1 or next(iter(curves)):
        axes.legend(frameon=False, fontsize=8.5)


def _bars(axes: Axes, point: PointResult) -> None:
    profile = point.operators
    assert profile is not None
    ordered = sorted(profile.operators, key=lambda entry: -(entry.p50_ms or entry.estimate_ms or 0.0))[:_BARS]
    places = np.arange(len(ordered))
    measured = profile.repetitions > 0
    values = [(entry.p50_ms if measured else entry.estimate_ms) or 0.0 for entry in ordered]
    axes.barh(places, values, color="#93c5fd")
    if measured:
        ends = ([entry.p10_ms or 0.0 for entry in ordered], [entry.p90_ms or 0.0 for entry in ordered])
        axes.hlines(places, *ends, color=_INK, linewidth=1)
        # On a busy machine the slow runs of a few would leave all bars a line.
        axes.set_xlim(right=min(max(ends[1], default=1.0), 3 * max(values, default=1.0)) * 1.05 or 1.0)
    if measured and profile.estimate_ms is not None:
        estimates = [entry.estimate_ms or 0.0 for entry in ordered]
        axes.plot(estimates, places, "|", color=_ORANGE, markersize=11, markeredgewidth=2, label="roofline's estimate")
        axes.legend(frameon=False, fontsize=8.5, loc="lower right")
    names = [f"{_kind(entry)}  {_end(entry.covers[0] if entry.covers else entry.name)}" for entry in ordered]
    axes.set_yticks(places, names, fontsize=7.5, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("ms a run: p50, and p10 to p90" if measured else "ms a run, estimated")
    axes.set_title(f"Longest operators ({_where(point)})", loc="left", fontsize=10)


def _roofline(axes: Axes, point: PointResult) -> None:
    """Achieved operations a second over arithmetic intensity; a dot's area is the operator's time."""
    from matplotlib.collections import PathCollection

    profile, machine = point.operators, point.machine
    assert profile is not None
    found = [
        (entry.intensity, entry.flops, ms, entry)
        for entry in profile.operators
        if entry.flops and entry.intensity and (ms := entry.p50_ms or entry.estimate_ms)
    ]
    if machine is not None:
        reach = [intensity for intensity, *_ in found] or [1.0]
        low, high = min(*reach, 0.1), max(*reach, 10 * machine.peak_flops / machine.memory_bytes_per_s)
        xs = np.geomspace(low, high * 2, 200)
        roofs = (("memory", machine.memory_bytes_per_s, "-"), ("cache", machine.cache_bytes_per_s, "--"))
        for name, bandwidth, line in roofs:
            label = f"{name}, {bandwidth / 1e9:.3g} GB/s"
            axes.plot(
                xs, np.minimum(xs * bandwidth, machine.peak_flops) / 1e9, line, color=_INK, linewidth=1.3, label=label
            )
        axes.text(high * 2, machine.peak_flops / 1e9 * 1.3, f"peak {machine.peak_flops / 1e9:.3g} Gflop/s", ha="right")
    longest = max((ms for _, _, ms, _ in found), default=1.0)
    left = found
    for name, colour, kinds in _KINDS:
        mine = [entry for entry in left if any(kind in entry[3].op_type for kind in kinds)]
        left = [entry for entry in left if entry not in mine]
        if mine:
            areas = [8 + 160 * ms / longest for _, _, ms, _ in mine]
            speeds = [n_flops / ms / 1e6 for _, n_flops, ms, _ in mine]
            axes.scatter([x for x, *_ in mine], speeds, areas, color=colour, alpha=0.55, linewidths=0, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(top=axes.get_ylim()[1] * 1.6)
    axes.grid(alpha=0.2)
    axes.set_xlabel("arithmetic intensity, flop / byte")
    axes.set_ylabel("Gflop / s" + ("" if profile.repetitions else ", estimated"))
    axes.set_title(f"Roofline ({_where(point)})", loc="left", fontsize=10)
    legend = axes.legend(frameon=False, fontsize=8.5, loc="lower right")
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([40])


def _at(point: PointResult, name: str) -> Any:
    return point.batch if name == "batch" else getattr(point.point, name)


def _others(point: PointResult, over: str, points: Sequence[PointResult]) -> str:
    """The label of this point's curve: the settings that vary among the points, except the one on the axis."""
    parts = []
    for name in ("provider", "optimization", "threads", "inter_threads", "streams", "batch"):
        value = _at(point, name)
        if name != over and len({_at(entry, name) for entry in points}) > 1:
            word = "" if name in ("provider", "optimization") else f" {name.replace('_', '-')}"
            text = f"{str(value).removesuffix('ExecutionProvider')}{word}"
            text = f"batch {value}" if name == "batch" else text
            parts.append(text.removesuffix("s") if text.startswith("1 ") else text)
    return ", ".join(parts)


def _where(point: PointResult) -> str:
    batch = f", batch {point.batch}" if point.point.batch is None else ""
    return point.point.label + batch


def _kind(operator: Operator) -> str:
    text = operator.fused.replace("BatchNormalization", "BN").replace("LayerNormalization", "LN")
    return text if len(text) <= 18 else operator.op_type


def _end(name: str, width: int = 30) -> str:
    name = "/".join(name.lstrip("/").split("/")[-3:])
    return name if len(name) <= width else "…" + name[1 - width :]


def _shortened(label: str) -> str:
    return (label if len(label) <= 48 else label[:47] + "…").replace("$", "")
