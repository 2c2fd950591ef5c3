"""What is predicted for this machine, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onnx_ghn.cli.narrow import print_table
from onnx_ghn.cli.properties_tables import figure
from onnx_ghn.cli.tables import new_table
from onnx_ghn.cli.terminal import console
from onnx_ghn.errors import printable
from onnx_ghn.json_types import Json
from onnx_ghn.profiling.providers import short_name

if TYPE_CHECKING:
    from rich.table import Table

    from onnx_ghn.properties.machine.identity import Identity
    from onnx_ghn.properties.machine.prediction import MachineReport, MachineValue

__all__ = ["print_calibration", "print_machine"]

_N_KINDS = 5
_MEGABYTE = 1e6
_NOTED_SHARE = 0.05  # of the time, from which operators that were not measured are told


def print_machine(model: str, reports: Sequence[MachineReport]) -> None:
    """Latency and memory at each number of threads, where the time goes, and how far to trust it."""
    out = console()
    table = new_table(("", "left"), ("predicted", "right"), ("90 % interval", "right"), ("", "left"))
    for report in reports:
        threads = report.identity.threads_label
        _add_row(table, f"latency, {threads}", report.latency, 1.0, "ms", "median of runs on this machine")
        if report.peak_memory is not None:
            _add_row(
                table,
                f"peak memory, {threads}",
                report.peak_memory,
                _MEGABYTE,
                "MB",
                "of the whole process, as `profile` measures it",
            )
    print_table(out, table)
    first = reports[0]
    shapes = ", ".join(f"{name} {'×'.join(map(str, shape)) or 'scalar'}" for name, shape in first.inputs.items())
    operators = f"{first.n_nodes:,} operator{'' if first.n_nodes == 1 else 's'} as onnxruntime runs them"
    out.print(f"{printable(model)}: {operators}; {printable(shapes) or 'no inputs'}", highlight=False)
    if first.kinds:
        total = sum(kind.ms for kind in first.kinds) or 1.0
        told = ", ".join(f"{kind.kind} × {kind.count} {kind.ms / total:.0%}" for kind in first.kinds[:_N_KINDS])
        out.print(f"where the time goes: {printable(told)}".replace("%", " %"), style="dim", highlight=False)
    for report in reports:
        _print_trust(report)


def _add_row(table: Table, name: str, one: MachineValue, unit: float, unit_name: str, meaning: str) -> None:
    interval = "–" if one.low is None or one.high is None else f"{figure(one.low / unit)} – {figure(one.high / unit)}"
    table.add_row(name, f"{figure(one.value / unit)} {unit_name}", interval, meaning)


def _how_to_calibrate(identity: Identity) -> str:
    """The command that measures this machine, at the number of threads and by the provider of a prediction."""
    provider = short_name(identity.provider)
    told = "" if provider == "cpu" else f" --provider {provider}"
    return f"`onnx-ghn properties --calibrate-machine --threads {identity.threads}{told}`"


def _print_trust(report: MachineReport) -> None:
    out = console()
    if report.calibrated is None:
        out.print(
            "not calibrated: the roofline's estimate, which is often off by half; run "
            f"{_how_to_calibrate(report.identity)}",
            style="yellow",
            highlight=False,
        )
        return
    if report.is_off:
        out.print(
            f"calibrated on {printable(report.calibrated.label)}, and this is {printable(report.identity.label)}: take "
            f"the figures for guesses, or run {_how_to_calibrate(report.identity)}",
            style="yellow",
            highlight=False,
        )
    else:
        out.print(
            f"calibrated on this machine on {report.measured} with {report.n_probes} networks, which it predicts with "
            f"a mean error of {report.mape or 0.0:.0%} where they are left out".replace("%", " %"),
            style="dim",
            highlight=False,
        )
    if report.unknown_share >= _NOTED_SHARE:
        unknown = ", ".join(kind.kind for kind in report.kinds if not kind.is_known)
        told = (
            f"{report.unknown_share:.0%} of the time is that of operators that were not measured: {printable(unknown)}"
        )
        out.print(told.replace("%", " %"), style="yellow", highlight=False)
    if not report.is_sized:
        out.print(
            "some sizes depend on the values of the inputs (as behind NonZero), or on how often a body runs: the "
            "operators behind them count as small ones",
            style="yellow",
            highlight=False,
        )


def print_calibration(told: Json) -> None:
    """What a calibration is of, and how well it predicts."""
    out = console()
    out.print(f"calibrated: {printable(told['label'])}", highlight=False)
    out.print(
        f"{told['n_operators']:,} operators of {told['n_kinds']} kinds in {told['n_probes']} networks, measured in "
        f"{told['seconds']:.0f} s; left out, the networks are predicted with a mean error of {told['mape']:.0%}, nine "
        f"of ten within {told['low']:.2f} to {told['high']:.2f} times what they take".replace("%", " %"),
        highlight=False,
    )
