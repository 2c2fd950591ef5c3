"""Real files: those that the onnx package carries for the tests of its backends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from graph_models import decoded

from onnx_ghn.graph import Role, build_graph
from onnx_ghn.onnx_io import read_model, stored_tensors, write_model

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
LIGHT = sorted((DATA / "light").glob("light_*.onnx"))
EXAMPLES = sorted((Path(__file__).parents[2] / "data/examples").glob("*.onnx"))
FLOATS = {"FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16"}


def test_the_corpus_is_there() -> None:
    assert len(LIGHT) == 9
    assert len(EXAMPLES) >= 12


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_every_float_tensor_of_a_classic_network_is_a_parameter(path: Path) -> None:
    model = read_model(path)
    stored = stored_tensors(model)
    sizes = {}
    for name, tensor in stored.items():
        size = 1
        for dim in tensor.shape:
            size *= dim
        if tensor.dtype.name in FLOATS and size > 1:
            sizes[name] = size
    graph = build_graph(path)
    found = {p.name: p for p in graph.parameters}
    assert set(sizes) <= set(found)
    statistics = {name for name, p in found.items() if p.role is Role.statistic}
    trainable = {name: size for name, size in sizes.items() if name not in statistics}
    filled = sum(size for name, size in trainable.items() if name in decoded(graph))
    assert filled >= 0.99 * sum(trainable.values())
    assert len(graph.edges) >= len(graph) - 1


@pytest.mark.parametrize(
    ("path", "rules"),
    [
        # By one set of rules or two: the others by the slow tests.
        pytest.param(path, rules, id=f"{path.stem}-{rules}", marks=[pytest.mark.slow] if slow else [])
        for path in (*LIGHT, *EXAMPLES)
        for rules, slow in (("onnx", False), ("ppuda", path in LIGHT), ("ghn3", path.stat().st_size > 20_000))
    ],
)
def test_a_file_and_its_model_have_the_same_graph(path: Path, rules: str, tmp_path: Path) -> None:
    model = read_model(path)
    (before,) = write_model(model, tmp_path / "before.onnx", external=False)
    graph = build_graph(path, rules)
    for source in (onnx.load(path), model):
        other = build_graph(source, rules)
        assert (other.nodes, other.parameters, other.name) == (graph.nodes, graph.parameters, graph.name)
        assert other.edges.tolist() == graph.edges.tolist()
    (after,) = write_model(model, tmp_path / "after.onnx", external=False)
    assert after.read_bytes() == before.read_bytes()  # the caller's model is as it was


@pytest.mark.parametrize("rules", ["onnx", "ppuda", "ghn3"])
def test_every_file_of_the_backend_tests_has_a_graph(rules: str) -> None:
    paths = sorted(DATA.rglob("*.onnx"))
    assert len(paths) > 100
    for path in paths:
        graph = build_graph(path, rules)
        assert graph.nodes[0].primitive.name == "input"
        reasons = {p.name for p in graph.parameters if not p.reason and p.role is not Role.statistic}
        assert reasons <= decoded(graph), path


def test_reading_graphs_loads_no_torch() -> None:
    code = (
        "import sys, onnx_ghn.graph, onnx_ghn.drawing.pictures\n"
        "from onnx_ghn.graph import build_graph\n"
        f"build_graph({str(LIGHT[0])!r})\n"
        "print([m for m in ('torch', 'torchvision', 'onnxruntime', 'matplotlib') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
