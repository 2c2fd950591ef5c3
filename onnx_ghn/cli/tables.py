"""Tables for people, printed by the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from rich import box
from rich.table import Table

from onnx_ghn.cli.commands import speak_of_options
from onnx_ghn.errors import printable
from onnx_ghn.json_types import JsonView

if TYPE_CHECKING:
    from rich.console import Console

    from onnx_ghn.finetuning import StartRace
    from onnx_ghn.ghn import CheckpointInfo
    from onnx_ghn.graph import ComputationGraph
    from onnx_ghn.prediction.coverage import CoverageReport
    from onnx_ghn.prediction.plan import Outcome

__all__ = [
    "accuracies_table",
    "coverage_table",
    "ghns_table",
    "new_table",
    "nodes_table",
    "origins_table",
    "parameters_table",
    "print_notes",
    "print_sentence",
    "race_table",
]

_STYLES = {
    "predicted": "green",
    "inherited": "green",
    "fallback": "yellow",
    "kept": "yellow",
    "statistic": "dim",
    "frozen": "dim",
    "constant": "dim",
}
_LISTED = 12  # reasons shown; --json has them all


def new_table(*columns: tuple[str, str], title: str = "") -> Table:
    """An empty table in the style of them all; a column is its name and how it is justified."""
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, justify in columns:
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    return table


def _statistics(coverage: CoverageReport) -> str:
    """What the statistics of a model are."""
    n_running = coverage.n_running_statistics
    kinds = ["running means and variances"] if n_running else []
    if coverage.count("statistic") > n_running:
        kinds.append("vectors that give the largest singular values of weights")
    return "; ".join(kinds)


def coverage_table(coverage: CoverageReport) -> Table:
    """Tensors and elements by outcome, and the reasons of what was not predicted."""
    table = new_table(("", "left"), ("tensors", "right"), ("elements", "right"), ("share", "right"), ("why", "left"))
    outcomes: tuple[Outcome, ...] = ("predicted", "inherited", "fallback", "kept")
    for outcome in outcomes:
        if not coverage.count(outcome) and outcome != "predicted":
            continue
        n_tensors, n_elements = f"{coverage.count(outcome):,}", f"{coverage.n_elements(outcome):,}"
        table.add_row(outcome, n_tensors, n_elements, f"{coverage.share(outcome):.2%}", "", style=_STYLES[outcome])
        reasons = [
            (reason, entries)
            for reason, found in coverage.reasons().items()
            if (entries := [entry for entry in found if entry.outcome == outcome])
        ]
        for reason, entries in reasons[:_LISTED]:
            size = sum(entry.parameter.size for entry in entries)
            example = printable(entries[0].parameter.name) + (", …" if len(entries) > 1 else "")
            table.add_row("", f"{len(entries):,}", f"{size:,}", "", f"{printable(reason)} ({example})", style="dim")
    others: tuple[tuple[Outcome, str, str], ...] = (
        ("statistic", "statistics", _statistics(coverage)),
        ("frozen", "frozen", "constants and layers that the exported model does not train"),
    )
    for outcome, name, why in others:
        if coverage.count(outcome):
            n_tensors, n_elements = f"{coverage.count(outcome):,}", f"{coverage.n_elements(outcome):,}"
            table.add_row(name, n_tensors, n_elements, "", why, style="dim")
    if doubtful := [entry.parameter for entry in coverage.uncertain]:
        size = sum(parameter.size for parameter in doubtful)
        why = f"learned or constant, nothing tells; they keep their values ({printable(doubtful[0].name)}, …)"
        table.add_row("may be learned", f"{len(doubtful):,}", f"{size:,}", "", why, style="dim")
    return table


def print_notes(out: Console, coverage: CoverageReport) -> None:
    """The notes of a coverage report, which speak of the running command's options."""
    for note in coverage.notes:
        out.print(printable(speak_of_options(note, click.get_current_context())), style="dim", highlight=False)


def print_sentence(out: Console, coverage: CoverageReport, output: str = "") -> None:
    """How many tensors are predicted, and why; after the name of the file that was written, if one was."""
    told = speak_of_options(coverage.sentence, click.get_current_context())
    out.print(printable(f"{output}: {told}" if output else told), highlight=False)


