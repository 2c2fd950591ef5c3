"""Latencies of a search's networks, measured on this machine: what is chosen, what is kept, what is told."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import types
from pathlib import Path

import numpy as np
import pytest
from nas_predictors import plain_predictor

from onnx_ghn.cli import main
from onnx_ghn.errors import DataError, OptionError, RuntimeFailure
from onnx_ghn.json_types import Json
from onnx_ghn.profiling.report import Ratio
from onnx_ghn.profiling.settings import Settings as Measuring
from onnx_ghn.training.nas import deployed as nas_deployed
from onnx_ghn.training.nas.deployed import LATENCIES, check_deployed, measure
from onnx_ghn.training.nas.foresight import calibrated_low_ms
from onnx_ghn.training.nas.measured_output import draw_measured
from onnx_ghn.training.nas.search import Candidates, SearchResult, random_ones, search, space_of
from onnx_ghn.training.nas.settings import Deployed, SearchConfig

N, TOP, RANDOM = 60, 4, 10


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> SearchConfig:
    saved = plain_predictor(tmp_path_factory.mktemp("p"))
    return SearchConfig(count=N, seed=5, predictor=saved, max_percentile=100.0, top=TOP)


@pytest.fixture(scope="module")
def found(config: SearchConfig) -> SearchResult:
    """Predicted latencies are right but for a factor."""
    ranking = search(config, space_of(config))
    columns = dict(ranking.good.columns)
    columns["latency_ms"] = columns["n_macs"] / 9e7
    return dataclasses.replace(ranking, good=Candidates(ranking.good.indices, columns))


class Machine:
    """Networks that take a millisecond for 20 M multiply-accumulates, on a machine that is now fast and now slow."""

    def __init__(self, found: SearchResult, monkeypatch: pytest.MonkeyPatch, broken: str = "") -> None:
        self.true_ms = {
            found.space.name(index): found.every.columns["n_macs"][place] / 2e7
            for place, index in enumerate(found.every.indices.tolist())
        }
        self.calls: list[str] = []
        self._broken = broken
        monkeypatch.setattr(nas_deployed, "export_network", lambda net, path: Path(path).write_bytes(b"a model"))

    def __call__(self, path: str, reference: str, point: object, settings: object) -> Json:
        name, other = Path(path).stem, Path(reference).stem
        self.calls.append(name)
        assert {file.stem for file in Path(path).parent.glob("*.onnx")} == {name, other}  # no other takes up space
        if name == self._broken:
            raise RuntimeFailure("onnxruntime crashed")
        drift = 1 + 0.5 * (len(self.calls) % 7)  # a machine that others use
        p50_ms = (self.true_ms[name] * drift, self.true_ms[other] * drift)
        if name == other:  # the reference alone: 1 % between processes
            noise = (0.99, 1.0, 1.01, 1.0, 1.3)[len(self.calls) - 1] if len(self.calls) <= 5 else 1.0
            p50_ms = (self.true_ms[name] * noise, self.true_ms[name] * noise)
        ratio = p50_ms[0] / p50_ms[1]
        figures = {"ratio": ratio, "low": ratio * 0.98, "high": ratio * 1.03, "n_pairs": 50}
        return figures | {"model_p50_ms": p50_ms[0], "against_p50_ms": p50_ms[1]}


def test_the_best_that_are_fast_enough_beside_random_ones(
    config: SearchConfig, found: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(found, monkeypatch)
    limit_ms = float(np.quantile(list(machine.true_ms.values()), 0.4))
    measured = measure(config, Deployed(latency_below=limit_ms), RANDOM, found, tmp_path, ratio_of=machine)
    randoms = random_ones(found, TOP, RANDOM, config.seed, "latency_below").indices.tolist()
    assert len(randoms) == RANDOM
    # The interval: 3 % above, and the reference's, whose median deviation is 1 % of which Student's t makes 2.31 %.
    spread = 2.776 * 1.2533 * 1.4826 / math.sqrt(5) * math.log(1 / 0.99)
    above = math.exp(math.hypot(math.log(1.03), spread))
    ranking = [index for index in found.good.indices.tolist() if index not in randoms]
    true_ms = [machine.true_ms[found.space.name(index)] for index in ranking]
    expected = [index for index, ms in zip(ranking, true_ms, strict=True) if ms * above < limit_ms][:TOP]
    assert measured.kept.indices.tolist() == expected
    for row in measured.rows:
        true = machine.true_ms[row["name"]]
        assert row["latency_ms"] == pytest.approx(true)
        if row["name"] != found.space.name(ranking[0]):
            assert row["high_ms"] == pytest.approx(true * above, rel=1e-3)
        assert row["predicted_low"] < row["predicted"] < row["predicted_high"]
    kinds = [row["chosen"] for row in measured.rows]
    assert (kinds.count("best"), kinds.count("random")) == (TOP, RANDOM)
    assert {row["name"] for row in measured.rows if row["chosen"] == "random"} == set(map(found.space.name, randoms))
    # Nothing is both better and faster than what is on the front.
    for row in measured.front:
        better = [other for other in measured.rows if other["predicted"] > row["predicted"]]
        assert all(other["latency_ms"] >= row["latency_ms"] for other in better)
    assert not list(tmp_path.glob("*.onnx"))


def test_far_too_slow_ones_are_not_measured(
    config: SearchConfig, found: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Predicted latencies foresee them, once their factor is known from five."""
    machine = Machine(found, monkeypatch)
    limit_ms = float(np.quantile(list(machine.true_ms.values()), 0.2))
    measured = measure(config, Deployed(latency_below=limit_ms), RANDOM, found, tmp_path, ratio_of=machine)
    assert measured.n_skipped > 0
    slow = [row["latency_ms"] for row in measured.rows if row["chosen"] == "slow"]
    assert sum(ms > 2 * limit_ms for ms in slow) <= 5


