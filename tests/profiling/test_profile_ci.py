"""`onnx-ghn profile` in continuous integration: exit codes, JUnit XML, a baseline of its own, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import cli_models as models
import pytest
from cli_tools import command, one_line, snapshot

from onnx_ghn.profiling.junit import junit_xml
from onnx_ghn.profiling.report import Check, PointResult, ProfileReport, Ratio
from onnx_ghn.profiling.settings import Point, Settings

WHOLE = ("--iterations", "25", "--warmup", "1", "--threads", "1", "--no-operators")


@pytest.fixture
def path(save) -> str:
    return save(models.conv_net())


def test_limits_and_their_test_cases(path, tmp_path) -> None:
    limits = ("--fail-above", "p95_ms=0", "--fail-below", "items_per_s=0", "--fail-above", "p50_ms=1e9")
    outcome = command("profile", path, *WHOLE, "--batch", "1,2", *limits, "--junit", tmp_path / "j.xml")
    assert outcome.code == 3
    assert len(outcome.lines) == 2  # one a point
    for line, batch in zip(outcome.lines, (1, 2), strict=True):
        assert line.startswith(f"failed: CPU, 1 thread, batch {batch}: p95_ms is ")
    assert outcome.out.count("passed: ") == 4
    (suite,) = ElementTree.parse(tmp_path / "j.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "2", "0")
    assert [case.get("name") for case in suite] == ["CPU, 1 thread, batch 1", "CPU, 1 thread, batch 2"]
    assert all("p95_ms is" in case.find("failure").get("message") for case in suite)
    again = command("profile", path, *WHOLE, *limits[2:], "--junit", tmp_path / "j.xml", "--force", "--json")
    assert again.code == 0, again.err
    assert [check["passed"] for check in json.loads(again.out)["checks"]] == [True, True]
    (suite,) = ElementTree.parse(tmp_path / "j.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("1", "0")


def test_a_baseline_of_its_own(path, save, tmp_path) -> None:
    outcome = command("profile", path, *WHOLE, "--json")
    file = tmp_path / "b.json"
    file.write_text(outcome.out)
    assert command("profile", path, *WHOLE, "--fail-slower-than", f"{file}:100000%").code == 0
    told = json.loads(outcome.out)
    latency = told["points"][0]["latency"]
    latency["samples_ms"] = [sample / 1000 for sample in latency["samples_ms"]]
    file.write_text(json.dumps(told))
    slower = command("profile", path, *WHOLE, "--fail-slower-than", f"{file}:5%")
    assert slower.code == 3
    assert len(slower.lines) == 1
    assert "slower than that of" in slower.lines[0]
    for options, words in (
        (("--shape", "1x3x9x9"), "ran on x 1×3×8×8 float32, this model takes x 1×3×9×9 float32"),
        (("--streams", "2"), "has no point CPU, 1 thread, 2 streams"),
        (("--junit", file, "--force"), "is the file that is read"),
    ):
        one_line(command("profile", path, *WHOLE, "--fail-slower-than", f"{file}:5%", *options), words)


def test_another_model_in_turn(path, save, tmp_path) -> None:
    other = save(models.conv_net(), "other.onnx")
    junit = ("--junit", tmp_path / "j.xml", "--force")
    outcome = command("profile", path, *WHOLE, "--against", other, "--fail-slower-than", "100000%", *junit)
    assert outcome.code == 0, outcome.err
    assert "than that of the other model, measured in turn" in outcome.out
    (suite,) = ElementTree.parse(tmp_path / "j.xml").getroot()
    assert [(case.get("classname"), case.get("name")) for case in suite] == [
        (Path(path).name, "CPU, 1 thread"),
        (Path(other).name, "CPU, 1 thread"),
        (Path(path).name, "CPU, 1 thread, both in turn"),
    ]
    told = suite[2].findtext("system-out")
    assert "than that of the other model" in told
    assert "n_pairs 25" in told
    assert float(suite[2].get("time")) > 0
    assert "other model" not in suite[0].findtext("system-out")


def test_a_slowdown_in_turn_is_a_failure_of_its_own_case() -> None:
    point = Point(threads=1)
    checks = (
        Check(point, "p50_ms at most 1", True, "p50_ms is 0.5"),
        Check(point, "slower by at most 5 %", False, "p50 is 20.0% slower", 1.2, 1.1, 1.3, "turn"),
    )
    ratio = Ratio(point, None, 40, 1.2, 1.0, 1.2, 1.1, 1.3, 2.5)
    lost = Ratio(Point(threads=2), "out of memory")
    report = ProfileReport(
        "a.onnx",
        0,
        0,
        Settings(),
        {},
        (PointResult(point),),
        "b.onnx",
        (PointResult(point),),
        (ratio, lost),
        checks=checks,
    )
    (suite,) = ElementTree.fromstring(junit_xml(report).encode())
    first, second, both, failed = suite
    assert first.find("failure") is None
    assert first.findtext("system-out") == "p50_ms is 0.5"
    assert second.find("failure") is None
    assert both.find("failure").get("message") == "p50 is 20.0% slower"
    assert both.get("time") == "2.500"
    assert both.findtext("system-out").splitlines()[0] == "ratio 1.2"
    assert failed.find("error").get("message") == "out of memory"
    assert failed.find("system-out") is None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "1", "1")


def test_a_point_that_fails_is_an_error_in_the_test_cases(path, tmp_path) -> None:
    outcome = command(
        "profile", path, *WHOLE, "--timeout", "0.001", "--seconds", "0.0001", "--junit", tmp_path / "j.xml"
    )
    one_line(outcome, "still runs after")
    (suite,) = ElementTree.parse(tmp_path / "j.xml").getroot()
    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")
    assert "still runs after" in suite.find("testcase/error").get("message")


def test_names_that_xml_cannot_hold() -> None:
    point = Point(threads=1)
    checks = (Check(point, "p50_ms at most 1", False, "a\x00b <&> \ud800"),)
    report = ProfileReport(
        "\x1bmodel.onnx", 0, 0, Settings(), {}, (PointResult(point),), checks=checks, interrupted=True
    )
    (suite,) = ElementTree.fromstring(junit_xml(report).encode())
    assert suite[0].get("classname") == "\\x1bmodel.onnx"
    assert suite[0].find("failure").get("message") == "a\\x00b <&> \\ud800"
    assert "interrupted" in suite[1].find("error").get("message")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--fail-above", "p51_ms=3"), "did you mean"),
        (("--fail-above", "p50_ms"), "must be FIGURE=NUMBER"),
        (("--fail-below", "p50_ms=nan"), "must be FIGURE=NUMBER"),
        (("--fail-above", "samples_ms=3"), "no such figure"),
        (("--fail-above", "coverage=1"), "leave --no-operators out"),
        (("--fail-above", "p50_ms=1", "--estimate"), "leave --estimate out"),
        (("--fail-slower-than", "b.json:5"), "BASELINE.json:PERCENT%"),
        (("--fail-slower-than", "b.json:-5%"), "BASELINE.json:PERCENT%"),
        (("--fail-slower-than", "b.json:inf%"), "BASELINE.json:PERCENT%"),
        (("--fail-slower-than", "absent.json:5%"), "--fail-slower-than absent.json: cannot be read"),
        (("--fail-slower-than", ".:5%"), "--fail-slower-than .: cannot be read"),
        (("--fail-slower-than", "5%"), "--against"),
        (("--junit", "j.json"), ".xml"),
        (("--junit", "/absent/j.xml"), "/absent"),
    ],
)
def test_bad_input(path, tmp_path, monkeypatch, options, words) -> None:
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    outcome = command("profile", path, *WHOLE, *options)
    one_line(outcome, words)
    assert outcome.out == ""
    assert snapshot(tmp_path) == before
