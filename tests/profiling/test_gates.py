"""Limits and baselines: slowdowns against an own bootstrap and known ratios, and one line for what makes no sense."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from onnx_ghn.errors import OptionError
from onnx_ghn.profiling.baseline import ratio_of_separate_medians, read_baseline
from onnx_ghn.profiling.gates import Gates, figures, held
from onnx_ghn.profiling.report import Latency, Machine, Memory, OperatorProfile, PointResult, Ratio, TensorInfo
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.timing import Timing, summary

POINT = Point(threads=1)


def measured(samples_ms: np.ndarray, point: Point = POINT, shape: tuple[int, ...] = (2, 3)) -> PointResult:
    """A point whose runs took these times."""
    runs = (samples_ms * 1e6).astype(int).tolist()
    latency = summary(Timing(runs, sum(runs), sum(runs)), shape[0], runs[0])
    info = TensorInfo("x", "float32", shape)
    return PointResult(point, inputs=(info,), latency=latency, memory=Memory(1, 2, 300), session_creation_ms=7.0)


def baseline_file(tmp_path, *points: PointResult, processor: str = "abacus"):
    path = tmp_path / "baseline.json"
    told = {"system": {"processor": processor}, "points": [point.to_dict() for point in points]}
    path.write_text(json.dumps(told))
    return path


def drifting(rng: np.random.Generator, n: int = 400, scale: float = 10.0) -> np.ndarray:
    """Times of which neighbours resemble each other: an autoregression with a coefficient of 0.9."""
    noise = rng.normal(0, 0.02, n)
    for at in range(1, n):
        noise[at] += 0.9 * noise[at - 1]
    return scale * np.exp(noise)


def test_names_of_figures_are_those_of_the_json_output() -> None:
    told = measured(np.linspace(1, 2, 50)).to_dict()
    for name, (section, key) in figures().items():
        assert name in (key, f"{section}.{key}")
        assert section not in ("latency", "memory") or isinstance(told[section][key], int | float)
    numbers = {field.name for field in dataclasses.fields(Latency)} - {"samples_ms"}
    assert numbers == {key for section, key in figures().values() if section == "latency"}


def test_limits_hold_figures_to_numbers() -> None:
    point = measured(np.arange(1.0, 102.0))  # p50 51 ms, p95 96 ms, of 101 runs in 5151 ms on batches of two
    rate = 2 * 101 / 5.151
    gates = Gates(
        fail_above=(("p50_ms", 51.0), ("latency.p95_ms", 48.0), ("peak_bytes", 299), ("session_creation_ms", 8)),
        fail_below=(("items_per_s", rate - 1), ("items_per_s", rate + 1)),
    )
    checks = held(gates, [point, PointResult(POINT, "failed")], [], None, 0)
    assert [check.passed for check in checks] == [True, False, False, True, True, False]
    assert checks[1].told == "latency.p95_ms is 96, above the limit of 48 by 48 (100.0%)"
    assert checks[2].told == "peak_bytes is 300, above the limit of 299 by 1 (0.3%)"
    assert checks[5].value == pytest.approx(rate, rel=1e-6)
    assert "below the limit" in checks[5].told


def test_what_was_not_measured_is_not_passed() -> None:
    (check,) = held(Gates(fail_above=(("coverage", 1e9),)), [measured(np.ones(30))], [], None, 0)
    assert not check.passed
    assert "was not measured" in check.told


@pytest.mark.parametrize("missing", ["ratio", "low", "high"])
def test_a_ratio_that_is_missing_is_not_passed(missing: str) -> None:
    ratio = dataclasses.replace(Ratio(POINT, None, 50, 1.2, 1.0, 1.0, 0.9, 1.1), **{missing: None})
    (check,) = held(Gates(fail_slower_than=("", 5.0)), [], [ratio], None, 0)
    assert not check.passed
    assert "was not measured" in check.told


def test_a_baseline_that_was_not_read_is_no_other_model() -> None:
    faster = Ratio(POINT, None, 50, 1.0, 2.0, 0.5, 0.4, 0.6)
    with pytest.raises(ValueError, match=r"b\.json"):
        held(Gates(fail_slower_than=("b.json", 5.0)), [measured(np.ones(30))], [faster], None, 0)
    assert Gates(fail_slower_than=("b.json", 5.0)).baseline == "b.json"
    assert Gates(fail_slower_than=("", 5.0)).baseline is None
    assert Gates().baseline is None


def profiled(unknown: int, macs: int = 100) -> PointResult:
    """A point with operators, of which some could not be counted, and a machine whose system tells no cache."""
    operators = OperatorProfile((), 5, 1.0, 1.0, 1.0, 1.0, None, None, macs, 2 * macs, 7, 28, 40, 3.0, unknown)
    machine = Machine("CPUExecutionProvider", 1, 1e9, 1e9, 1e9, 0.5, 0)
    return dataclasses.replace(measured(np.ones(30)), operators=operators, machine=machine)


@pytest.mark.parametrize(
    ("limits", "unknown", "passed", "words"),
    [
        ({"fail_above": (("macs", 200.0),)}, 0, True, "macs is 100, at most 200"),
        ({"fail_above": (("macs", 200.0),)}, 2, False, "macs is 100 or more: work or shapes of 2 operators"),
        ({"fail_above": (("operators.bytes", 200.0),)}, 1, False, "is 40 or more: work or shapes of one operator"),
        ({"fail_above": (("estimate_ms", 9.0),)}, 1, False, "is 3 or more"),
        ({"fail_above": (("macs", 50.0),)}, 2, False, "macs is 100, above the limit of 50 by 50 (100.0%)"),
        ({"fail_below": (("macs", 50.0),)}, 2, True, "macs is 100, at least 50"),  # more makes it truer
        ({"fail_below": (("macs", 200.0),)}, 2, False, "below the limit"),
        ({"fail_above": (("parameters", 9.0),)}, 2, True, "parameters is 7"),  # stored tensors are all known
        ({"fail_above": (("last_level_cache_bytes", 9.0),)}, 0, False, "is not told by the system"),
    ],
)
def test_sums_that_lack_a_part_pass_no_upper_limit(limits, unknown, passed, words) -> None:
    (check,) = held(Gates(**limits), [profiled(unknown)], [], None, 0)
    assert check.passed == passed
    assert words in check.told


def test_the_spread_of_a_single_run_is_not_known() -> None:
    gates = Gates(fail_above=(("std_ms", 1.0),))
    assert not held(gates, [measured(np.ones(1))], [], None, 0)[0].passed
    assert held(gates, [measured(np.ones(2))], [], None, 0)[0].passed


def test_where_a_figure_comes_from_is_told(tmp_path) -> None:
    gates = Gates(fail_below=(("peak_flops", 1.0), ("machine.dispatch_us", 9.0)), fail_above=(("estimate_ms", 9.0),))
    checks = held(gates, [profiled(0)], [], None, 0)
    assert {check.source for check in checks} == {"machine"}
    assert all("measured once for all points of its threads" in check.told for check in checks)
    shared = dataclasses.replace(profiled(0), session_shared=True)
    for point, source in ((profiled(0), "point"), (shared, "session")):
        (check,) = held(Gates(fail_above=(("session_creation_ms", 9.0),)), [point], [], None, 0)
        assert check.source == source
        assert ("of the session that an earlier point opened" in check.told) == (source == "session")
    (check,) = held(Gates(fail_above=(("p50_ms", 9.0),)), [profiled(0)], [], None, 0)
    assert (check.source, "measured once" in check.told) == ("point", False)
    baseline = read_baseline(baseline_file(tmp_path, measured(np.ones(30))))
    (check,) = held(Gates(fail_slower_than=("b", 5.0)), [measured(np.ones(30))], [], baseline, 0)
    assert check.source == "baseline"
    assert f"than that of the baseline {baseline.path}" in check.told
    (check,) = held(Gates(fail_slower_than=("", 5.0)), [], [Ratio(POINT, None, 50, 1.0, 1.0, 1.0, 0.9, 1.1)], None, 0)
    assert check.source == "turn"
    assert "the other model, measured in turn" in check.told


def test_interval_of_independent_runs_against_an_own_bootstrap() -> None:
    rng = np.random.default_rng(0)
    model, baseline = 1.2 * (rng.gamma(9.0, 1.0, 400) + 5), rng.gamma(9.0, 1.0, 300) + 5
    ratio, low, high = ratio_of_separate_medians(model, baseline, seed=1)
    own = np.random.default_rng(2)
    resampled = [np.median(own.choice(side, (4000, len(side))), axis=1) for side in (model, baseline)]
    expected = np.percentile(resampled[0] / resampled[1], [2.5, 97.5])
    assert ratio == pytest.approx(np.median(model) / np.median(baseline))
    np.testing.assert_allclose((low, high), expected, rtol=0.02)
    assert ratio_of_separate_medians(model, baseline, seed=1) == (ratio, low, high)


def test_interval_covers_the_ratio_where_neighbouring_runs_resemble_each_other() -> None:
    """Of 100 pairs of equal models hardly one in ten differs; an interval of single runs is wrong for most."""
    rng = np.random.default_rng(3)
    blocks = single = 0
    for seed in range(100):
        model, baseline = drifting(rng), drifting(rng)
        _, low, high = ratio_of_separate_medians(model, baseline, seed)
        blocks += low <= 1 <= high
        sides = [np.median(rng.choice(side, (300, len(side))), axis=1) for side in (model, baseline)]
        low, high = np.percentile(sides[0] / sides[1], [2.5, 97.5])
        single += low <= 1 <= high
    assert blocks >= 85
    assert single < 70


def test_a_slowdown_counts_where_the_whole_interval_lies_above(tmp_path) -> None:
    rng = np.random.default_rng(4)
    baseline = read_baseline(baseline_file(tmp_path, measured(drifting(rng))))
    slower, same = measured(drifting(rng, scale=13.0)), measured(drifting(rng))
    for point, percent, passed in ((slower, 10.0, False), (slower, 60.0, True), (same, 10.0, True)):
        (check,) = held(Gates(fail_slower_than=("baseline.json", percent)), [point], [], baseline, 0)
        assert check.passed == passed, check
        assert check.low < check.value < check.high
    (check,) = held(Gates(fail_slower_than=("b", 10.0)), [slower], [], baseline, 0)
    assert check.value == pytest.approx(
        np.median(slower.latency.samples_ms) / np.median(baseline.entries[0].samples_ms)
    )
    assert f"{check.value - 1:.1%} slower" in check.told


def test_another_model_in_turn_gives_the_interval() -> None:
    ratios = [Ratio(POINT, None, 50, 1.2, 1.0, 1.2, low, 1.3) for low in (1.04, 1.06)]
    checks = held(Gates(fail_slower_than=("", 5.0)), [], [*ratios, Ratio(POINT, "failed")], None, 0)
    assert [check.passed for check in checks] == [True, False]
    (few,) = held(Gates(fail_slower_than=("", 5.0)), [], [Ratio(POINT, None, 3, 1, 1, 1, 1, 1)], None, 0)
    assert not few.passed
    assert "too few" in few.told


def test_points_are_found_by_their_batch_and_shapes(tmp_path) -> None:
    times = np.linspace(1, 2, 40)
    points = [measured(times, POINT, (2, 3)), measured(3 * times, POINT, (4, 3))]
    baseline = read_baseline(baseline_file(tmp_path, *points))
    shapes = [{"x": ("float32", (4, 3))}]
    baseline.check(POINT, shapes, "abacus")
    gates = Gates(fail_slower_than=("b", 0.0))
    (check,) = held(gates, [measured(3 * times, POINT, (4, 3))], [], baseline, 0)
    assert check.value == pytest.approx(1.0)
    (check,) = held(gates, [measured(times, POINT, (5, 3))], [], baseline, 0)
    assert not check.passed
    assert "x 5×3 float32" in check.told
    for point, wrong, processor, words in (
        (POINT, shapes, "slide rule", "was measured on abacus, this is slide rule"),
        (dataclasses.replace(POINT, threads=2), shapes, "abacus", "has no point CPU, 2 threads"),
        (dataclasses.replace(POINT, batch=3), shapes, "abacus", "has no point CPU, 1 thread, batch 3"),
        (dataclasses.replace(POINT, provider="CUDAExecutionProvider"), shapes, "abacus", "has no point CUDA"),
        (POINT, [{"x": ("float32", (4, 9))}], "abacus", "ran on x 2×3 float32, this model takes x 4×9 float32"),
    ):
        with pytest.raises(OptionError, match=words):
            baseline.check(point, wrong, processor)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "is not what profile --json writes"),
        ('{"points": [1]}', "is not what profile --json writes"),
        ('{"points": [{"error": null, "latency": null, "inputs": []}]}', "without latency"),
        ('{"points": [], "system": 3}', "is not what profile --json writes"),
    ],
)
def test_files_that_are_no_baseline(tmp_path, content, words) -> None:
    path = tmp_path / "b.json"
    path.write_text(content)
    with pytest.raises(OptionError, match=words):
        read_baseline(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"threads": "1"}, "is no whole number"),
        ({"threads": 0}, "must be 1 or more"),
        ({"optimization": "most"}, "choose of"),
        ({"latency": {"samples_ms": ["x"]}}, "could not convert"),
        ({"latency": {"samples_ms": [1.0, -1.0]}}, "no times"),
        ({"latency": {"samples_ms": [[1.0]]}}, "no times"),
        ({"latency": {}}, "samples_ms"),
        ({"latency": {"samples_ms": [1.0] * 19}}, "has 19 runs"),
        ({"inputs": [{"name": "x"}]}, "dtype"),
    ],
)
def test_points_that_are_none(tmp_path, change, words) -> None:
    path = baseline_file(tmp_path, measured(np.ones(30)))
    told = json.loads(path.read_text())
    told["points"][0] |= change
    path.write_text(json.dumps(told))
    with pytest.raises(OptionError, match=words):
        read_baseline(path)


@pytest.mark.parametrize(
    ("gates", "settings", "estimate", "words"),
    [
        ({"fail_above": (("p50_ms", 1.0),)}, {}, True, "`estimate`"),
        ({"fail_below": (("macs", 1.0),)}, {"operators": False}, False, "`operators`"),
        ({"fail_slower_than": ("", 1.0)}, {}, False, "`against`"),
        ({"fail_slower_than": ("b", 1.0)}, {}, True, "`estimate`"),
        ({"fail_slower_than": ("b", 1.0)}, {"iterations": 19}, False, "20 runs"),
    ],
)
def test_what_would_not_be_measured_is_refused(gates, settings, estimate, words) -> None:
    with pytest.raises(OptionError, match=words):
        Gates(**gates).check(Settings(**settings), estimate, False)
