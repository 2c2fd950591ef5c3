"""Results files go on after a stop, and refuse another run's."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnx_ghn.errors import DataError
from onnx_ghn.training.logs import RunLog
from onnx_ghn.training.results import ResultsFile
from onnx_ghn.training.trackers import Tracking


def test_goes_on_after_a_line_cut_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.jsonl"
    with ResultsFile(path, {"split": "test"}) as results:
        results.add("a", {"top1": 1.5})
        results.add("b", {"top1": 2.5})
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with ResultsFile(path, {"split": "test"}) as results:
            for name, top1 in (("a", 1.5), ("b", 2.5)):
                if name not in results.records:
                    results.add(name, {"top1": top1})
        assert path.read_bytes() == whole


def test_other_settings_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with ResultsFile(path, {"split": "test", "seed": 1}):
        pass
    with pytest.raises(DataError, match=r"other settings \(seed\)"), ResultsFile(path, {"split": "test", "seed": 2}):
        pass
    path.write_text("name,top1\n")
    with pytest.raises(DataError, match="line 1"), ResultsFile(path, {}):
        pass
    assert path.read_text() == "name,top1\n"


def test_a_log_drops_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    untracked = Tracking(tracker="none").opener({})
    with RunLog(tmp_path, 0, untracked) as log:
        for step in (10, 20, 30):
            log.write(step, {"loss": step / 7})
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 4')
    with RunLog(tmp_path, 20, untracked) as log:
        log.write(25, {"loss": 0.5})
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ['{"step": 10', '{"step": 20', '{"step": 25']


@pytest.mark.parametrize(
    "change", [{"top1": "10"}, {"top1": None}, {"top1": True}, {"top1": float("nan")}, {"top5": []}]
)
def test_records_without_their_figures_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """Means are taken of them: text in the place of a number is told where it is read."""
    path, settings, figures = tmp_path / "r.jsonl", {"n": 1}, ("top1", "top5")
    with ResultsFile(path, settings, figures) as results:
        results.add("a", {"top1": 10.0, "top5": 50})
        results.add("b", {"error": "no graph"})
    with ResultsFile(path, settings, figures) as results:
        assert results.records == {"a": {"top1": 10.0, "top5": 50}, "b": {"error": "no graph"}}
        results.add("c", {"top1": 10.0, "top5": 50, **change})
    before = path.read_bytes()
    with pytest.raises(DataError, match="line 4 is no result; name another file"), ResultsFile(path, settings, figures):
        pass
    assert path.read_bytes() == before
