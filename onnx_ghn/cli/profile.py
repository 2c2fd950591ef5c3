"""`onnx-ghn profile`: deployment speed of a model."""

from __future__ import annotations

import json
import os
import sys

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.checks import check_file, check_model
from onnx_ghn.cli.commands import Command, checked
from onnx_ghn.cli.number_lists import cores, levels, numbers, words
from onnx_ghn.cli.profile_output import Files, print_profile
from onnx_ghn.cli.terminal import bar
from onnx_ghn.errors import OptionError, RuntimeFailure

__all__ = ["profile"]


def _check_library(path: str) -> None:
    if not os.path.isfile(path):
        raise OptionError(f"custom operators: {path} is no file")


@click.command(cls=Command, short_help="Measure speed, memory and operators of MODEL.")
@cli_options.model
@click.option("--batch", type=numbers, default=(), metavar="N,…", help="Batch sizes (default: as the file says).")
@click.option(
    "--threads", type=numbers, default=(), metavar="N,…", help="Threads within an operator (default: all cores)."
)
@click.option(
    "--inter-threads", type=numbers, default="1", metavar="N,…", help="Threads between operators (default: 1)."
)
@click.option("--streams", type=numbers, default="1", metavar="N,…", help="Concurrent runs of a session (default: 1).")
@click.option(
    "--provider",
    type=words,
    default="cpu",
    metavar="NAME,…",
    help="Execution providers: cpu, cuda, tensorrt, … (default: cpu).",
)
@click.option(
    "--optimization",
    type=levels,
    default="all",
    metavar="LEVEL,…",
    help="Levels of graph optimisation: none, basic, extended, all (default: all).",
)
@click.option(
    "--shape",
    "shapes",
    type=cli_options.named_shape,
    multiple=True,
    metavar="[INPUT:]DIMS",
    help="Shape of an input, such as x:1x3x224x224; may be given several times.",
)
@click.option(
    "--inputs",
    metavar="FILE",
    callback=checked(check_file),
    help="An .npz file with an array for each input, or an .npy file for a single one.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed of generated inputs."
)
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Number of runs before the measured ones.",
)
@click.option("--seconds", type=float, help="How long to measure (default: 3 s, unless --iterations is given).")
@click.option("--iterations", type=click.IntRange(min=1), help="How many runs to measure.")
@click.option(
    "--timeout",
    "timeout_s",
    type=float,
    default=600.0,
    show_default=True,
    help="Seconds after which a point is given up.",
)
@click.option("--pin", type=cores, default=(), metavar="CORES", help="Run on these cores only, such as 0,1 or 0-3.")
@click.option(
    "--custom-op-library",
    "custom_op_libraries",
    multiple=True,
    metavar="FILE",
    callback=checked(_check_library),
    help="A shared library of custom operators; may be given several times.",
)
@click.option("--no-operators", is_flag=True, help="Measure the whole model only: no operators, no roofline.")
@click.option("--estimate", is_flag=True, help="Run nothing: estimate from the graph and the machine's peak.")
@click.option(
    "--against",
    metavar="MODEL",
    help="Measure another model, too, the runs of both in turn.",
)
@click.option("--compare-outputs", is_flag=True, help="Compare the outputs of all operators with those of --against.")
@click.option("--top", type=click.IntRange(min=1), default=15, show_default=True, help="How many operators to list.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--csv", "csv_file", metavar="FILE", help="Write a row for each point, to a .csv file.")
@click.option("--operators-csv", metavar="FILE", help="Write a row for each operator of each point, to a .csv file.")
@click.option("--trace", "trace_file", metavar="FILE", help="Write a Chrome trace of the recorded runs, a .json file.")
@click.option(
    "--plot",
    "plot_file",
    metavar="FILE",
    help="Draw latencies, operators and roofline, as an .svg, .png or .pdf file.",
)
@click.option("--force", is_flag=True, help="Overwrite existing output files.")
def profile(
    model: str,
    batch: tuple[int, ...],
    threads: tuple[int, ...],
    inter_threads: tuple[int, ...],
    streams: tuple[int, ...],
    provider: tuple[str, ...],
    optimization: tuple[str, ...],
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    inputs: str | None,
    seed: int,
    warmup: int,
    seconds: float | None,
    iterations: int | None,
    timeout_s: float,
    pin: tuple[int, ...],
    custom_op_libraries: tuple[str, ...],
    no_operators: bool,
    estimate: bool,
    against: str | None,
    compare_outputs: bool,
    top: int,
    as_json: bool,
    csv_file: str | None,
    operators_csv: str | None,
    trace_file: str | None,
    plot_file: str | None,
    force: bool,
) -> None:
    """Measure how fast MODEL runs through onnxruntime: latency, throughput, memory, operators, roofline.

    Several values (--batch 1,8 --threads 1,2) make a sweep. Each point runs in a process of its own.
    """
    files = Files(csv_file, operators_csv, trace_file, plot_file)
    files.check(force, [model, against, inputs, *custom_op_libraries])
    if trace_file and (no_operators or estimate):
        raise OptionError("--trace records operators: leave --no-operators and --estimate out")
    if against is not None and not estimate:
        check_model(against)
    from onnx_ghn.profiling import profile as run
    from onnx_ghn.profiling.settings import Settings

    settings = Settings(
        warmup=warmup,
        seconds=seconds,
        iterations=iterations,
        shapes=_named(model, shapes),
        inputs=inputs,
        seed=seed,
        pin=pin,
        timeout_s=timeout_s,
        custom_op_libraries=custom_op_libraries,
        operators=not no_operators,
    )
    what = f"profiling {os.path.basename(model)}"
    with bar(what) as shown:
        report = run(
            model,
            batch=batch,
            threads=threads,
            inter_threads=inter_threads,
            streams=streams,
            provider=provider,
            optimization=optimization,
            settings=settings,
            against=against,
            compare_outputs=compare_outputs,
            estimate=estimate,
            trace=trace_file is not None,
            progress=lambda doing, done, total: shown.show(done, total, f"{what}: {doing}"),
        )
    if not report.interrupted and len(report.points) == 1 and report.points[0].error is not None:
        raise RuntimeFailure(f"{model}: {report.points[0].error}")
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2, allow_nan=False))
    else:
        print_profile(report, top)
    files.write(report, force, quiet=as_json)
    for line in report.errors:
        click.echo(f"error: {line}", err=True)
    if report.interrupted:
        click.echo("interrupted: what was measured until then is above", err=True)
        sys.exit(130)
    if report.errors:
        sys.exit(1)


def _named(model: str, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> dict[str, tuple[int, ...]]:
    """Shapes by input; one without a name is for the only input."""
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
