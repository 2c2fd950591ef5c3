"""`onnx-ghn profile`: deployment speed of a model. Heavy imports happen inside the command."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.options import named_shape
from onnx_ghn.cli.terminal import console

if TYPE_CHECKING:
    from onnx_ghn.profiling.report import ProfileReport

__all__ = ["profile"]

_WIDTH = 180  # of tables, where they are piped
_LEVELS = ("none", "basic", "extended", "all")


def _numbers(value: str | tuple[int, ...], ranges: bool = False) -> tuple[int, ...]:
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


def _cores(value: str | tuple[int, ...]) -> tuple[int, ...]:
    """Numbers from 0 and ranges of them, such as `0,2-3`."""
    return _numbers(value, ranges=True)


def _words(value: str | tuple[str, ...], choices: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Words such as `cpu,cuda`."""
    words = value if isinstance(value, tuple) else tuple(word.strip() for word in value.split(","))
    for word in words:
        if not word or (choices and word not in choices):
            raise click.BadParameter(f"{word!r}: choose of {', '.join(choices) or 'cpu, cuda, tensorrt'}")
    return words


def _levels(value: str | tuple[str, ...]) -> tuple[str, ...]:
    """Levels of optimisation, such as `basic,all`."""
    return _words(value, _LEVELS)


@click.command(cls=Command, short_help="Measure speed, memory and operators of MODEL.")
@click.argument("model")
@click.option("--batch", type=_numbers, default=(), metavar="N,…", help="Batch sizes; as the file says unless told.")
@click.option("--threads", type=_numbers, default=(), metavar="N,…", help="Within an operator; all cores unless told.")
@click.option("--inter-threads", type=_numbers, default="1", metavar="N,…", help="Between operators (default 1).")
@click.option(
    "--streams", type=_numbers, default="1", metavar="N,…", help="Concurrent runs of the session (default 1)."
)
@click.option("--provider", type=_words, default="cpu", metavar="NAME,…", help="cpu, cuda, tensorrt, … (default cpu).")
@click.option(
    "--optimization",
    type=_levels,
    default="all",
    metavar="LEVEL,…",
    help="none, basic, extended, all (default).",
)
@click.option(
    "--shape", "shapes", type=named_shape, multiple=True, metavar="[INPUT:]DIMS", help="Such as x:1x3x224x224."
)
@click.option("--inputs", metavar="FILE", help="An .npz file with an array for each input, or .npy for one.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of random inputs.")
@click.option("--warmup", type=click.IntRange(min=0), default=5, show_default=True, help="Runs that are not measured.")
@click.option("--seconds", type=float, help="Measure for so long (3 s where --iterations is not given either).")
@click.option("--iterations", type=click.IntRange(min=1), help="Measure so many runs.")
@click.option(
    "--timeout", type=float, default=600.0, show_default=True, help="Seconds after which a point is given up."
)
@click.option("--pin", type=_cores, default=(), metavar="CORES", help="Run on these cores: 0,1 or 0-3.")
@click.option("--custom-op-library", multiple=True, metavar="FILE", help="A shared library of custom operators.")
@click.option("--no-operators", is_flag=True, help="Measure the whole model only: no operators, no roofline.")
@click.option("--estimate", is_flag=True, help="Run nothing: estimate from the graph and the machine's peak.")
@click.option("--against", metavar="MODEL", help="Measure another model beside it, their runs in turn.")
@click.option("--compare-outputs", is_flag=True, help="With --against: the outputs of all operators.")
@click.option("--top", type=click.IntRange(min=1), default=15, show_default=True, help="Operators that are listed.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--csv", "csv_file", metavar="FILE", help="Write a row for each point.")
@click.option("--operators-csv", metavar="FILE", help="Write a row for each operator of each point.")
@click.option("--trace", "trace_file", metavar="FILE", help="Write a Chrome trace of the recorded runs.")
@click.option("--plot", "plot_file", metavar="FILE", help="Draw latencies, operators and roofline: .svg, .png or .pdf.")
@click.option("--force", is_flag=True, help="Overwrite output files.")
def profile(model: str, **options: Any) -> None:
    """Measure how fast MODEL runs through onnxruntime: latency, throughput, memory, operators, roofline.

    Several values (--batch 1,8 --threads 1,2) make a sweep. Each point runs in a process of its own.
    """
    from onnx_ghn.errors import OptionError, RuntimeFailure
    from onnx_ghn.profiling import profile as run
    from onnx_ghn.profiling.settings import Settings

    files = {key: options.pop(key) for key in ("csv_file", "operators_csv", "trace_file", "plot_file")}
    force, as_json, top = options.pop("force"), options.pop("as_json"), options.pop("top")
    _check_files(files, force)
    measured = not options["no_operators"] and not options["estimate"]
    if files["trace_file"] and not measured:
        raise OptionError("--trace records operators: leave --no-operators and --estimate out")
    settings = Settings(
        warmup=options.pop("warmup"),
        seconds=options.pop("seconds"),
        iterations=options.pop("iterations"),
        shapes=_named(model, options.pop("shapes")),
        inputs=options.pop("inputs"),
        seed=options.pop("seed"),
        pin=options.pop("pin"),
        timeout_s=options.pop("timeout"),
        custom_op_libraries=options.pop("custom_op_library"),
        operators=not options.pop("no_operators"),
    )
    with _bar(f"profiling {os.path.basename(model)}") as progress:
        report = run(model, **options, settings=settings, trace=bool(files["trace_file"]), progress=progress)
    errors = report.errors
    if not report.interrupted and len(report.points) == 1 and report.points[0].error is not None:
        raise RuntimeFailure(f"{model}: {report.points[0].error}")
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2, allow_nan=False))
    else:
        _print(report, top)
    _write(report, files, force, as_json)
    for line in errors:
        click.echo(f"error: {line}", err=True)
    if report.interrupted:
        click.echo("interrupted: what was measured until then is above", err=True)
        sys.exit(130)
    if errors:
        sys.exit(1)


