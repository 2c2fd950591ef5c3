"""The way there and back with an exporter that computes with weights, as a framework's constant folding does."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from round_trip import run

from onnx_ghn.errors import GraphError
from onnx_ghn.exporters.roundtrip import export_live, load_live
from onnx_ghn.inspection import inspect_model

X = np.random.default_rng(0).random((2, 4), dtype=np.float32)


class Folding:
    """A linear layer and a batch norm, of which the exporter stores what is left after folding.

    Args:
        numbered: whether tensors have other names in each export.
    """

    framework, exporter, numbered, takes_inputs = "none", "folding", False, True

    def __init__(self, seed: int, *, numbered: bool = False) -> None:
        rng = np.random.default_rng(seed)
        shapes = {"weight": (4, 8), "scale": (8,), "shift": (8,), "mean": (8,), "head": (8, 3)}
        self.values = {name: rng.random(shape, dtype=np.float32) for name, shape in shapes.items()}
        self.named_anew, self.count = numbered, 0

    def read(self) -> dict[str, np.ndarray]:
        return {name: value.copy() for name, value in self.values.items()}

    def write(self, values: Mapping[str, np.ndarray]) -> None:
        self.values.update({name: value.copy() for name, value in values.items()})

    def trainable(self) -> Set[str]:
        return set(self.values) - {"mean"}

    def convert(self, folder: Path) -> onnx.ModelProto:
        v = self.values
        self.count += 1
        # With weights as small as codes the sum is a few units in the last place from the shift itself.
        tensors = {"product": v["weight"] * v["scale"], "sum": v["shift"] - v["mean"] * v["scale"], "head": v["head"]}
        suffix = f"_{self.count}" if self.named_anew else ""
        nodes = [
            helper.make_node("MatMul", ["x", "product" + suffix], ["a"]),
            helper.make_node("Add", ["a", "sum" + suffix], ["b"]),
            helper.make_node("MatMul", ["b", "head" + suffix], ["y"]),
        ]
        values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, k]) for n, k in (("x", 4), ("y", 3))]
        initializers = [numpy_helper.from_array(value, name + suffix) for name, value in tensors.items()]
        graph = helper.make_graph(nodes, "g", values[:1], values[1:], initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        v = self.values
        return (x @ v["weight"] * v["scale"] + v["shift"] - v["mean"] * v["scale"]) @ v["head"]


def test_a_sum_of_weights_is_not_taken_for_a_weight(tmp_path: Path) -> None:
    model = Folding(0)
    before = model.read()
    report = export_live(model, tmp_path / "m.onnx")
    assert {note.name for note in report.unmatched} == {"weight", "scale", "shift", "mean"}
    assert all("folded" in note.cause for note in report.unmatched)
    np.testing.assert_allclose(run(tmp_path / "m.onnx", X), model(X), rtol=1e-5)
    other = Folding(1)
    kept = other.read()
    loaded = load_live(other, tmp_path / "m.onnx")
    assert {note.name for note in loaded.unmatched} == {"weight", "scale", "shift", "mean"}
    np.testing.assert_array_equal(other.values["head"], before["head"])
    for name in ("weight", "scale", "shift", "mean"):
        np.testing.assert_array_equal(other.values[name], kept[name])


def test_names_that_change_do_not_hide_it(tmp_path: Path) -> None:
    from onnx_ghn.errors import GraphError

    with pytest.raises(GraphError, match="computed from weights, under a name that changes"):
        export_live(Folding(0, numbered=True), tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


class Constant(Folding):
    """An exporter that runs the model once and stores what comes out.

    Args:
        has_input: whether the file names an input that nothing reads.
    """

    def __init__(self, has_input: bool) -> None:
        super().__init__(0)
        self.has_input = has_input

    def convert(self, folder: Path) -> onnx.ModelProto:
        node = helper.make_node("Identity", ["head"], ["y"])
        x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [8, k]) for n, k in (("x", 4), ("y", 3)))
        head = numpy_helper.from_array(self.values["head"], "head")
        graph = helper.make_graph([node], "g", [x] if self.has_input else [], [y], [head])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize(
    ("has_input", "lacks"),
    [(False, "a file without inputs"), (True, r"a file whose outputs do not depend on its inputs \(x\)")],
)
def test_a_file_that_gives_the_same_whatever_it_is_given_is_refused(
    has_input: bool, lacks: str, tmp_path: Path
) -> None:
    with pytest.raises(GraphError, match=f"folding wrote {lacks}"):
        export_live(Constant(has_input), tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_a_model_that_takes_no_inputs_is_exported(tmp_path: Path) -> None:
    model = Constant(has_input=False)
    model.takes_inputs = False
    assert export_live(model, tmp_path / "m.onnx").path == tmp_path / "m.onnx"


class Dropping(Folding):
    """An exporter that leaves out an addition of zeros, as TensorFlow's does, and numbers its tensors.

    Args:
        folds: whether what it adds is a sum with the mean, in the place of the shift itself.
    """

    def __init__(self, *, folds: bool) -> None:
        super().__init__(0, numbered=True)
        self.folds = folds
        self.values["shift"][:] = self.values["mean"][:] = 0
        self.values["extra"] = np.ones(8, np.float32)  # in nothing but a product, so that the export is looked at twice

    def convert(self, folder: Path) -> onnx.ModelProto:
        v = self.values
        self.count += 1
        shift = v["shift"] - v["mean"] * v["scale"] if self.folds else v["shift"]
        tensors = {"weight": v["weight"], "extra": np.log(v["extra"]), "head": v["head"]}
        nodes = [helper.make_node("MatMul", ["x", "weight"], ["a"]), helper.make_node("Add", ["a", "extra"], ["b"])]
        if shift.any():
            name = f"shift_{self.count}"
            tensors[name] = shift
            nodes.append(helper.make_node("Add", ["b", name], ["c"]))
        else:
            nodes.append(helper.make_node("Identity", ["b"], ["c"]))
        nodes.append(helper.make_node("MatMul", ["c", "head"], ["y"]))
        x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, k]) for n, k in (("x", 4), ("y", 3)))
        initializers = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
        graph = helper.make_graph(nodes, "g", [x], [y], initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_a_weight_that_an_exporter_leaves_out_while_it_is_zero_is_exported(tmp_path: Path) -> None:
    model = Dropping(folds=False)
    report = export_live(model, tmp_path / "m.onnx")
    assert [note.name for note in report.unmatched] == ["scale", "mean", "extra"]
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "m.onnx").graph.initializer}
    np.testing.assert_array_equal(stored["shift_1"], np.zeros(8, np.float32))
    np.testing.assert_array_equal(stored["extra"], np.zeros(8, np.float32))
    with pytest.raises(GraphError, match="under a name that changes"):
        export_live(Dropping(folds=True), tmp_path / "f.onnx")


class Tied(Folding):
    """An embedding that is the head as well, which the exporter stores once more, transposed, beside four gains.

    Args:
        is_trained: whether training changes the table.
    """

    def __init__(self, *, is_trained: bool = True) -> None:
        super().__init__(0)
        rng = np.random.default_rng(0)
        self.values = {"table": rng.random((8, 4), dtype=np.float32), "gain": rng.random(4, dtype=np.float32)}
        self.is_trained = is_trained

    def trainable(self) -> Set[str]:
        return {"table", "gain"} if self.is_trained else {"gain"}

    def convert(self, folder: Path) -> onnx.ModelProto:
        table, gain = self.values["table"], self.values["gain"]
        tensors = {"table": table, "turned": np.ascontiguousarray(table.T), "gains": np.tile(gain, (3, 1))}
        nodes = [
            helper.make_node("Gather", ["table", "x"], ["a"]),
            helper.make_node("Mul", ["a", "gains"], ["b"]),
            helper.make_node("MatMul", ["b", "turned"], ["y"]),
        ]
        x = helper.make_tensor_value_info("x", TensorProto.INT64, [3])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 8])
        initializers = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
        graph = helper.make_graph(nodes, "g", [x], [y], initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("is_trained", [True, False])
def test_what_an_exporter_stores_again_is_counted_once(is_trained: bool, tmp_path: Path) -> None:
    export_live(Tied(is_trained=is_trained), tmp_path / "m.onnx")
    coverage = inspect_model(tmp_path / "m.onnx").coverage
    assert coverage.n_trainable == (36 if is_trained else 4)
    rows = {entry.parameter.name: entry.parameter for entry in coverage.entries}
    if is_trained:
        assert {name: row.n_trained for name, row in rows.items()} == {"table": 32, "turned": 0, "gains": 4}


class Negating(Folding):
    """An exporter that folds the sign of a weight, as TensorFlow's does, and reads one matrix as it is and negated.

    Args:
        seed: of the weights.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        rng = np.random.default_rng(seed)
        shapes = {"width": (4,), "matrix": (4, 4), "head": (4, 3)}
        self.values = {name: rng.random(shape, dtype=np.float32) for name, shape in shapes.items()}

    def trainable(self) -> Set[str]:
        return set(self.values)

    def convert(self, folder: Path) -> onnx.ModelProto:
        v = self.values
        tensors = {"narrow": -v["width"], "plus": v["matrix"], "minus": -v["matrix"], "head": -v["head"]}
        nodes = [
            helper.make_node("Mul", ["x", "narrow"], ["a"]),
            helper.make_node("Exp", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "plus"], ["c"]),
            helper.make_node("Relu", ["c"], ["d"]),
            helper.make_node("MatMul", ["b", "minus"], ["e"]),
            helper.make_node("Tanh", ["e"], ["f"]),
            helper.make_node("Add", ["d", "f"], ["g"]),
            helper.make_node("MatMul", ["g", "head"], ["y"]),
        ]
        x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, k]) for n, k in (("x", 4), ("y", 3)))
        initializers = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
        graph = helper.make_graph(nodes, "g", [x], [y], initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        v = self.values
        b = np.exp(-x * v["width"])
        return -(np.maximum(b @ v["matrix"], 0) - np.tanh(b @ v["matrix"])) @ v["head"]


@pytest.mark.parametrize("has_notes", [True, False])
def test_weights_that_an_exporter_negates_keep_their_sign(has_notes: bool, tmp_path: Path) -> None:
    model, other = Negating(0), Negating(1)
    assert not export_live(model, tmp_path / "m.onnx").unmatched
    np.testing.assert_allclose(run(tmp_path / "m.onnx", X), model(X), rtol=1e-5)
    if not has_notes:
        proto = onnx.load(tmp_path / "m.onnx")
        del proto.metadata_props[:]
        onnx.save(proto, tmp_path / "m.onnx")
    assert not load_live(other, tmp_path / "m.onnx").unmatched
    for name, values in model.values.items():
        np.testing.assert_array_equal(other.values[name], values)


class LowRank(Folding):
    """A matrix with a product of two smaller ones added, one of which begins as zeros (LoRA), folded into one tensor.

    Args:
        is_trained: whether training changes the two smaller ones, and not their sum with the matrix.
    """

    def __init__(self, *, is_trained: bool = True) -> None:
        super().__init__(0)
        rng = np.random.default_rng(0)
        self.values = {name: rng.random((4, 4), dtype=np.float32) for name in ("matrix", "head")}
        self.values |= {"down": rng.random((4, 2), dtype=np.float32), "up": np.zeros((2, 4), np.float32)}
        self.is_trained = is_trained

    def trainable(self) -> Set[str]:
        return {"down", "up", "head"} if self.is_trained else {"head"}

    def convert(self, folder: Path) -> onnx.ModelProto:
        v = self.values
        tensors = {"sum": v["matrix"] + v["down"] @ v["up"], "head": v["head"]}
        nodes = [
            helper.make_node("MatMul", ["x", "sum"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "head"], ["y"]),
        ]
        x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, 4]) for n in "xy")
        initializers = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
        graph = helper.make_graph(nodes, "g", [x], [y], initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_a_sum_with_a_product_that_is_zero_is_told(tmp_path: Path) -> None:
    unmatched = export_live(LowRank(), tmp_path / "m.onnx").unmatched
    assert {note.name for note in unmatched} == {"matrix", "down", "up"}
    assert all("computed something from it" in note.cause for note in unmatched)


def test_what_is_computed_from_weights_that_nothing_trains_is_frozen(tmp_path: Path) -> None:
    model = LowRank(is_trained=False)
    model.values["up"][:] = 1
    export_live(model, tmp_path / "m.onnx")
    coverage = inspect_model(tmp_path / "m.onnx").coverage
    assert coverage.n_trainable == 16
    assert {entry.parameter.name for entry in coverage.entries if entry.outcome == "frozen"} == {"sum"}
