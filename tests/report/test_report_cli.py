"""`onnx-ghn report` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_tools import command, one_line

EXAMPLE = Path(__file__).parents[2] / "data/examples/lstm_text.onnx"


def test_a_page_and_a_line(tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    outcome = command("report", EXAMPLE, "-o", page, "--no-predict")
    assert outcome.code == 0, outcome.err
    assert outcome.out == f"{page}: 21 nodes, 41 edges, {page.stat().st_size:,} bytes\n"
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def test_json_is_what_the_page_holds(tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    outcome = command("report", EXAMPLE, "-o", page, "--no-predict", "--json")
    data = json.loads(outcome.out)
    text = page.read_text(encoding="utf-8")
    inside = text[text.index('id="data">') + len('id="data">') :]
    assert json.loads(inside[: inside.index("</script>")]) == data


def test_a_profile_on_request(tmp_path: Path) -> None:
    outcome = command(
        "report",
        EXAMPLE,
        "-o",
        tmp_path / "r.html",
        "--no-predict",
        "--profile",
        "--seconds",
        0.05,
        "--threads",
        1,
        "--json",
    )
    assert outcome.code == 0, outcome.err
    point = json.loads(outcome.out)["profile"]["points"][0]
    assert point["error"] is None
    assert point["latency"]["n_runs"] >= 1
    assert point["operators"]["kinds"]


@pytest.mark.parametrize("kind", ["exists", "absent", "damaged", "folder", "no ghn"])
def test_what_cannot_be_done_is_said_in_a_line(tmp_path: Path, kind: str) -> None:
    page, model, options = tmp_path / "r.html", EXAMPLE, ["--no-predict"]
    words = {
        "exists": "--force",
        "absent": "absent.onnx",
        "damaged": "bad.onnx",
        "folder": "directory",
        "no ghn": "nobody",
    }
    if kind == "exists":
        page.write_text("mine")
    elif kind == "absent":
        model = tmp_path / "absent.onnx"
    elif kind == "damaged":
        model = tmp_path / "bad.onnx"
        model.write_bytes(EXAMPLE.read_bytes()[:500])
    elif kind == "folder":
        page.mkdir()
    else:
        options = ["--ghn", "nobody"]
    outcome = command("report", model, "-o", page, *options)
    assert outcome.code == 1
    one_line(outcome, words[kind])
    assert outcome.out == ""
    assert {path.name for path in tmp_path.iterdir()} <= {"r.html", "bad.onnx"}
    if kind == "exists":
        assert page.read_text() == "mine"
