"""A race from end to end with the tiniest network: rows, resumption, determinism, the command."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import race as command
import torch
from click.testing import CliRunner
from racing import choice, entrants, schedule
from racing.entrant import Entrant
from racing.nets.tables import perceptron
from racing.parts import Part, Splits
from racing.rows import Row, read
from racing.running import train
from racing.schedule import Settings, race
from racing.starts import STARTS

TINY = Entrant(
    "tiny", "perceptron", "table: wine", ("small",), "adamw", 8, lambda: perceptron(13, 3, (8,)), (0.01, 0.001)
)


@pytest.fixture(autouse=True)
def no_extensions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The grid alone, so that it is known what is run; test_race_choice.py has what lies beyond."""
    monkeypatch.setattr(choice, "EXTENSIONS", 0)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for module in (entrants, schedule):
        monkeypatch.setattr(module, "ENTRANTS", {"tiny": TINY})
    return Settings(tmp_path / "rows.jsonl", tmp_path)


def run(settings: Settings, *starts: str, seeds: int = 2) -> list[str]:
    told: list[str] = []
    race([TINY], starts, seeds, settings, 1, told.append)
    return told


def test_all_rates_of_seed_0_then_the_chosen_one(settings: Settings) -> None:
    run(settings, "own", "lsuv")
    rows = read(settings.out)
    assert [(row.start, row.seed) for row in rows] == [
        ("own", 0), ("own", 0), ("lsuv", 0), ("lsuv", 0), ("own", 1), ("lsuv", 1),
    ]  # fmt: skip
    for start in ("own", "lsuv"):
        ends = {row.rate: row.choosing[-1] for row in rows if row.start == start and row.seed == 0}
        (later,) = (row.rate for row in rows if row.start == start and row.seed == 1)
        assert ends[later] == max(ends.values(), key=lambda end: end or 0)
    assert all(row.marks == (2, 4, 8) and len(row.curve) == 8 and row.steps == 8 for row in rows)
    assert all(row.kind == "perceptron" and row.task == "table: wine" and row.versions["torch"] for row in rows)


def test_what_is_there_is_not_run_again(settings: Settings) -> None:
    run(settings, "own")
    content = settings.out.read_bytes()
    assert run(settings, "own") == []
    assert settings.out.read_bytes() == content
    run(settings, "own", seeds=3)
    assert [row.seed for row in read(settings.out)] == [0, 0, 1, 2]


def test_a_line_that_was_cut_off_is_run_again(settings: Settings) -> None:
    run(settings, "own")
    before = read(settings.out)
    content = settings.out.read_bytes()
    settings.out.write_bytes(content[:-20])
    assert read(settings.out) == before[:-1]
    result = CliRunner().invoke(
        command.main, ["--out", str(settings.out), "--net", "tiny", "--start", "own", "--seeds", "2"]
    )
    assert result.exit_code == 0, result.output
    assert [_figures(row) for row in read(settings.out)] == [_figures(row) for row in before]


def test_a_run_gives_the_same_numbers_twice(settings: Settings, tmp_path: Path) -> None:
    other = dataclasses.replace(settings, out=tmp_path / "again.jsonl")
    run(settings, "own", "all")
    run(other, "own", "all")
    one, two = read(settings.out), read(other.out)
    assert len(one) == 6
    assert [_figures(row) for row in one] == [_figures(row) for row in two]


def test_starts_with_the_same_weights_share_their_runs(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STARTS, "own again", STARTS["own"])
    told = run(settings, "own", "lsuv", "own again", seeds=1)
    assert told[-1].endswith("% as own")
    rows = read(settings.out)
    assert [row.same_as for row in rows] == [""] * 4 + ["own"] * 2
    figures = [dataclasses.replace(row, start="", same_as="") for row in rows]
    assert figures[4:] == figures[:2]
    other = dataclasses.replace(settings, out=settings.out.with_name("alone.jsonl"))
    run(other, "own again", seeds=1)
    assert [row.judged for row in read(other.out)] == [row.judged for row in rows[:2]]


