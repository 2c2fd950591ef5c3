"""The script for a GPU, without one: what is measured, what is kept, its table and its exit codes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import gpu_profile
import pytest
from click.testing import CliRunner
from gpu_parts import measures, models

import onnx_ghn
from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.profiling.report import Binding, OperatorProfile, PointResult, ProfileReport
from onnx_ghn.profiling.settings import Point, Settings

TINY = models.Size(pixels=32, tokens=4, layers=1, width=64)
N_ROWS = len(models.MODELS) * 2 * len(measures.PRECISIONS) * len(gpu_profile.BY)
RECORD = {
    "p50_ms": 2.0,
    "plain_ms": 2.5,
    "graph_ms": None,
    "operators_ms": 1.8,
    "coverage": 0.9,
    "operators": "kernels",
}
RECORD |= {"gpu_bytes": 3 * 2**20, "mj_per_run": 1.25, "library_ms": 2.02}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Rows that take no time, and their names; models are not made."""
    names: list[str] = []

    def row(by: str, name: str, size: models.Size, batch: int, path: str, precision: str, *_: object) -> dict:
        names.append(f"{name} {batch} {precision} {by}")
        return dict(RECORD)

    monkeypatch.setattr(gpu_profile, "_row", row)
    monkeypatch.setattr(gpu_profile, "run_job", lambda *_, **__: None)
    return names


def run(folder: Path, *options: str) -> tuple[int, str]:
    outcome = CliRunner().invoke(gpu_profile.main, ["--dry-run", "--folder", str(folder), *options])
    return outcome.exit_code, outcome.output


def test_rows_are_kept_and_the_table_has_them(measured: list[str], tmp_path: Path) -> None:
    code, text = run(tmp_path / "rows")
    assert (code, len(measured)) == (0, N_ROWS)
    expected = (
        "| resnet50 | 1 | fp32 | 2.000 | 2.000 | 1.010 | 2.000 | 2.500 |  | 1.800 (kernels) | 90.0% | 3 MiB | 1.25 |"
    )
    assert expected in text
    assert run(tmp_path / "rows") == (0, text.partition("| model")[1] + text.partition("| model")[2])
    assert len(measured) == N_ROWS


def test_a_row_that_fails_is_told_and_tried_again(measured: list[str], tmp_path: Path, monkeypatch) -> None:
    whole = gpu_profile._row

    def broken(by: str, *given: object) -> dict:
        if by == "torch":
            raise RuntimeFailure("out of memory")
        return whole(by, *given)

    with monkeypatch.context() as patched:
        patched.setattr(gpu_profile, "_row", broken)
        code, text = run(tmp_path / "rows")
    assert code == 1
    assert "| 2.000 | 2.000 | 1.010 | failed |" in text
    measured.clear()
    code, text = run(tmp_path / "rows")
    assert (code, len(measured)) == (0, N_ROWS // 3)
    assert "failed" not in text


def test_no_row_is_begun_that_would_end_too_late(measured: list[str], tmp_path: Path) -> None:
    code, text = run(tmp_path / "rows", "--minutes", "0.3")
    assert (code, measured) == (3, [])
    assert "| bert | 2 | fp16 |  |  |" in text


def test_without_a_gpu_it_is_one_line(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("there may be a GPU")
    outcome = CliRunner().invoke(gpu_profile.main, ["--folder", str(tmp_path / "rows")])
    assert outcome.exit_code == 1
    assert outcome.output == ("Error: this onnxruntime has no CUDA provider; pip install '.[gpu]', or try --dry-run\n")
    assert not (tmp_path / "rows").exists()


def test_a_model_that_is_not_recorded_is_measured_without_a_graph(
    measured: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    report = ProfileReport("m.onnx", 1, 1, Settings(), {}, ())
    binding = Binding("cuda", 9, 2.5, 2.0, 0.5, 1.25, 1.2, 1.3)
    operators = OperatorProfile((), 5, 2.0, 1.0, 1.0, 0.5, 1.8, 0.9, 1, 2, 7, 28, 40, 3.0, 0)

    def profile(path: str, *, settings: Settings, **_: object) -> ProfileReport:
        asked.append(settings.cuda_graph)
        point = Point(provider="CUDAExecutionProvider")
        found = PointResult(point, binding=binding, operators=operators)
        if settings.cuda_graph:
            found = PointResult(point, "onnxruntime cannot record the runs as a CUDA graph: operators on the CPU")
        return dataclasses.replace(report, points=(found,))

    monkeypatch.setattr(onnx_ghn, "profile", profile)
    row = measures.by_library("m.onnx", {}, "fp32", "cuda", 0.1, 60.0)
    assert asked == [True, False]
    assert (row["p50_ms"], row["graph_ms"], row["operators_ms"], row["operators"]) == (2.0, None, 1.8, "kernels")
    monkeypatch.setattr(gpu_profile, "_row", lambda *_: row | {"library_ms": 2.0})
    code, text = run(tmp_path / "rows")
    assert code == 0
    assert "| 2.500 | no | 1.800 (kernels) |" in text
    assert "resnet50 1 fp32 onnx-ghn: onnxruntime cannot record the runs as a CUDA graph: operators on the CPU" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", models.MODELS)
def test_a_network_is_measured_three_ways(name: str, tmp_path: Path) -> None:
    """The loop, torch and the file agree in what they compute, and each gives a time."""
    pytest.importorskip("transformers")
    import numpy as np
    import onnxruntime
    import torch

    path = tmp_path / "m.onnx"
    models.write_onnx(name, TINY, path)
    given = models.inputs_of(name, TINY, 2)
    with torch.inference_mode():
        expected = models.module_of(name, TINY)(*given.values()).numpy()
    for file, tolerance in ((path, 1e-4), (path.with_suffix(".fp16.onnx"), 3e-2)):
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {key: value.numpy() for key, value in given.items()})
        np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())
    shapes = {key: tuple(value.shape) for key, value in given.items()}
    library = measures.by_library(str(path), shapes, "fp32", "cpu", 0.02, 60.0)
    assert library["p50_ms"] > 0
    assert 0 < library["coverage"] < 1.05
    assert (library["graph_ms"], library["operators"], library["gpu_bytes"]) == (None, "host", None)
    for precision in ("fp32", "fp16"):
        loop = measures.by_loop(name, TINY, 2, str(path), precision, "cpu", 0.02)
        assert 0.2 < loop["library_ms"] / loop["p50_ms"] < 5
    assert measures.by_torch(name, TINY, 2, "fp32", "cpu", 0.02)["p50_ms"] > 0
