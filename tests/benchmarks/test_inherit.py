"""The benchmarks of inheritance: rates as the race chooses them, and what failed stands beside the means."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import inherit
import inherit_pairs
import pytest
import torch
from click.testing import CliRunner
from racing.rows import Row, read
from torch import nn

PAIR = next(pair for pair in inherit.PAIRS if pair.name == "half the depth from resnet18")
GRID = PAIR.recipient.rates


def _row(rate: float, seed: int, judged: tuple[float | None, ...], steps: int = 800, start: str = "own") -> Row:
    return Row(
        network=PAIR.name,
        kind=PAIR.recipient.kind,
        task=PAIR.recipient.task,
        suite="inherit",
        metric="top-1",
        start=start,
        rate=rate,
        seed=seed,
        steps=steps,
        optimizer="sgd",
        judged=judged,
        choosing=judged,
    )


def test_rates_beyond_the_grid_are_tried_where_its_end_is_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores rise as rates fall, down to 0.001, one step below the grid; the second seed runs at that rate alone."""
    scores = {0.0316: 10.0, 0.01: 20.0, 0.00316: 30.0, 0.001: 40.0, 0.00032: 35.0}

    def run(pair: inherit.Pair, start: str, rate: float, seed: int, steps: int, *_: object) -> Row:
        return _row(rate, seed, (scores[rate],) * 3, steps, start)

    monkeypatch.setattr(inherit, "run", run)
    monkeypatch.setattr(inherit, "donor_file", lambda *_: Path())
    out = tmp_path / "rows.jsonl"
    arguments = ["--out", str(out), "--pair", PAIR.name, "--start", "own", "--seeds", "2"]
    result = CliRunner().invoke(inherit.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    ran = [(row.rate, row.seed) for row in read(out)]
    assert ran == [(0.0316, 0), (0.01, 0), (0.00316, 0), (0.001, 0), (0.00032, 0), (0.001, 1)]
    assert "| 0.001 | 2 | **40.0 ± 0.0** |" in result.output
    CliRunner().invoke(inherit.main, arguments, catch_exceptions=False)
    assert len(read(out)) == len(ran)  # nothing is left to run


def test_half_a_squeezenet_has_half_the_channels_of_one() -> None:
    from torchvision.models import squeezenet1_1

    (half,) = [pair.recipient.build() for pair in inherit.PAIRS if "SqueezeNet 1.1 of half the width" in pair.name]
    whole = squeezenet1_1(num_classes=10)
    convolutions = [[layer for layer in net.modules() if isinstance(layer, nn.Conv2d)] for net in (half, whole)]
    assert [layer.out_channels for layer in convolutions[0]][:-1] == [
        layer.out_channels // 2 for layer in convolutions[1]
    ][:-1]
    assert half.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 10)


def test_runs_that_diverged_are_counted_beside_the_mean() -> None:
    rows = [_row(rate, 0, (1.0, 2.0, 3.0)) for rate in GRID[:1] + GRID[2:]]
    rows += [_row(GRID[1], 0, (10.0, 20.0, 60.0)), _row(GRID[1], 1, (20.0, 30.0, 80.0))]
    rows += [_row(GRID[1], 2, (90.0, None, None)), _row(GRID[1], 0, (5.0, 5.0, 5.0), steps=80)]
    (line,) = [line for line in inherit.table(rows).splitlines() if "| 800 |" in line]
    # Means of 10 and 20, of 20 and 30, of 60 and 80; deviations are 10 / √2 and 20 / √2.
    assert "| 2, 1 diverged | **15.0 ± 7.1** | **25.0 ± 7.1** | **70.0 ± 14.1** |" in line
    assert "| 80 |" not in inherit.table(rows)  # of another budget two rates are missing


def test_failed_pairs_are_in_no_mean() -> None:
    good = inherit_pairs.Result("a", "b", share=0.5, seconds=4.0, aligning_s=2.0)
    bad = inherit_pairs.Result("c", "d", failure="ValueError: broken", finite=True)
    infinite = dataclasses.replace(good, share=1.0, finite=False, aligning_s=4.0)
    told = inherit_pairs.row("nets", [good, bad, infinite, bad])
    assert told == "| nets | 4 | 2 | 75% | 1 | 3.00 | 4.00 | 4.00 |"
    assert inherit_pairs.row("nets", [bad]) == "| nets | 1 | 1 | – | – | – | – | – |"
