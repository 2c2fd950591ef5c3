"""Make a GHN's policy.json from a race, and judge it on networks that it was not fitted on.

    python benchmarks/race.py --suite small --out small.jsonl --start own --start spatial …   # the candidates
    python benchmarks/fit_policy.py small.jsonl                               # prints rules and judgement
    python benchmarks/fit_policy.py small.jsonl -o checkpoints/NAME/policy.json --judged judged.json

The networks are split into halves. The rules are fitted on the first and judged on the second; then the other way
round, so that each network is judged by rules that it had no part in, and it shows whether the same rules come out.
What is written is fitted on all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import torch
from racing.entrants import ENTRANTS
from racing.fitting import CELLS, SCALED_CELLS, Chosen, choose_for_cell, gain_by_scaling, halves, policy_of
from racing.judging import judged_table
from racing.rows import read
from racing.summary import BASELINE, Results, results
from racing.tasks import TASKS

from onnx_ghn.errors import OnnxGhnError
from onnx_ghn.exporters.pytorch import LiveModule
from onnx_ghn.exporters.roundtrip import to_model
from onnx_ghn.graph.builder import graph_of
from onnx_ghn.passes import open_model
from onnx_ghn.prediction.features import ModelFeatures, model_features

_MODES = ("auto", "early")


def features_of(name: str) -> ModelFeatures:
    """What a policy sees of a network of the race."""
    entrant = ENTRANTS[name]
    torch.manual_seed(0)
    with to_model(LiveModule(entrant.build(), TASKS[entrant.task].example())) as exported:
        opened = open_model(exported.model)
        return model_features(opened.model, graph_of(opened.model, opened.stored, "onnx"), opened.stored)


def fitted(found: Results, features: Mapping[str, ModelFeatures], names: Sequence[str]) -> dict[str, dict[str, Chosen]]:
    """By mode and cell, from these networks alone."""
    return {
        mode: {
            cell.words: choose_for_cell(mode, found, [name for name in names if cell.holds(features[name])])
            for cell in CELLS
        }
        for mode in _MODES
    }


@click.command()
@click.argument("rows", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to write the policy.")
@click.option("--knows", default="image classifiers", show_default=True, help="What the GHN was trained on.")
@click.option(
    "--judged",
    "judged_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write as JSON what each network gets by the rules of the other half.",
)
def main(rows: tuple[Path, ...], output: Path | None, knows: str, judged_file: Path | None) -> None:
    """Fit a policy on the ROWS of a race."""
    try:
        read_rows = [row for path in rows for row in read(path) if row.network in ENTRANTS]
        found = results(read_rows, {name: entrant.rates for name, entrant in ENTRANTS.items()})
        features = {name: features_of(name) for name in found}
    except OnnxGhnError as error:
        raise click.ClickException(str(error)) from error
    first, second = halves(features)
    policies = [fitted(found, features, half) for half in (first, second)]
    whole = fitted(found, features, list(features))
    by_other_half: dict[str, dict[str, str]] = {}
    for mode in _MODES:
        click.echo(_rules_table(mode, [*policies, whole]))
        judged = [(policies[0], second), (policies[1], first)]
        starts = {name: _start(mode, of, features[name]) for of, names in judged for name in names}
        by_other_half[mode] = starts
        click.echo(judged_table(f"{mode}, each half by the rules of the other", found, starts, list(starts)))
    members = [[name for name in features if cell.holds(features[name])] for cell in SCALED_CELLS]
    gains = [gain_by_scaling(found, names) for names in members]
    click.echo(_scaled_table([len(names) for names in members], gains))
    if judged_file is not None:
        judged_file.write_text(json.dumps(by_other_half, indent=1) + "\n", encoding="utf-8")
    if output is not None:
        scaled = [cell for cell, gain in zip(SCALED_CELLS, gains, strict=True) if gain is not None]
        output.write_text(json.dumps(policy_of(knows, whole, scaled), indent=1) + "\n", encoding="utf-8")
        click.echo(f"wrote {output}: fitted on {len(features)} networks")


def _start(mode: str, of: Mapping[str, Mapping[str, Chosen]], features: ModelFeatures) -> str:
    return next((of[mode][cell.words].start for cell in CELLS if cell.holds(features)), BASELINE)


def _rules_table(mode: str, policies: Sequence[Mapping[str, Mapping[str, Chosen]]]) -> str:
    lines = [
        f"### {mode}: what each kind of network gets (by how many networks)",
        "",
        "| networks | fitted on the first half | on the second half | on all |",
        "|---|---|---|---|",
    ]
    for cell in CELLS:
        told = [f"{of[mode][cell.words].start} ({of[mode][cell.words].n})" for of in policies]
        lines.append(f"| {cell.words} | {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


def _scaled_table(counts: Sequence[int], gains: Sequence[float | None]) -> str:
    lines = [
        "### One batch without labels: layers of scale 1, where it pays",
        "",
        "| networks | of them | mean gain, points |",
        "|---|---:|---:|",
    ]
    for cell, n, gain in zip(SCALED_CELLS, counts, gains, strict=True):
        lines.append(f"| {cell.words} | {n} | {'not done' if gain is None else f'{gain:+.1f}'} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
