"""The table of other software: its rows are whole, the page shows the expected cells, and the judges can say no."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from compatibility_runs.built import Built
from compatibility_runs.cells import COLUMNS, GRADES, Cell, Result
from compatibility_runs.comparing import compare
from compatibility_runs.expectations import changes, read_expected, write_expected
from compatibility_runs.judging import judge, layout_cell, same_values, ties_cell
from compatibility_runs.rows import ENVIRONMENTS, ROWS
from compatibility_runs.tables import BEGIN, END, rewrite_page, table
from onnx import helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = ROOT / "benchmarks/compatibility_runs/expected.json"
#: What the table has to have a row for.
SOFTWARE = (
    "TorchScript", "dynamo", "optimize=False", "Keras on TensorFlow", "Keras on JAX", "Keras on PyTorch", "Flax nnx",
    "haiku", "equinox", "Paddle", "MindSpore", "nnabla", "aidge", "ndonnx", "spox", "brevitas, QCDQ", "brevitas, QONNX",
    "torch_geometric", "snnTorch", "e3nn", "skl2onnx",
    "onnxslim", "onnxsim", "onnxoptimizer", "onnxscript", "onnx-ir", "onnx-graphsurgeon", "onnxruntime offline",
    "transformers optimizer", "float16 by onnxconverter-common", "float16 by onnxruntime", "dynamic quantizer",
    "static quantizer", "version_converter",
    "onnx2torch", "onnx2pytorch", "onnx2fx", "onnx2tf", "onnxruntime-training",
    "onnxruntime", "OpenVINO, f32", "tract", "OpenCV's dnn", "onnx.reference", "ncnn", "IREE",
)  # fmt: skip


def test_every_piece_of_software_has_a_row() -> None:
    titles = [row.title for row in ROWS]
    assert [name for name in SOFTWARE if not any(name in title for title in titles)] == []
    assert len({row.key for row in ROWS}) == len(ROWS)


def test_every_environment_has_its_requirements() -> None:
    folder = ROOT / "benchmarks/requirements"
    assert {path.stem.removeprefix("compat-") for path in folder.glob("compat-*.txt")} == {
        *ENVIRONMENTS.values(),
        "core",
    }
    made = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("COMPAT :="))
    assert set(made.split()[2:]) == set(ENVIRONMENTS.values())


def test_every_row_is_expected() -> None:
    results = read_expected(EXPECTED)
    assert {(result.row, result.network) for result in results} == {(row.key, n) for row in ROWS for n in row.networks}
    for result in results:
        assert result.cells, result
        assert set(result.cells) <= set(COLUMNS)
        for cell in result.cells.values():
            assert cell.grade in GRADES
            assert cell.grade == "yes" or cell.text, result  # what is not well is said in numbers or in words
        assert result.versions or result.cells["outputs"].grade == "absent", result
        assert result.date.startswith("20"), result


def test_the_page_shows_what_is_expected() -> None:
    page = (ROOT / "docs/compatibility.md").read_text(encoding="utf-8")
    shown = page.partition(BEGIN)[2].partition(END)[0]
    assert shown.strip() == table(read_expected(EXPECTED)).strip()


def _result(**cells: Cell) -> Result:
    return Result("onnxslim", "conv", "2026-01-01", {"onnxslim": "1"}, cells)


def test_a_worse_cell_is_told() -> None:
    before = _result(outputs=Cell("yes"), found=Cell("no", "1 of 2"), loads=Cell("refused", "no trace"))
    now = _result(outputs=Cell("no", "off by 5.0%"), found=Cell("yes"), bare=Cell("yes"))
    worse, other = changes([before], [now])
    assert [line.partition(":")[0] for line in worse] == ["onnxslim, conv, outputs", "onnxslim, conv, loads"]
    assert any(line.startswith("better: onnxslim, conv, found") for line in other)
    assert any(line.startswith("new: onnxslim, conv, bare") for line in other)
    assert changes([before], [before]) == ([], [])
    assert changes([before], []) == ([], [])  # a group that was not measured


def test_grades_have_an_order() -> None:
    assert Cell("crashes").worse_than(Cell("no"))
    assert Cell("no").worse_than(Cell("refused"))
    assert not Cell("yes").worse_than(Cell("absent"))


def test_expected_cells_are_read_as_written(tmp_path: Path) -> None:
    results = [
        _result(outputs=Cell("no", "off by 5.0%")),
        dataclasses.replace(_result(found=Cell("yes")), network="lstm"),
    ]
    write_expected(tmp_path / "e.json", results)
    assert read_expected(tmp_path / "e.json") == results
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nstale text\n{END}\nafter\n")
    rewrite_page(page, results)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "stale text" not in text
    assert "| onnxslim | onnxslim 1 | 2026-01-01 | yes | no |" in text
    assert "outputs equal (conv) no: off by 5.0%" in text


def test_a_transposed_matrix_is_no_right_layout() -> None:
    matrix = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    scaled = matrix * np.array([1, 2, -3, 4], np.float32)[:, None]  # as a folded batch norm does
    assert layout_cell({"w": matrix}, [scaled[::-1]]).grade == "yes"
    assert layout_cell({"w": matrix}, [matrix.T.copy()]) == Cell("no", "0 of 1: not w")
    square = np.random.default_rng(1).standard_normal((5, 5)).astype(np.float32)
    assert layout_cell({"w": square}, [square.T.copy()]).grade == "no"


def test_a_lost_tie_is_told() -> None:
    draw = np.random.default_rng(0)
    old, new = draw.standard_normal((5, 3)), draw.standard_normal((5, 3))
    before = {"words": old, "head": old.T.copy()}
    assert ties_cell(old, before, {"words": new, "head": new.T.copy()}).grade == "yes"
    assert ties_cell(old, before, {"words": new, "head": new.T + 1}).grade == "no"
    assert ties_cell(new, before, before).grade == "no"


def test_values_are_found_under_other_names() -> None:
    w = np.arange(6.0).reshape(2, 3)
    assert same_values({"w": w}, {"other": w.T}, 1e-3).grade == "yes"
    assert same_values({"w": w}, {"other": w + 1}, 1e-3).grade == "no"


@pytest.mark.parametrize(("off", "grade"), [(0.0005, "yes"), (0.01, "no"), (np.nan, "no")])
def test_outputs_are_compared_with_the_largest_value(off: float, grade: str) -> None:
    truth = np.array([10.0, 1.0], np.float32)
    assert compare(truth + np.array([0, 10 * off]), truth).grade == grade


def test_a_file_is_judged(tmp_path: Path) -> None:
    """A linear layer whose truths are known, and the same with a wrong count and a matrix the other way round."""
    draw = np.random.default_rng(0)
    w, x = draw.standard_normal((5, 8)).astype(np.float32), draw.standard_normal((2, 8)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 5])],
        [numpy_helper.from_array(w.T.copy(), "w")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "model.onnx"
    )
    Built(None, [x], lambda: x @ w.T, 40, {"w": w}).write_truths(tmp_path)
    cells = judge(tmp_path, 1e-3)
    assert {name: cell.grade for name, cell in cells.items()} == {"outputs": "yes", "found": "yes", "layout": "yes"}
    Built(None, [x], lambda: x @ w.T + 1, 41, {"w": w.T.copy()}).write_truths(tmp_path)
    cells = judge(tmp_path, 1e-3)
    assert {name: cell.grade for name, cell in cells.items()} == {"outputs": "no", "found": "no", "layout": "no"}
    assert cells["found"].text == "40 of 41"
    assert json.loads((tmp_path / "truths.json").read_text())["n_trainable"] == 41