def _named(model: str, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> dict[str, tuple[int, ...]]:
    """Shapes by input; one without a name is for the only input."""
    from onnx_ghn.errors import OptionError

    found: dict[str, tuple[int, ...]] = {}
    for name, dims in shapes:
        if not name:
            from onnx_ghn.profiling.specs import model_spec

            names = [spec.name for spec in model_spec(model).inputs]
            if len(names) != 1:
                raise OptionError(f"--shape: say of which input, INPUT:DIMS; the inputs are {', '.join(names)}")
            name = names[0]
        if name in found:
            raise OptionError(f"--shape: input {name!r} has two")
        found[name] = dims
    return found


def _check_files(files: dict[str, str | None], force: bool) -> None:
    """All that could hinder writing at the end is said at the beginning."""
    from onnx_ghn.errors import OptionError
    from onnx_ghn.onnx_io import check_target

    named = [os.path.realpath(file) for file in files.values() if file is not None]
    if len(set(named)) < len(named):
        raise OptionError("two outputs have the same file; name another")
    for file in files.values():
        if file is not None:
            check_target(file, force)
    if files["plot_file"] is not None:
        from onnx_ghn.profiling.picture import check_picture

        check_picture(files["plot_file"])


def _write(report: ProfileReport, files: dict[str, str | None], force: bool, quiet: bool) -> None:
    from onnx_ghn.profiling import export

    if not any(point.error is None for point in report.points):
        return
    contents: dict[str, Callable[[], str | bytes]] = {
        "csv_file": lambda: export.points_csv(report),
        "operators_csv": lambda: export.operators_csv(report),
        "trace_file": lambda: export.trace_json(report),
        "plot_file": lambda: _picture(report, files["plot_file"] or ""),
    }
    for key, content in contents.items():
        file = files[key]
        if file is not None:
            export.write_file(file, content(), force=force)
            if not quiet:
                click.echo(f"{file}: written")


def _picture(report: ProfileReport, file: str) -> bytes:
    from onnx_ghn.profiling.picture import draw_profile

    return draw_profile(report, file)


def _print(report: ProfileReport, top: int) -> None:
    from onnx_ghn.cli import profile_tables as tables
    from onnx_ghn.errors import printable

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
            out.print(tables.latency_table(points, os.path.basename(model) if len(sides) > 1 else ""))
    notes = sorted({note for _, points in sides for point in points for note in point.notes})
    for note in {note.partition(":")[0]: note for note in reversed(notes)}.values():  # of each kind the first
        out.print(printable(note), style="dim", highlight=False)
    if report.ratios:
        out.print(tables.ratios_table(report.ratios, name, os.path.basename(report.against or "")))
    profiled = [point for point in report.points if point.operators is not None]
    if profiled:
        point = profiled[-1]
        assert point.operators is not None
        if len(profiled) > 1:
            say(f"operators of the last point ({point.point.label}); --json and --operators-csv have all")
        out.print(tables.operators_table(point.operators, top))
        say(tables.operators_summary(point))
        for machine in dict.fromkeys(entry.machine for entry in profiled if entry.machine is not None):
            say(tables.machine_line(machine))
    if report.comparison is not None:
        out.print(tables.comparison_table(report.comparison, top))


@contextlib.contextmanager
def _bar(what: str) -> Iterator[Callable[[str, int, int], None] | None]:
    """A progress bar over the points; silent where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda doing, done, total: progress.update(
            task, description=f"{what}: {doing}", completed=done, total=total
        )
