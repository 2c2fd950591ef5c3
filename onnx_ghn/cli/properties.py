"""`onnx-ghn properties`: what a model would reach and cost, before anybody has trained or run it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.checks import check_model
from onnx_ghn.cli.commands import Command, checked, speak_of_options
from onnx_ghn.cli.light_imports import import_onnx_ir
from onnx_ghn.cli.machine_options import OnMachine
from onnx_ghn.cli.terminal import console, say, spinner
from onnx_ghn.errors import GraphError, OnnxGhnError, counted, printable
from onnx_ghn.json_types import Json
from onnx_ghn.settings import setting

if TYPE_CHECKING:
    from onnx_ghn.properties import MachineReport, PropertyReport

__all__ = ["properties"]


@click.command(cls=Command, short_help="Predict accuracy, latency and memory of MODEL from its graph.")
@click.argument("model", required=False, callback=checked(check_model))
def properties(
    model: str | None,
    machine: OnMachine,
    predictor: str | None = setting(
        None, "Folder of a predictor that was fitted elsewhere (default: the bundled one).", metavar="FOLDER"
    ),
    as_json: bool = cli_options.as_json(),
) -> None:
    """Predict accuracy, noisy accuracy, latency and convergence of MODEL from its graph, without running it.

    With --calibrate-machine, measure for two minutes what operators cost on this machine; from then on, latency and
    peak memory on it are predicted too, of models of any kind. --on this-machine predicts these alone.
    """
    machine.check(model, predictor)
    import_onnx_ir()
    if machine.calibrate_machine:
        calibrations = machine.calibrate()
        if model is None:
            _print_calibrations(calibrations, as_json)
            return
    if model is None:
        raise click.UsageError("Missing argument 'MODEL'.")
    here, no_machine = _on_machine(model, machine)
    found, reason = (None, None) if machine.is_alone else _from_graph(model, predictor, machine, bool(here))
    if as_json:
        _print_json(model, found, {"no_accuracy": reason, "no_machine": no_machine}, here)
        return
    if found is not None:
        _print(model, found, is_timed=bool(here))
    if here:
        from onnx_ghn.cli.machine_tables import print_machine

        print_machine(model, here)
    if reason is not None:
        say(f"accuracy is not predicted: {reason}")
    if no_machine is not None:
        say(f"latency and memory on this machine are not predicted: {no_machine}")


def _on_machine(model: str, machine: OnMachine) -> tuple[list[MachineReport], str | None]:
    """What this machine's calibration tells; else why not, where nothing has asked for it. Raises OnnxGhnError."""
    try:
        return machine.reports(model), None
    except OnnxGhnError as error:
        if machine.is_asked:
            raise
        return [], _spoken(error)


def _from_graph(
    model: str, predictor: str | None, machine: OnMachine, is_optional: bool
) -> tuple[PropertyReport | None, str | None]:
    """What the graph tells; else why not, where there is something else to tell. Raises GraphError: there is not."""
    from onnx_ghn.properties import predict_properties

    try:
        with spinner(f"reading {model}"):
            return predict_properties(model, predictor, **machine.given_sizes(model)), None
    except GraphError as error:
        if not is_optional:
            raise
        return None, _spoken(error)


def _spoken(error: OnnxGhnError) -> str:
    """The library's message, with options in the place of its arguments."""
    return speak_of_options(str(error), click.get_current_context())


def _print_json(
    model: str, found: PropertyReport | None, reasons: dict[str, str | None], here: list[MachineReport]
) -> None:
    told: Json = {"model": model}
    if found is not None:
        told |= {**found.to_dict(), "measured": found.report.get("measured")}
    told |= {name: reason for name, reason in reasons.items() if reason is not None}
    if here:
        told["on_machine"] = [one.to_dict() for one in here]
    click.echo(json.dumps(told, indent=2, allow_nan=False))


def _print_calibrations(calibrations: list[Json], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"calibrations": calibrations}, indent=2, allow_nan=False))
        return
    from onnx_ghn.cli.machine_tables import print_calibration

    for calibration in calibrations:
        print_calibration(calibration)


def _print(model: str, found: PropertyReport, *, is_timed: bool) -> None:
    from onnx_ghn.cli.narrow import print_table
    from onnx_ghn.cli.profile_tables import si
    from onnx_ghn.cli.properties_tables import properties_table

    out = console()
    if found.values:
        print_table(out, properties_table(found))
    macs = f"{si(found.n_macs)} multiply-accumulates {'for a batch of one' if found.unlike else 'an image'}"
    out.print(f"{printable(model)}: {counted(found.n_params, 'parameter')}, {macs}", highlight=False)
    if found.unlike:
        why = f"{found.unlike}, and the predictor has seen classifiers of images alone"
        hint = "--calibrate-machine, then --on this-machine, tells latency and memory of any model"
        told = f"{why}: accuracy and convergence are not predicted"
        out.print(told if is_timed else f"{told}; {hint}", style="yellow")
        return
    told = found.report.get("measured", {})
    if "steps" in told:
        out.print(
            f"accuracies as after {told['steps']} steps of {told['batch_size']} images of {told['image_size']} × "
            f"{told['image_size']} ({told['dataset']}), from {found.report['networks']} measured networks of width "
            f"{told['channels']}",
            style="dim",
            highlight=False,
        )
    nearer = f"{found.percentile:.0f} % of those networks lie nearer to their neighbours"
    if found.far:
        why = nearer + (f"; outside their range: {', '.join(found.outside)}" if found.outside else "")
        out.print(f"far from what the predictor has seen ({why}): take the figures for guesses", style="yellow")
    else:
        out.print(f"like what the predictor has seen: {nearer}", style="dim", highlight=False)
