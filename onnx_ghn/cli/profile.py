"""`onnx-ghn profile`: deployment speed of a model."""

from __future__ import annotations

import dataclasses
import json
import os
import sys

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.checks import check_model
from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.input_shapes import GivenShapes, shapes_by_input
from onnx_ghn.cli.profile_output import Files, print_precisions, print_profile
from onnx_ghn.cli.terminal import bar, say
from onnx_ghn.errors import OptionError, RuntimeFailure
from onnx_ghn.profiling.gates import Gates
from onnx_ghn.profiling.kept_models import check_kept
from onnx_ghn.profiling.settings import Axes, Settings
from onnx_ghn.settings import setting
from onnx_ghn.training.precision_settings import Precisions

__all__ = ["profile"]


@click.command(cls=Command, short_help="Measure speed, memory and operators of MODEL.")
@cli_options.model
def profile(
    model: str,
    axes: Axes,
    settings: Settings,
    gates: Gates,
    files: Files,
    precisions: Precisions,
    shapes: GivenShapes = setting(
        (),
        "Shape of an input, such as x:1x3x224x224, or shapes to measure one after the other, such as ids:1x16,1x128; "
        "may be given several times.",
        option="--shape",
        form="named_shapes",
        metavar="[INPUT:]DIMS,…",
    ),
    top: int = setting(15, "How many operators to list.", least=1),
    as_json: bool = cli_options.as_json("everything"),
) -> None:
    """Measure how fast MODEL runs through onnxruntime: latency, throughput, memory, operators, roofline.

    Several values (--batch 1,8 --threads 1,2) make a sweep. Each point runs in a process of its own,
    but for those of several shapes (--shape ids:1x16,1x128 --size sequence=16,128), which share a session.
    With --fail-above, --fail-below or --fail-slower-than the exit code is 3 where a point does not keep to them.
    """
    if precisions.precision:
        _compare(model, axes, settings, gates, files, precisions, shapes, as_json)
        return
    lengths = None if settings.lengths is None else settings.lengths[1]
    files.check([model, axes.against, settings.inputs, gates.baseline, lengths, *settings.custom_op_libraries])
    if files.trace and (axes.estimate or not settings.operators):
        raise OptionError("--trace records operators: leave --no-operators and --estimate out")
    if files.node_data and not (settings.operators or axes.estimate):
        raise OptionError("--node-data tells of operators: leave --no-operators out")
    if axes.against is not None and not axes.estimate:
        check_model(axes.against)
    from onnx_ghn.profiling import profile as run

    settings, several = _shaped(model, settings, shapes)
    what = f"profiling {os.path.basename(model)}"
    with bar(what) as shown:
        report = run(
            model,
            settings=settings,
            shapes=several,
            trace=files.trace is not None,
            gates=gates,
            progress=lambda doing, done, total: shown.show(done, total, f"{what}: {doing}"),
            **vars(axes),
        )
    files.write_junit(report)
    if not report.interrupted and len(report.points) == 1 and report.points[0].error is not None:
        raise RuntimeFailure(f"{model}: {report.points[0].error}")
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2, allow_nan=False))
    else:
        print_profile(report, top)
    files.write(report, quiet=as_json)
    for line in report.errors:
        say(f"error: {line}")
    for line in report.failures:
        say(f"failed: {line}")
    if report.interrupted:
        say("interrupted: what was measured until then is above")
        sys.exit(130)
    if report.errors:
        sys.exit(1)
    if report.failures:
        sys.exit(3)


def _compare(
    model: str,
    axes: Axes,
    settings: Settings,
    gates: Gates,
    files: Files,
    precisions: Precisions,
    shapes: GivenShapes,
    as_json: bool,
) -> None:
    """The model in several precisions. Raises OptionError: options that have no place beside it."""
    alone: dict[str, object] = {"against": axes.against, "estimate": axes.estimate, "fail_above": gates.fail_above}
    alone |= {"fail_below": gates.fail_below, "fail_slower_than": gates.fail_slower_than}
    alone |= {
        name: getattr(files, name) for name in ("csv_file", "operators_csv", "trace", "node_data", "plot", "junit")
    }
    alone |= {"context": axes.context, "compare_outputs": axes.compare_outputs}
    for name, given in alone.items():
        if given:
            raise OptionError(f"`precision`: compares precisions and nothing else; leave `{name}` out")
    if precisions.converted is not None:  # before anything heavy is imported
        check_kept(precisions.converted, model, precisions.precision, files.force)
    from onnx_ghn.training.precision_profile import profile_precisions

    settings, several = _shaped(model, settings, shapes)
    what = f"profiling {os.path.basename(model)}"
    with bar(what) as shown:
        rows = profile_precisions(
            model,
            precisions,
            settings,
            shapes=several,
            force=files.force,
            progress=lambda doing, done, total: shown.show(done, total, f"{what}: {doing}"),
            **vars(axes),
        )
    if all(row.error is not None for row in rows):
        raise RuntimeFailure(f"{model}: {rows[0].error}")
    if as_json:
        click.echo(json.dumps({"model": model, "rows": [row.to_dict() for row in rows]}, indent=2, allow_nan=False))
    else:
        print_precisions(rows)
    failed = [row.error for row in rows if row.error is not None]
    for line in failed:
        say(f"error: {line}")
    if failed:
        sys.exit(1)


def _shaped(
    model: str, settings: Settings, shapes: GivenShapes
) -> tuple[Settings, dict[str, tuple[tuple[int, ...], ...]]]:
    """The settings with the shapes of inputs that have one, and those of inputs that have several."""
    named = shapes_by_input(model, shapes)
    single = {name: one[0] for name, one in named.items() if len(one) == 1}
    several = {name: every for name, every in named.items() if len(every) > 1}
    return dataclasses.replace(settings, shapes=single), several
