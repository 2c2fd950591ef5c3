"""Sweeps of shapes in one session, and lengths that are drawn."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graph_models import Net
from shape_models import text_net

from onnx_ghn import profile
from onnx_ghn.errors import OptionError, RuntimeFailure
from onnx_ghn.profiling import processes, together
from onnx_ghn.profiling.lengths import drawn_lengths, read_lengths
from onnx_ghn.profiling.settings import Point, Settings

FAST = Settings(warmup=1, iterations=3)
WHOLE = Settings(warmup=1, iterations=3, operators=False)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    kinds: list[str] = []
    run_job = processes.run_job

    def recorded(function: Any, *job: Any, **options: Any) -> Any:
        kinds.append(function.__name__)
        return run_job(function, *job, **options)

    monkeypatch.setattr(processes, "run_job", recorded)
    return kinds


def test_shapes_share_a_session(save, monkeypatch) -> None:
    kinds = counted(monkeypatch)
    path = save(text_net())
    report = profile(path, threads=[1], shapes={"ids": [(1, 4), (2, 16)]}, settings=FAST, trace=True)
    assert report.errors == []
    assert kinds == ["measure_machine", "measure_together"]
    assert [[info.shape for info in point.inputs] for point in report.points] == [[(1, 4)] * 2, [(2, 16)] * 2]
    assert [point.point.label for point in report.points] == ["CPU, 1 thread, ids 1×4", "CPU, 1 thread, ids 2×16"]
    # One session: created once, and its memory is that of no point.
    assert len({point.session_creation_ms for point in report.points}) == 1
    assert [point.session_shared for point in report.points] == [False, True]
    assert [point.memory for point in report.points] == [None, None]
    assert all(point.latency.first_run_ms > 0 and point.latency.n_runs == 3 for point in report.points)
    # MACs by hand: mask × vectors (length × 8), and the head (8 × 4), for each item.
    assert [point.operators.macs for point in report.points] == [4 * 8 + 32, 2 * (16 * 8 + 32)]
    assert all(point.operators.repetitions == 50 for point in report.points)
    assert {event["pid"] for event in report.trace_events} == {1, 2}
    assert report.points[1].to_dict()["shapes"] == {"ids": (2, 16)}


def test_sizes_by_symbol(save, monkeypatch) -> None:
    kinds = counted(monkeypatch)
    path = save(text_net())
    report = profile(path, batch=[2, 3], threads=[1], size=[("sequence", [5, 9])], settings=WHOLE)
    assert kinds == ["measure_together"]
    shapes = [point.inputs[1].shape for point in report.points]
    assert shapes == [(2, 5), (2, 9), (3, 5), (3, 9)]
    apart = profile(path, threads=[1], size=[("sequence", [5, 9])], one_session=False, settings=WHOLE)
    assert kinds[1:] == ["measure_point", "measure_point"]
    assert all(point.memory.peak_bytes > 0 and not point.session_shared for point in apart.points)
    assert [point.inputs[0].shape for point in apart.points] == [(1, 5), (1, 9)]


def fussy() -> onnx.ModelProto:
    """Takes a length of 4 and of 8 only: it is seen as pieces of four, and no more than two fit."""
    net = Net()
    x = net.op("Reshape", net.input("batch", "length"), net.number([0, -1, 4], np.int64))
    return net.model(net.op("MatMul", net.weight(1, 3, 2, array=np.ones((1, 3, 2), np.float32)), x))


def test_a_shape_that_fails_leaves_the_others(save) -> None:
    report = profile(save(fussy()), threads=[1], size=[("length", [8, 9, 12, 8])], settings=FAST)
    assert [point.error is None for point in report.points] == [True, False, False]
    assert "length 9: onnxruntime cannot run the model" in report.errors[0]
    assert report.points[0].operators.repetitions == 50


def test_a_crash_leaves_what_came_before_and_after(save, monkeypatch) -> None:
    """The process dies at its second point, each time that it gets there."""
    run_job = processes.run_job
    calls: list[int] = []

    def dying(function: Any, arguments: Any, *rest: Any, **options: Any) -> Any:
        path, specs, points, *others, kept = arguments
        calls.append(len(points))
        dies = len(points) == 3
        run_job(function, (path, specs, points[:1] if dies else points, *others, kept), *rest, **options)
        if dies:
            raise RuntimeFailure("onnxruntime crashed (SIGSEGV)")

    monkeypatch.setattr(processes, "run_job", dying)
    report = profile(save(text_net()), threads=[1], size=[("sequence", [4, 5, 6])], settings=WHOLE)
    assert [point.error for point in report.points] == [None, "onnxruntime crashed (SIGSEGV)", None]
    assert calls == [3, 1]
    assert [dict(point.point.sizes)["sequence"] for point in report.points] == [4, 5, 6]


def test_an_interruption_leaves_what_came_before(save, monkeypatch) -> None:
    run_job = processes.run_job

    def interrupted(function: Any, arguments: Any, *rest: Any, **options: Any) -> Any:
        path, specs, points, *others = arguments
        run_job(function, (path, specs, points[:1], *others), *rest, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "run_job", interrupted)
    report = profile(save(text_net()), threads=[1], size=[("sequence", [4, 5, 6])], settings=WHOLE)
    assert report.interrupted
    assert [point.inputs[0].shape for point in report.points] == [(1, 4)]


def test_a_record_that_was_cut_off_counts_as_not_reached(tmp_path) -> None:
    file = tmp_path / "kept"
    whole = pickle.dumps((0, "first"))
    file.write_bytes(whole + pickle.dumps((1, "second" * 100))[:-20])
    assert together.kept_points(os.fspath(file), 2) == ["first", None]
    assert together.kept_points(os.fspath(tmp_path / "absent"), 2) == [None, None]


def test_another_model_beside(save) -> None:
    path, other = save(text_net()), save(text_net(width=16), "b.onnx")
    report = profile(path, against=other, threads=[1], size=[("sequence", [4, 6])], settings=WHOLE)
    assert report.errors == []
    assert [len(points) for _, points in report.sides] == [2, 2]
    assert [dict(ratio.point.sizes)["sequence"] for ratio in report.ratios] == [4, 6]


def test_lengths_are_drawn(save, tmp_path) -> None:
    file = tmp_path / "lengths.txt"
    file.write_text("3\n\n5\n 9 \n5\n")
    settings = Settings(warmup=2, iterations=8, lengths=("", os.fspath(file)))
    report = profile(save(text_net()), batch=[2], threads=[1], settings=settings)
    (point,) = report.points
    lengths = point.lengths
    # Eight runs are two rounds of the four lengths, whatever the order: 3, 5, 5, 9.
    assert (lengths.symbol, lengths.n_in_file, lengths.n_drawn, lengths.largest) == ("sequence", 4, 4, 9)
    assert lengths.mean == pytest.approx(5.5)
    assert lengths.p50 == 5
    assert lengths.p90 == pytest.approx(np.percentile([3, 3, 5, 5, 5, 5, 9, 9], 90))
    assert [(one["length"], one["n_runs"]) for one in lengths.by_length] == [(3, 2), (5, 4), (9, 2)]
    assert all(one["p50_ms"] > 0 and one["first_run_ms"] > 0 for one in lengths.by_length)
    assert lengths.per_s == pytest.approx(2 * 44 / point.latency.wall_s)
    # What is done once is done at the median.
    assert point.inputs[0].shape == (2, 5)
    assert point.operators.macs == 2 * (5 * 8 + 32)
    assert "operators are those of sequence 5" in point.notes[-1]


def test_a_round_of_many_lengths(tmp_path) -> None:
    file = tmp_path / "lengths.txt"
    file.write_text("\n".join(map(str, range(1, 1001))))
    drawn = drawn_lengths(read_lengths(file), 3)
    assert len(set(drawn.tolist())) == 256
    np.testing.assert_array_equal(drawn, drawn_lengths(read_lengths(file), 3))
    assert (drawn != drawn_lengths(read_lengths(file), 4)).any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": [("words", [3])]}, "no input has that symbol"),
        ({"size": [("sequence", [3]), ("sequence", [4])]}, "two lists of sizes"),
        ({"size": [("sequence", [])]}, "has no sizes"),
        ({"shapes": {"ids": [(1, 2), (1, 3)], "mask": [(1, 2), (1, 3), (1, 4)]}}, "give each as many, or one"),
        ({"shapes": {"ids": [(1, 2), (1, 0)]}}, "must hold numbers from 1"),
    ],
)
def test_bad_options(save, options, words) -> None:
    with pytest.raises(OptionError, match=words):
        profile(save(text_net()), threads=[1], settings=WHOLE, **options)
    with pytest.raises(OptionError, match="must be 0 or more"):
        Point(sizes=(("sequence", -1),))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no numbers"),
        (b"3\nfour\n", "line 2 is 'four'"),
        (b"0\n", "line 1 is '0'"),
        (b"3 4\n", "line 1 is '3 4'"),
        (b"\xff\xfe\n", "is no text"),
        (b"9999999999\n", "line 1"),
    ],
)
def test_bad_files_of_lengths(save, tmp_path: Path, content, words) -> None:
    file = tmp_path / "lengths.txt"
    file.write_bytes(content)
    with pytest.raises(OptionError, match=words):
        profile(save(text_net()), threads=[1], settings=Settings(iterations=3, lengths=("", os.fspath(file))))