def parameters_table(coverage: CoverageReport) -> Table:
    """Every stored tensor: role, shape, type, storage, outcome."""
    table = new_table(
        *((name, "left") for name in ("parameter", "role", "shape", "type", "stored as", "")),
    )
    for entry in (*coverage.entries, *coverage.constants):
        parameter = entry.parameter
        shape = " × ".join(map(str, parameter.shape))
        outcome = entry.outcome + (f": {printable(entry.reason)}" if entry.reason else "")
        table.add_row(
            printable(parameter.name),
            parameter.role.value,
            shape,
            parameter.dtype,
            parameter.storage,
            outcome,
            style=_STYLES[entry.outcome],
        )
    return table


def nodes_table(graph: ComputationGraph) -> Table:
    """Every node: primitive, shape, name, and the nodes it reads."""
    table = new_table(("", "right"), ("primitive", "left"), ("shape", "left"), ("name", "left"), ("reads", "left"))
    before: list[list[int]] = [[] for _ in graph.nodes]
    for source, target in graph.edges.tolist():
        before[target].append(source)
    for number, node in enumerate(graph.nodes):
        shape = " × ".join(map(str, node.shape)) if node.shape else ""
        reads = ", ".join(map(str, before[number]))
        table.add_row(str(number), node.primitive.name, shape, printable(node.name), reads)
    return table


def origins_table(coverage: CoverageReport) -> Table:
    """Every inherited tensor: the donor's tensor, what was done to it, and whether that keeps outputs."""
    table = new_table(*((name, "left") for name in ("tensor", "shape", "from", "rule", "exact")))
    for entry in coverage.entries:
        origin = entry.origin
        if origin is None:
            continue
        table.add_row(
            printable(entry.parameter.name),
            " × ".join(map(str, entry.parameter.shape)),
            printable(f"{origin.tensor} of {origin.donor}" if origin.tensor else "–"),
            printable(origin.rule),
            printable(origin.doubt) or "yes",
        )
    return table


def ghns_table(found: Sequence[CheckpointInfo]) -> Table:
    """The bundled checkpoints."""
    table = new_table(("name", "left"), ("data", "left"), ("kind", "left"), ("", "left"))
    for info in found:
        table.add_row(info.name, info.config.dataset, info.config.hypernet, info.description)
    return table


def accuracies_table(rows: Sequence[JsonView], summary: JsonView) -> Table:
    """Accuracies by network in percent; below them, for several, mean, spread and best."""
    keys = [key for key in ("top1", "top5", "noisy_top1", "noisy_top5") if key in summary]
    headers = [key.replace("noisy_", "noisy ").replace("top", "top-") + " %" for key in keys]
    table = new_table(("network", "left"), *((header, "right") for header in headers), ("", "left"))
    for row in rows:
        values = [f"{row[key]:.2f}" if key in row else "" for key in keys]
        table.add_row(printable(str(row["name"])), *values, printable(str(row.get("error", ""))))
    if len(rows) > 1 and keys:
        table.add_section()
        for name in ("mean", "std", "max"):
            figures = [f"{summary[key][name]:.2f}" for key in keys]
            table.add_row(f"{name} of {summary['networks']}", *figures, "", style="bold")
    return table


def race_table(race: StartRace) -> Table:
    """Accuracy of each start after the steps of a race; the one that is written is bold."""
    title = f"after {race.steps:,} steps each, on {race.n_images:,} held-out images" if race.steps else ""
    table = new_table(
        ("start", "left"), ("predicted", "right"), ("scaled", "right"), ("top-1 %", "right"), ("", "left"), title=title
    )
    for entrant in race.entrants:
        chosen = entrant.policy == race.chosen
        name = "the author's" if entrant.policy == "none" else f"--policy {entrant.policy}"
        top1 = "" if entrant.top1 is None else f"{entrant.top1:.2f}"
        told = f"chosen, by more than {race.margin:.1f} points" if chosen and entrant.policy != "none" else ""
        told = "kept" if chosen and entrant.policy == "none" else told
        told = told or printable(entrant.failure)
        counts = f"{entrant.n_predicted:,}", f"{entrant.n_scaled:,}"
        table.add_row(name, *counts, top1, told, style="bold" if chosen else "")
    return table