def test_no_run_begins_after_the_time_is_up(settings: Settings) -> None:
    assert run(dataclasses.replace(settings, until=0.0), "own") == []
    assert read(settings.out) == []


def test_a_task_without_its_data_is_left_out_with_a_line(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = dataclasses.replace(TINY, task="trec")
    monkeypatch.setattr(schedule, "ENTRANTS", {"tiny": absent})
    (line,) = run(settings, "own")
    assert line.startswith("the task trec is left out: ")
    assert "text-small.zip does not exist" in line
    assert read(settings.out) == []


def test_the_part_that_is_judged_changes_nothing_of_the_training() -> None:
    def outcome(judged: Part) -> tuple[object, ...]:
        torch.manual_seed(0)
        module = TINY.build()
        parts = Splits(data(0, 40), data(1, 20), judged)
        found = train(module, TINY, parts, 0.01, 0, 8)
        return found.curve, found.chosen, found.judged, found.diverged

    def data(seed: int, n: int) -> Part:
        generator = torch.Generator().manual_seed(seed)
        return Part(torch.randn(n, 13, generator=generator), torch.randint(0, 3, (n,), generator=generator))

    one, two = outcome(data(2, 20)), outcome(data(3, 30))
    assert one[:2] == two[:2]
    assert one[2] != two[2]
    assert one[3] is False


def test_a_run_that_diverges_says_so() -> None:
    torch.manual_seed(0)
    module = TINY.build()
    inputs = torch.full((20, 13), math.inf)
    part = Part(inputs, torch.zeros(20, dtype=torch.long))
    found = train(module, TINY, Splits(part, part, part), 0.01, 0, 8)
    assert found.diverged
    assert found.judged.metric == (None, None, None)
    assert found.curve == ()


def test_the_command_prints_tables_and_draws(settings: Settings, tmp_path: Path) -> None:
    run(settings, "own", "all")
    arguments = ["--out", str(settings.out), "--net", "tiny"]
    printed = CliRunner().invoke(command.main, [*arguments, "--table"])
    assert printed.exit_code == 0, printed.output
    assert "| tiny | accuracy % |" in printed.output
    assert "| all | all | 1 |" in printed.output
    picture = tmp_path / "race.svg"
    drawn = CliRunner().invoke(command.main, [*arguments, "--plot", str(picture)])
    assert drawn.exit_code == 0, drawn.output
    content = picture.read_text("utf-8")
    assert "tiny" in content
    assert "points above own" in content
    unknown = CliRunner().invoke(command.main, ["--out", str(settings.out), "--net", "nothing"])
    assert unknown.exit_code == 2
    assert "there is no such network" in unknown.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "cuda:99"], "--device"),
        (["--device", "nothing"], "--device"),
        (["--ghn", "no-such-ghn"], "no-such-ghn"),
        (["--plot", "race.gif"], "must end in .png or .svg"),
        (["--plot", "race.png"], "there is nothing to draw yet"),
    ],
)
def test_bad_options_are_told_in_a_line(settings: Settings, arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(command.main, ["--out", str(settings.out), "--net", "tiny", *arguments])
    assert result.exit_code in (1, 2)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert words in result.output
    assert not settings.out.exists()


def test_a_file_of_something_else_stays_as_it_is(settings: Settings) -> None:
    for content in (b"weights\0 of a net", b"a line\nand a piece", b'{"network": "tiny"}\n', b"[1, 2]\n"):
        settings.out.write_bytes(content)
        result = CliRunner().invoke(command.main, ["--out", str(settings.out), "--net", "tiny"])
        assert result.exit_code == 1
        assert "line 1: not a row of a race" in result.output
        assert settings.out.read_bytes() == content


def _figures(row: Row) -> str:
    """All but how long it took."""
    return json.dumps(dataclasses.asdict(dataclasses.replace(row, seconds=0.0, cpu_seconds=0.0)))
