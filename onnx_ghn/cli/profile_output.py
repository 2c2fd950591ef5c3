"""What `onnx-ghn profile` prints and writes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from onnx_ghn.cli.checks import check_output
from onnx_ghn.cli.terminal import console, tell
from onnx_ghn.errors import OptionError, printable
from onnx_ghn.settings import Settings, setting

if TYPE_CHECKING:
    from onnx_ghn.profiling import ProfileReport
    from onnx_ghn.training.precision_profile import PrecisionRow

__all__ = ["Files", "print_precisions", "print_profile"]

_WIDTH = 180  # of tables, where they are piped


@dataclasses.dataclass(frozen=True, kw_only=True)
class Files(Settings):
    """The files that a profile may be written to; None: not that one."""

    csv_file: str | None = setting(None, "Write a row for each point, to a .csv file.", option="--csv", metavar="FILE")
    operators_csv: str | None = setting(
        None, "Write a row for each operator of each point, to a .csv file.", metavar="FILE"
    )
    trace: str | None = setting(None, "Write a Chrome trace of the recorded runs, a .json file.", metavar="FILE")
    node_data: str | None = setting(
        None, "Write the operators' times for Model Explorer, a .json file of node data.", metavar="FILE"
    )
    plot: str | None = setting(
        None, "Draw latencies, operators and roofline, as an .svg, .png or .pdf file.", metavar="FILE"
    )
    junit: str | None = setting(None, "Write JUnit XML, a test case for each point, to an .xml file.", metavar="FILE")
    force: bool = setting(False, "Overwrite existing output files.")

    def check(self, inputs: Sequence[str | None]) -> None:
        """Refuse what could not be written at the end.

        Args:
            inputs: the files that are read; None: not given.

        Raises:
            OptionError: two outputs have one name.
            ModelWriteError: one cannot be written.
        """
        every = self.csv_file, self.operators_csv, self.trace, self.node_data, self.plot, self.junit
        named = [file for file in every if file is not None]
        if len({os.path.realpath(file) for file in named}) < len(named):
            raise OptionError("two outputs have the same file; name another")
        kinds = (
            (self.csv_file, (".csv",), "a table"),
            (self.operators_csv, (".csv",), "a table"),
            (self.trace, (".json",), "a trace"),
            (self.node_data, (".json",), "node data"),
            (self.plot, (".svg", ".png", ".pdf"), "a picture"),
            (self.junit, (".xml",), "JUnit XML"),
        )
        for file, endings, content in kinds:
            if file is not None:
                check_output(file, endings, content, self.force, inputs)
        if self.plot is not None:
            from onnx_ghn.profiling.picture import check_picture

            check_picture(self.plot)

    def write_junit(self, report: ProfileReport) -> None:
        """Write the test cases, where a file for them is named: also of what failed. Raises ModelWriteError."""
        if self.junit is not None:
            from onnx_ghn.onnx_io import write_file
            from onnx_ghn.profiling.junit import junit_xml

            write_file(self.junit, junit_xml(report), force=self.force)

    def write(self, report: ProfileReport, quiet: bool) -> None:
        """Write the others that are named, where anything was measured. Raises ModelWriteError."""
        from onnx_ghn.onnx_io import write_file
        from onnx_ghn.profiling import export
        from onnx_ghn.profiling.model_explorer import node_data_json

        if not any(point.error is None for point in report.points):
            return
        contents: list[tuple[str | None, Callable[[ProfileReport], str | bytes]]] = [
            (self.csv_file, export.points_csv),
            (self.operators_csv, export.operators_csv),
            (self.trace, export.trace_json),
            (self.node_data, node_data_json),
            (self.plot, self._picture),
        ]
        for file, content in contents:
            if file is not None:
                write_file(file, content(report), force=self.force)
                if not quiet:
                    tell(f"{file}: written")

    def _picture(self, report: ProfileReport) -> bytes:
        from onnx_ghn.profiling.picture import draw_profile

        return draw_profile(report, self.plot or "")


def print_precisions(rows: Sequence[PrecisionRow]) -> None:
    """Print the table of a model in several precisions."""
    from onnx_ghn.cli.narrow import print_table
    from onnx_ghn.cli.precision_table import precision_table

    print_table(console(_WIDTH), precision_table(rows))


def print_profile(report: ProfileReport, top: int) -> None:
    """Print the tables of a profile."""
    from onnx_ghn.cli import profile_tables as tables
    from onnx_ghn.cli.narrow import print_table

    out = console(_WIDTH)

    def say(text: str) -> None:
        out.print(printable(text), highlight=False)

    name = os.path.basename(report.model)
    say(f"{name}: {report.parameters:,} stored parameters, {tables.si(report.size_bytes, 'B')}")
    say(f"{report.system['processor']}, {report.system['cores']} cores, onnxruntime {report.system['onnxruntime']}")
    sides = [(report.model, report.points)]
    sides += [(report.against, report.against_points)] if report.against is not None else []
    for model, points in sides:
        if points:
            print_table(out, tables.latency_table(points, os.path.basename(model) if len(sides) > 1 else ""))
    for model, points in sides:
        if any(entry.generation is not None for entry in points):
            print_table(out, tables.generation_table(points, os.path.basename(model) if len(sides) > 1 else ""))
    for entry in (entry for _, points in sides for entry in points if entry.lengths is not None):
        say(tables.lengths_line(entry))
    for entry in (entry for _, points in sides for entry in points):
        for line in tables.device_lines(entry, top):
            say(line)
    notes = sorted({note for _, points in sides for point in points for note in point.notes})
    for note in {note.partition(":")[0]: note for note in reversed(notes)}.values():  # of each kind the first
        out.print(printable(note), style="dim", highlight=False)
    if report.ratios:
        print_table(out, tables.ratios_table(report.ratios, name, os.path.basename(report.against or "")))
    profiled = [point for point in report.points if point.operators is not None]
    if profiled:
        point = profiled[-1]
        assert point.operators is not None
        if len(profiled) > 1:
            say(f"operators of the last point ({point.point.label}); --json and --operators-csv have all")
        print_table(out, tables.operators_table(point.operators, top))
        say(tables.operators_summary(point))
        for machine in dict.fromkeys(entry.machine for entry in profiled if entry.machine is not None):
            say(tables.machine_line(machine))
    for check in report.checks:
        if check.passed:
            say(f"passed: {check.point.label}: {check.told}")
    if report.comparison is not None:
        print_table(out, tables.comparison_table(report.comparison, top))
