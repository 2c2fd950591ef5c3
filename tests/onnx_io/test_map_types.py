"""Values of map types: scikit-learn's classifiers as skl2onnx writes them, and maps wherever a file declares them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from io_models import info, init, model
from onnx import TensorProto, helper

import onnx_ghn
from onnx_ghn.errors import ModelReadError
from onnx_ghn.onnx_io import copy_model, read_model, write_model
from onnx_ghn.stripping import strip

KINDS = ("logistic", "perceptron", "strings")
MAPS = helper.make_sequence_type_proto(
    helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
)
OPAQUE = onnx.TypeProto()
OPAQUE.opaque_type.domain, OPAQUE.opaque_type.name = "my", "table"


def inputs(count: int = 40) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 16)).astype(np.float32)


def classifier(kind: str, path: Path) -> tuple[Any, onnx.ModelProto]:
    """A classifier trained for a few steps, and what skl2onnx writes by default."""
    pytest.importorskip("sklearn")
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    labels = np.random.default_rng(2).integers(0, 3, 40)
    live = LogisticRegression() if kind == "logistic" else MLPClassifier((32,), solver="lbfgs", max_iter=5)
    live.fit(inputs(), np.array(["cat", "dog", "emu"])[labels] if kind == "strings" else labels + 4)
    proto = skl2onnx.to_onnx(live, inputs(1))
    onnx.save(proto, path)
    return live, proto


def run(path: Path) -> list[dict[Any, float]]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    maps: list[dict[Any, float]] = session.run(None, {"X": inputs()})[1]
    return maps


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_classifier_is_read_and_written_with_its_maps(kind: str, tmp_path: Path) -> None:
    live, proto = classifier(kind, tmp_path / "model.onnx")
    read = read_model(tmp_path / "model.onnx")
    write_model(copy_model(read), tmp_path / "written.onnx")
    write_model(read, tmp_path / "again.onnx")  # the model is left as it was
    strip(tmp_path / "model.onnx", tmp_path / "stripped.onnx")
    for name in ("written", "again", "stripped"):
        written = onnx.load(tmp_path / f"{name}.onnx")
        onnx.checker.check_model(written)
        assert list(written.graph.output) == list(proto.graph.output)
        if name == "stripped":  # which leaves the weights out
            assert [list(row) for row in run(tmp_path / "stripped.onnx")] == [list(live.classes_)] * 40
            continue
        found = run(tmp_path / f"{name}.onnx")
        assert [list(row) for row in found] == [list(live.classes_)] * 40
        probabilities = np.array([list(row.values()) for row in found])  # (N, classes)
        np.testing.assert_allclose(probabilities, live.predict_proba(inputs()), atol=1e-5)


@pytest.mark.parametrize("kind", ["perceptron", "strings"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_predicted_classifier_gives_maps(kind: str, tmp_path: Path) -> None:
    live, proto = classifier(kind, tmp_path / "model.onnx")
    prediction = onnx_ghn.predict(tmp_path / "model.onnx", tmp_path / "init.onnx", policy="all")
    onnx.checker.check_model(onnx.load(tmp_path / "init.onnx"))
    assert list(onnx.load(tmp_path / "init.onnx").graph.output) == list(proto.graph.output)
    arrays = [np.asarray(prediction[name], np.float64) for name in prediction]
    w1, w2, b1, b2 = sorted(arrays, key=lambda array: -array.size)  # (16, 32), (32, 3), (1, 32), (1, 3)
    scores = np.maximum(inputs() @ w1 + b1, 0) @ w2 + b2  # (N, classes)
    expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    found = run(tmp_path / "init.onnx")
    assert [list(row) for row in found] == [list(live.classes_)] * 40
    np.testing.assert_allclose(np.array([list(row.values()) for row in found]), expected, atol=1e-5)


def test_types_come_back_wherever_they_are_declared(tmp_path: Path) -> None:
    """As an input, inside, in a branch and in a function; the rest of the file stays as well."""
    zipped = helper.make_node("ZipMap", ["t"], ["z"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    branch = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["t"], "m"), zipped],
        "branch", [], [helper.make_value_info("z", MAPS)], value_info=[helper.make_value_info("t", OPAQUE)],
    )  # fmt: skip
    function = helper.make_function(
        "my", "F", ["a"], ["b"],
        [helper.make_node("G", ["a"], ["c"], domain="my"), helper.make_node("G", ["c"], ["b"], domain="my")],
        [helper.make_opsetid("my", 1)], value_info=[helper.make_value_info("c", MAPS)],
    )  # fmt: skip
    nodes = [
        helper.make_node("If", ["c"], ["y"], "if", then_branch=branch, else_branch=branch),
        helper.make_node("F", ["maps"], ["inner"], domain="my"),
        helper.make_node("G", ["inner"], ["last"], domain="my"),
    ]
    given = [info("x", 1, 8), info("c", kind=TensorProto.BOOL), helper.make_value_info("maps", MAPS)]
    given[2].doc_string = "from a DictVectorizer"
    outputs = [helper.make_value_info("y", MAPS), info("last", 1)]
    proto = model(nodes, given, outputs, [init("w", 8, 2)], functions=[function], ir_version=10)
    proto.graph.value_info.append(helper.make_value_info("inner", OPAQUE))
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    write_model(read_model(proto), tmp_path / "written.onnx")
    written = onnx.load(tmp_path / "written.onnx")
    assert list(written.graph.input) == given
    assert list(written.graph.output) == outputs
    assert list(written.graph.value_info) == list(proto.graph.value_info)
    assert list(written.functions[0].value_info) == list(function.value_info)
    for attribute in written.graph.node[0].attribute:
        assert list(attribute.g.output) == list(branch.output)
        assert list(attribute.g.value_info) == list(branch.value_info)


def test_a_map_as_the_type_of_an_attribute_is_refused_by_name() -> None:
    node = helper.make_node("Optional", [], ["o"], type=MAPS)
    value = helper.make_value_info("o", helper.make_optional_type_proto(MAPS))
    with pytest.raises(ModelReadError, match="has an attribute that is the type of a map") as refused:
        read_model(model([node], [], [value]))
    assert "\n" not in str(refused.value)