def test_a_calibration_foresees_which_are_too_slow(
    config: SearchConfig, found: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of those is measured, the choice stays the same, and what was foreseen is kept for another run."""
    machine = Machine(found, monkeypatch)
    limit_ms = float(np.quantile(list(machine.true_ms.values()), 0.4))
    asked = Deployed(latency_below=limit_ms)
    without = measure(config, asked, RANDOM, found, tmp_path / "without", ratio_of=machine)
    foreseen: list[str] = []

    def low_ms(path: str) -> float:
        assert Path(path).read_bytes() == b"a model"
        foreseen.append(Path(path).stem)
        return machine.true_ms[Path(path).stem] * 0.9

    for n_foreseen in (None, 0):
        foreseen.clear()
        measured = measure(config, asked, RANDOM, found, tmp_path / "with", ratio_of=machine, low_ms_of=low_ms)
        assert measured.kept.indices.tolist() == without.kept.indices.tolist()
        slow = {row["name"] for row in measured.rows if row["chosen"] == "slow"}
        assert all(machine.true_ms[name] * 0.9 <= limit_ms for name in slow)
        passed_over = [name for name in foreseen if machine.true_ms[name] * 0.9 > limit_ms]
        if n_foreseen is None:
            assert measured.n_skipped == len(passed_over) > 0
        else:
            assert len(foreseen) == n_foreseen

    # Where it is wrong and the others are not enough, they are measured after all.
    measured = measure(config, asked, RANDOM, found, tmp_path / "w", ratio_of=machine, low_ms_of=lambda _: 1e9)
    assert measured.kept.indices.tolist() == without.kept.indices.tolist()


def test_a_network_that_a_calibration_cannot_read_is_measured(
    config: SearchConfig, found: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def low_ms(path: str) -> float:
        raise RuntimeFailure("onnxruntime cannot load it")

    machine = Machine(found, monkeypatch)
    asked = Deployed(latency_below=1e6)
    measured = measure(config, asked, RANDOM, found, tmp_path, ratio_of=machine, low_ms_of=low_ms)
    assert (len(measured.kept), measured.n_skipped, measured.failures) == (TOP, 0, [])


def test_the_calibration_of_this_machine_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the threads and the provider of the search, for one image; none where it is calibrated otherwise."""
    asked: list[tuple[str, dict]] = []

    def predict(path: str, **options: object) -> object:
        asked.append((path, options))
        return types.SimpleNamespace(latency=types.SimpleNamespace(low=1.25))

    monkeypatch.setattr("onnx_ghn.properties.calibrated_threads", lambda provider: [2], raising=False)
    monkeypatch.setattr("onnx_ghn.properties.predict_on_machine", predict, raising=False)
    assert calibrated_low_ms("CPUExecutionProvider", 1) is None
    low_ms = calibrated_low_ms("CPUExecutionProvider", 2)
    assert low_ms is not None
    assert low_ms("a.onnx") == 1.25
    assert asked == [("a.onnx", {"batch": 1, "threads": 2, "provider": "CPUExecutionProvider"})]


def test_predictions_that_are_wrong_hide_no_fast_network(
    config: SearchConfig, found: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the others are not enough, those that were passed over are measured after all."""
    machine = Machine(found, monkeypatch)
    columns = dict(found.good.columns)
    columns["latency_ms"] = 1e12 / columns["n_macs"]  # the other way round
    wrong = dataclasses.replace(found, good=Candidates(found.good.indices, columns))
    true_ms = sorted(machine.true_ms[found.space.name(index)] for index in found.good.indices.tolist())
    measured = measure(config, Deployed(latency_below=true_ms[-5]), RANDOM, wrong, tmp_path / "a", ratio_of=machine)
    assert len(measured.kept) == TOP
    measured = measure(config, Deployed(latency_below=true_ms[20]), RANDOM, wrong, tmp_path / "b", ratio_of=machine)
    assert len(measured.kept) == TOP
    place = {index: i for i, index in enumerate(found.good.indices.tolist())}
    assert [place[index] for index in measured.kept.indices.tolist()] == sorted(
        place[index] for index in measured.kept.indices.tolist()
    )


def test_a_run_that_was_stopped_chooses_as_it_would_have(
    config: SearchConfig, found: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(found, monkeypatch)
    limit_ms = float(np.quantile(list(machine.true_ms.values()), 0.4))
    asked = Deployed(latency_below=limit_ms)
    whole = measure(config, asked, RANDOM, found, tmp_path, ratio_of=machine)
    n_calls = len(machine.calls)
    again = measure(config, asked, RANDOM, found, tmp_path, ratio_of=machine)
    assert (again.rows, again.front, len(machine.calls)) == (whole.rows, whole.front, n_calls)
    lines = (tmp_path / LATENCIES).read_bytes().splitlines(keepends=True)
    (tmp_path / LATENCIES).write_bytes(b"".join(lines[:9]) + lines[9][:20])
    resumed = measure(config, asked, RANDOM, found, tmp_path, ratio_of=machine)
    assert len(machine.calls) == n_calls + len(lines) - 9
    assert [row["name"] for row in resumed.rows] == [row["name"] for row in whole.rows]
    assert (tmp_path / LATENCIES).read_bytes().startswith(b"".join(lines[:9]))
    # Another limit needs what it has not measured, alone.
    measure(config, Deployed(latency_below=limit_ms * 1.01), RANDOM, found, tmp_path, ratio_of=machine)
    assert len(machine.calls) <= n_calls + len(lines) - 9 + 2
    with pytest.raises(DataError, match=r"other settings \(threads\)"):
        measure(config, Deployed(latency_below=limit_ms, threads=2), RANDOM, found, tmp_path, ratio_of=machine)


def test_what_cannot_be_measured_is_told_and_kept(
    config: SearchConfig, found: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranking = found.good.indices.tolist()
    randoms = random_ones(found, TOP, RANDOM, config.seed, "latency_below").indices.tolist()
    broken = found.space.name(next(index for index in ranking[1:] if index not in randoms))
    machine = Machine(found, monkeypatch, broken)
    asked = Deployed(latency_below=1e6)
    for _ in range(2):
        measured = measure(config, asked, RANDOM, found, tmp_path, ratio_of=machine)
        assert measured.failures == [f"{broken}: onnxruntime crashed"]
        assert broken not in {row["name"] for row in measured.rows}
    assert machine.calls.count(broken) == 1
    with pytest.raises(OptionError, match=r"`latency_below` 1e-06: none of the \d+ networks that were measured"):
        measure(config, Deployed(latency_below=1e-6), RANDOM, found, tmp_path, ratio_of=machine)


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_search_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], real: bool
) -> None:
    """With processes that measure, and with their figures made up."""
    saved = plain_predictor(tmp_path / "p")
    if not real:
        figures = {"ratio": 0.5, "low": 0.4, "high": 0.6, "n_pairs": 9, "model_p50_ms": 1.0, "against_p50_ms": 2.0}
        monkeypatch.setattr(nas_deployed, "_ratio", lambda *_: dict(figures))
    out = tmp_path / "nas"
    arguments = ["nas", "-n", "8", "-s", "5", "--predictor", saved, "--top", "1", "--max-percentile", "100"]
    arguments += ["--latency-below", "10000", "--measured-seconds", "0.02", "--random", "2", "-o", str(out)]
    main([*arguments, "--json"])
    first = json.loads(capsys.readouterr().out)
    assert [row["chosen"] for row in first["measured"]] == ["best", "random", "random"]
    best = first["measured"][0]
    assert best["name"] == first["best"][0]["name"]
    assert 0 < best["low_ms"] <= best["latency_ms"] <= best["high_ms"] < 10000
    with open(out / "measured.csv") as file:
        assert [row["name"] for row in csv.DictReader(file)] == [row["name"] for row in first["measured"]]
    assert (out / "measured_front.svg").read_text().startswith("<?xml")
    main([*arguments, "--force", "--json"])  # all of it is kept
    assert json.loads(capsys.readouterr().out) | {"wall_s": first["wall_s"]} == first
    main([*arguments, "--force"])
    assert "predicted accuracy and measured latency" in capsys.readouterr().out


def test_slow_networks_are_measured_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four pairs in a second: 25 take 6.25 s, and a hundred networks may not take more than fifteen each.

    A time that is longer than that already is not measured twice.
    """
    asked: list[float] = []

    def run(function: object, arguments: tuple, timeout_s: float) -> Ratio:
        settings = arguments[3]
        asked.append(settings.seconds)
        assert timeout_s > 4 * settings.seconds
        n_pairs = round(settings.seconds * pairs_per_s)
        return Ratio(arguments[2], None, n_pairs, 10.0, 5.0, 2.0, 1.9, 2.1)

    monkeypatch.setattr(nas_deployed, "run_job", run)
    monkeypatch.setattr(nas_deployed, "model_spec", lambda file: types.SimpleNamespace(inputs=()))
    point = check_deployed(Deployed(latency_below=1.0))
    for pairs_per_s, seconds in ((40, [1.0]), (4, [1.0, 6.25]), (1, [1.0, 15.0]), (0.2, [60.0])):
        asked.clear()
        found = nas_deployed._ratio("a.onnx", "b.onnx", point, Measuring(seconds=seconds[0]))
        assert asked == seconds
        assert found["n_pairs"] == round(seconds[-1] * pairs_per_s)


def test_the_picture_has_every_network(tmp_path: Path) -> None:
    rows = [
        {"name": f"search-{i}", "chosen": kind, "predicted": 30.0 + i, "predicted_low": 28.0, "predicted_high": 33.0}
        | {"latency_ms": 1.0 + i, "low_ms": 0.9, "high_ms": 1.2 + i}
        for i, kind in enumerate(("best", "random", "slow"))
    ]
    draw_measured(rows, rows[:1], "accuracy", 2.5, tmp_path / "p.svg")
    text = (tmp_path / "p.svg").read_text()
    for words in ("the limit, 2.5 ms", "random within the limits (1)", "Pareto front (1)", "95 % intervals"):
        assert words in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--latency-below", "0"), "--latency-below"),
        (("--latency-below", "nan"), "--latency-below"),
        (("--threads", "2"), "--threads: of latencies that are measured; set --latency-below"),
        (("--provider", "cuda"), "--provider: of latencies that are measured; set --latency-below"),
        (("--most-measured", "3"), "--most-measured: of latencies"),
        (("--measured-seconds", "3"), "--measured-seconds: of latencies"),
        (("--latency-below", "3", "--provider", "cudda"), "did you mean cuda"),
        (("--latency-below", "3", "--provider", "rknpu"), "is not in this build of onnxruntime"),
        (("--latency-below", "3", "--threads", "0"), "--threads"),
        (("--latency-below", "3", "--random", "7"), "6 are random ones beside the best 1, and --random asks for 7"),
    ],
)
def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], words: str) -> None:
    saved = plain_predictor(tmp_path / "p")
    given = ["nas", "-n", "7", "-s", "5", "--predictor", saved, "--top", "1", "--max-percentile", "100"]
    with pytest.raises(SystemExit) as stop:
        main([*given, "-o", str(tmp_path / "nas"), *options])
    assert stop.value.code in (1, 2)
    told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(("Usage", "Try "))]
    assert len([line for line in told if line.strip()]) == 1
    assert words in " ".join(told)
    assert not (tmp_path / "nas").exists()  # it is told before anything is measured


def test_the_point_that_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    point = check_deployed(Deployed(latency_below=1.0, threads=2, provider="cuda:1"))
    assert (point.batch, point.threads, point.provider, point.device) == (1, 2, "CUDAExecutionProvider", 1)
