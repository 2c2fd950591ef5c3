"""Tables of a profile for people, printed by the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from rich.table import Table

from onnx_ghn.cli.tables import new_table
from onnx_ghn.errors import printable
from onnx_ghn.profiling.report import Comparison, Machine, Operator, OperatorProfile, PointResult, Ratio

__all__ = [
    "comparison_table",
    "device_lines",
    "generation_table",
    "latency_table",
    "lengths_line",
    "machine_line",
    "ms",
    "operators_summary",
    "operators_table",
    "ratios_table",
    "si",
]

_TAIL_RUNS = 1000  # below, the 99.9th percentile is little more than the maximum


def si(value: float | None, unit: str = "") -> str:
    """Three digits with a prefix: 4.09 G."""
    if value is None:
        return ""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".rstrip()


def latency_table(points: Sequence[PointResult], title: str = "") -> Table:
    """A row for each point. Columns that would say the same in each row and are at their defaults are left out."""
    settings = [
        (name, header)
        for name, header in (
            ("provider", "provider"),
            ("optimization", "level"),
            ("threads", "threads"),
            ("inter_threads", "inter-op"),
            ("streams", "streams"),
            ("context", "context"),
        )
        if name == "threads"
        or (name == "context" and points[0].point.context is not None)
        or len({getattr(entry.point, name) for entry in points}) > 1
        or (name in ("inter_threads", "streams") and getattr(points[0].point, name) > 1)
        or (name == "provider" and points[0].point.provider != "CPUExecutionProvider")
        or (name == "optimization" and points[0].point.optimization != "all")
    ]
    symbols = list(dict.fromkeys(name for entry in points for name, _ in (*entry.point.shapes, *entry.point.sizes)))
    times = ("p50", "p90", "p95", "p99", "p99.9", "mean", "± std", "items/s", "load", "memory")
    measured = any(entry.latency is not None for entry in points)
    estimated = any(entry.operators is not None and entry.operators.estimate_ms is not None for entry in points)
    figures = (*(times if measured or not estimated else ()), *(("estimate",) if estimated else ()))
    columns = [(header, "left" if name in ("provider", "optimization") else "right") for name, header in settings]
    columns += [("batch", "right"), *((printable(name), "right") for name in symbols)]
    shared = any(entry.latency is not None and entry.memory is None for entry in points)
    if shared:  # each shape's first run stands where the memory would, which is the process's
        figures = tuple("first run" if name == "memory" else name for name in figures)
    of_device = [name for name, value in _DEVICE_COLUMNS.items() if any(value(entry) for entry in points)]
    table = new_table(*columns, *((name, "right") for name in (*figures, *of_device)), title=title)
    for entry in points:
        values = [str(getattr(entry.point, name)).removesuffix("ExecutionProvider") for name, _ in settings]
        size = entry.batch if entry.inputs else entry.point.batch
        values.append("" if size is None else str(size))
        of_symbols = {name: "×".join(map(str, shape)) for name, shape in entry.point.shapes}
        of_symbols |= {name: str(size) for name, size in entry.point.sizes}
        values += [of_symbols.get(name, "") for name in symbols]
        if entry.error is not None:
            table.add_row(*values, *(("failed",) if figures else ()), style="yellow")
            continue
        latency, memory = entry.latency, entry.memory
        if latency is not None:
            percentiles = [
                latency.p50_ms,
                latency.p90_ms,
                latency.p95_ms,
                latency.p99_ms,
                latency.p99_9_ms,
                latency.mean_ms,
            ]
            values += [ms(value) for value in percentiles]
            values += [
                ms(latency.std_ms),
                f"{latency.items_per_s:,.1f}",
                ms(entry.session_creation_ms),
            ]
            peak = "" if memory is None else f"{memory.peak_bytes / 2**20:,.0f} MiB"
            values += [ms(latency.first_run_ms) if shared else peak]
        elif measured:
            values += [""] * len(times)
        values += [ms(entry.operators.estimate_ms if entry.operators else None)] if estimated else []
        table.add_row(*values, *(_DEVICE_COLUMNS[name](entry) for name in of_device))
    n_runs = [entry.latency.n_runs for entry in points if entry.latency is not None]
    if n_runs:
        few = f"; p99.9 needs {_TAIL_RUNS:,} runs to say more than the maximum" if min(n_runs) < _TAIL_RUNS else ""
        between = f"{min(n_runs):,}" if min(n_runs) == max(n_runs) else f"{min(n_runs):,} to {max(n_runs):,}"
        table.caption = f"times in ms, of {between} runs{few}"
        table.caption_justify = "left"
    return table


def _gpu_memory(entry: PointResult) -> str:
    """Of this process where the driver tells it apart, else what all took on the device since before the session."""
    found = entry.device_memory
    if found is None:
        return ""
    used = found.peak_bytes - found.baseline_bytes if found.process_bytes is None else found.process_bytes
    return f"{used / 2**20:,.0f} MiB"


#: Columns of the latency table that only points on a device fill.
_DEVICE_COLUMNS: dict[str, Callable[[PointResult], str]] = {
    "GPU memory": _gpu_memory,
    "on device": lambda entry: "" if entry.binding is None else ms(entry.binding.bound_p50_ms),
    "copies": lambda entry: "" if entry.binding is None else ms(entry.binding.copies_ms),
    "CUDA graph": lambda entry: "" if entry.cuda_graph is None else ms(entry.cuda_graph.graph_p50_ms),
}


def generation_table(points: Sequence[PointResult], title: str = "") -> Table:
    """Prefill and decoding apart, a row for each point that generated text."""
    of_prompt = ("threads", "batch", "context", "first token", "p95", "prefill", "tokens/s ")
    of_tokens = ("decode", "p95 ", "tokens/s", "whole", "cache", "at the end")
    table = new_table(("provider", "left"), *((name, "right") for name in of_prompt + of_tokens), title=title)
    for entry in points:
        found, point = entry.generation, entry.point
        if found is None:
            continue
        times = found.time_to_first_token_ms, found.time_to_first_token_p95_ms, found.prefill_ms
        table.add_row(
            point.provider.removesuffix("ExecutionProvider"),
            *(str(value) for value in (point.threads, point.batch or 1, found.context)),
            *map(ms, times),
            "" if found.prefill_tokens_per_s is None else f"{found.prefill_tokens_per_s:,.0f}",
            ms(found.decode_p50_ms),
            ms(found.decode_p95_ms),
            f"{found.decode_tokens_per_s:,.1f}",
            ms(found.total_p50_ms),
            si(found.cache_bytes, "B"),
            si(found.cache_bytes_at_end, "B"),
        )
    last = next(entry.generation for entry in reversed(points) if entry.generation is not None)
    table.caption = f"times in ms; {last.new_tokens} tokens behind each prompt, the most probable ones"
    table.caption_justify = "left"
    return table


def device_lines(point: PointResult, top: int) -> list[str]:
    """Copies to and from the device, replays, memory and energy, and what was left to the CPU, node by node."""
    lines = []
    found, left = point.binding, point.left_to_cpu
    if found is not None:
        ratio = f"{found.ratio:.3f} times, {found.low:.3f} to {found.high:.3f}, {found.n_pairs:,} runs of each"
        lines.append(
            f"{point.point.label}: plain runs p50 {ms(found.plain_p50_ms)} ms, with inputs and outputs on the device "
            f"({found.device}) {ms(found.bound_p50_ms)} ms: {ratio}"
        )
    graph, memory = point.cuda_graph, point.device_memory
    if graph is not None:
        ratio = f"{graph.ratio:.3f} times, {graph.low:.3f} to {graph.high:.3f}, {graph.n_pairs:,} runs of each"
        lines.append(
            f"{point.point.label}: runs on the device p50 {ms(graph.bound_p50_ms)} ms, replays of a CUDA graph "
            f"{ms(graph.graph_p50_ms)} ms: {ratio}; recording took {ms(graph.capture_ms)} ms"
            f"{'' if graph.outputs_agree else '; its outputs are not those of the runs: do not trust it'}"
        )
    if memory is not None:
        own = "" if memory.process_bytes is None else f", {si(memory.process_bytes, 'B')} of it by this process"
        lines.append(
            f"{point.point.label}: {memory.name} ({memory.source}): {si(memory.peak_bytes, 'B')} of "
            f"{si(memory.total_bytes, 'B')} in use behind the runs{own}, {si(memory.baseline_bytes, 'B')} before"
        )
    for energy, whose in (
        (point.energy, "the whole processor, by RAPL"),
        (point.device_energy, "the whole GPU, by NVML"),
    ):
        if energy is not None:
            spent = f"{energy.mj_per_run:.3g} mJ a run, {energy.watts:.3g} W"
            lines.append(f"{point.point.label}: {spent} ({whose})")
    if left is not None:
        named = ", ".join(map(printable, left[:top])) + (f" and {len(left) - top:,} others" if len(left) > top else "")
        lines.append(f"{point.point.label}: {f'left to the CPU: {named}' if left else 'nothing was left to the CPU'}")
    return lines


def lengths_line(point: PointResult) -> str:
    """What lengths were drawn."""
    lengths = point.lengths
    assert lengths is not None
    return (
        f"{point.point.label}: {lengths.symbol} drawn from {lengths.n_in_file:,} lengths: p50 {lengths.p50:g}, "
        f"p90 {lengths.p90:g}, p95 {lengths.p95:g}, p99 {lengths.p99:g}, at most {lengths.largest}; "
        f"{si(lengths.per_s)} a second"
    )


def operators_table(profile: OperatorProfile, top: int) -> Table:
    """The operators that take longest; fused ones by what they stand for."""
    has_kernels = profile.device_ms is not None
    times = ("p50", "mean", "± std", "share") if profile.repetitions else ()
    times = ("on device", *times) if has_kernels else times
    work = ("MACs", "parameters", "bytes", "flop/B", *(("Gflop/s",) if profile.repetitions else ()), "estimate")
    names = (*times, *(name for name in work if name != "estimate" or profile.estimate_ms is not None))
    columns = (("operator", "left"), ("first node", "left"), ("output", "left"))
    table = new_table(*columns, *((name, "right") for name in names))
    longest = "device_p50_ms" if has_kernels else "p50_ms"
    ordered = sorted(profile.operators, key=lambda entry: -(getattr(entry, longest) or entry.estimate_ms or 0.0))
    for entry in ordered[:top]:
        spent_ms: float | None = getattr(entry, longest)
        cells = {
            "on device": ms(entry.device_p50_ms),
            "p50": ms(entry.p50_ms),
            "mean": ms(entry.mean_ms),
            "± std": ms(entry.std_ms),
            "share": "" if entry.share is None else f"{entry.share:.1%}",
            "MACs": "?" if entry.macs is None else si(entry.macs) if entry.macs else "",
            "parameters": si(entry.parameters) if entry.parameters else "",
            "bytes": si(entry.bytes, "B"),
            "flop/B": "" if not entry.intensity else f"{entry.intensity:.3g}",
            "Gflop/s": f"{entry.flops / spent_ms / 1e6:.3g}" if entry.flops and spent_ms else "",
            "estimate": ms(entry.estimate_ms),
        }
        first = printable(_tail(entry.covers[0] if entry.covers else entry.name))
        shape = "×".join(map(str, entry.output_shape or ()))
        table.add_row(printable(_short(entry)), first, shape, *(cells[name] for name in names))
    left = ordered[top:]
    if left:
        cells = {
            "on device": ms(_sum(left, "device_p50_ms")),
            "p50": ms(_sum(left, "p50_ms")),
            "mean": ms(_sum(left, "mean_ms")),
            "share": f"{_sum(left, 'share'):.1%}",
            "MACs": si(_sum(left, "macs")),
            "bytes": si(_sum(left, "bytes"), "B"),
            "estimate": ms(_sum(left, "estimate_ms")),
        }
        table.add_row(f"{len(left)} others", "", "", *(cells.get(name, "") for name in names), style="dim")
    return table


def operators_summary(point: PointResult) -> str:
    """Below the operators: what there is to do, and whether their times add up to the run."""
    profile = point.operators
    assert profile is not None
    lines = [f"{si(profile.macs)} MACs, {si(profile.parameters)} parameters, {si(profile.bytes, 'B')} moved"]
    if profile.coverage is not None:
        lines.append(
            f"{len(profile.operators)} operators add up to {ms(profile.operators_ms)} of {ms(profile.run_ms)} ms, "
            f"{profile.coverage:.1%} of a recorded run (means of {profile.repetitions})"
        )
    if profile.device_coverage is not None:
        lines.append(
            f"their kernels take {ms(profile.device_ms)} ms on the device, {profile.device_coverage:.1%} of a run"
        )
    if profile.estimate_ms is not None:
        lines.append(f"the roofline's estimate is {ms(profile.estimate_ms)} ms")
    if profile.unknown:
        lines.append(f"{profile.unknown} operators whose work or shapes are not known count as nothing")
    return "; ".join(lines)


def machine_line(machine: Machine) -> str:
    """The roofs."""
    threads = f"{machine.threads} thread{'s' if machine.threads > 1 else ''}"
    return (
        f"{machine.provider.removesuffix('ExecutionProvider')}, {threads}: peak {si(machine.peak_flops, 'flop/s')}, "
        f"memory {si(machine.memory_bytes_per_s, 'B/s')}, cache {si(machine.cache_bytes_per_s, 'B/s')}, "
        f"{machine.dispatch_us:.2g} µs an operator (float32, as onnxruntime reaches them)"
    )


def ratios_table(ratios: Sequence[Ratio], model: str, against: str) -> Table:
    """Both models in turn."""
    table = new_table(
        ("point", "left"),
        (f"{printable(model)} p50", "right"),
        (f"{printable(against)} p50", "right"),
        ("ratio", "right"),
        ("95 % interval", "right"),
        ("runs of each", "right"),
        title="both in one process, in turn",
    )
    for entry in ratios:
        if entry.ratio is None:
            table.add_row(entry.point.label, "failed", style="yellow")
            continue
        interval = f"{entry.low:.3f} to {entry.high:.3f}"
        times = ms(entry.model_p50_ms), ms(entry.against_p50_ms)
        table.add_row(entry.point.label, *times, f"{entry.ratio:.3f}", interval, f"{entry.n_pairs:,}")
    return table


def comparison_table(comparison: Comparison, top: int) -> Table:
    """Nodes whose outputs differ, in the order of the graph."""
    table = new_table(
        ("operator", "left"), ("value", "left"), ("shape", "left"), ("max abs", "right"), ("max rel", "right")
    )
    differing = [row for row in comparison.rows if not row["close"]]
    for row in differing[:top]:
        figures = ["" if row[key] is None else f"{row[key]:.3g}" for key in ("max_abs", "max_rel")]
        shape = "×".join(map(str, row["shape"]))
        table.add_row(printable(row["op_type"]), printable(_tail(row["value"])), shape, *figures)
    n_same = len(comparison.rows) - len(differing)
    found = (
        f"{n_same:,} of {len(comparison.rows):,} outputs are close (rtol {comparison.rtol:g}, atol {comparison.atol:g})"
    )
    first = f"; the first that is not: {printable(comparison.first_divergence)}" if comparison.first_divergence else ""
    alone = f"; {comparison.unmatched:,} are in one model only" if comparison.unmatched else ""
    table.title = found + first + alone
    table.title_style = ""
    return table


def _short(entry: Operator) -> str:
    """BatchNormalization is a long word in a chain of operators."""
    text = entry.fused.replace("BatchNormalization", "BN").replace("LayerNormalization", "LN")
    if len(text) <= 32:
        return text
    kinds = text.split("+")
    return f"{entry.op_type} ({len(kinds)} nodes)"


def _tail(name: str, width: int = 40) -> str:
    """The end of a name, where names differ."""
    name = re.sub(r"^/+", "", name)
    return name if len(name) <= width else "…" + name[1 - width :]


def ms(value: float | None) -> str:
    """A time with three digits or more."""
    if value is None:
        return ""
    return f"{value:,.3f}" if value < 10 else f"{value:,.2f}" if value < 100 else f"{value:,.1f}"


def _sum(entries: Sequence[Operator], name: str) -> float:
    return float(sum(getattr(entry, name) or 0 for entry in entries))
