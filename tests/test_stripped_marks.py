"""What an exporter's marks say of a model holds for its stripped file, too, though the marks are gone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnx_ghn import predict, strip
from onnx_ghn.inspection import inspect_model
from onnx_ghn.onnx_io import read_model, stored_tensors
from onnx_ghn.runtime import open_session

WIDTH, LENGTH = 24, 6


def _attention() -> onnx.ModelProto:
    """Attention as torch's first exporter writes it: what the code makes lies in Constant nodes, parameters do not.

    The code makes the turning of queries and keys, the scale of their products, a mask that masks nothing, and the
    shift of a norm that has none.
    """
    generator = np.random.default_rng(0)

    def drawn(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape).astype(np.float32) / np.sqrt(shape[0]).astype(np.float32)

    made = {
        "turn": np.cos(np.arange(LENGTH * WIDTH)).reshape(1, LENGTH, WIDTH).astype(np.float32),
        "scale": np.float32(0.2),
        "mask": np.zeros((1, LENGTH, LENGTH), np.float32),
        "shift": np.zeros(WIDTH, np.float32),
    }
    nodes = [
        *(
            helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(array)))
            for name, array in made.items()
        ),
        helper.make_node("LayerNormalization", ["x", "gain", "shift"], ["n"]),
        helper.make_node("MatMul", ["n", "wq"], ["q0"]),
        helper.make_node("MatMul", ["n", "wk"], ["k0"]),
        helper.make_node("MatMul", ["n", "wv"], ["v"]),
        helper.make_node("Mul", ["q0", "turn"], ["q1"]),
        helper.make_node("Mul", ["k0", "turn"], ["k1"]),
        helper.make_node("Transpose", ["k1"], ["k"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q1", "k"], ["s0"]),
        helper.make_node("Mul", ["s0", "scale"], ["s1"]),
        helper.make_node("Add", ["s1", "mask"], ["s"]),
        helper.make_node("Softmax", ["s"], ["p"]),
        helper.make_node("MatMul", ["p", "v"], ["h"]),
        helper.make_node("MatMul", ["h", "wo"], ["y"]),
    ]
    weights = {"gain": 1 + drawn(WIDTH) / 4, **{name: drawn(WIDTH, WIDTH) for name in ("wq", "wk", "wv", "wo")}}
    info = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2, LENGTH, WIDTH]) for n in ("x", "y")]
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], stored)
    return helper.make_model(graph, producer_name="pytorch", opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def _scaled(scale: np.ndarray) -> onnx.ModelProto:
    """A norm by root mean squares over a few features of a head, whose scale no layer stands before."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Reshape", ["h", "heads"], ["r"]),
        helper.make_node("Pow", ["r", "two"], ["square"]),
        helper.make_node("ReduceMean", ["square", "axis"], ["mean"]),
        helper.make_node("Add", ["mean", "eps"], ["safe"]),
        helper.make_node("Sqrt", ["safe"], ["root"]),
        helper.make_node("Div", ["r", "root"], ["n"]),
        helper.make_node("Mul", ["n", "scale"], ["y"]),
    ]
    stored = {
        "w": np.random.default_rng(1).standard_normal((WIDTH, WIDTH)).astype(np.float32),
        "heads": np.array([2, LENGTH, 3, 8]),
        "two": np.float32(2),
        "axis": np.array([-1]),
        "eps": np.float32(1e-6),
        "scale": scale,
    }
    info = [
        helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, LENGTH, WIDTH]),
        helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, LENGTH, 3, 8]),
    ]
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def _of(path: Path, name: str) -> np.ndarray:
    return np.asarray(stored_tensors(read_model(path))[name].numpy())


@pytest.fixture
def stripped(tmp_path: Path) -> tuple[Path, Path]:
    onnx.save(_attention(), tmp_path / "m.onnx")
    strip(tmp_path / "m.onnx", tmp_path / "s.onnx")
    return tmp_path / "m.onnx", tmp_path / "s.onnx"


def test_a_stripped_file_has_the_learned_elements_of_the_file(stripped: tuple[Path, Path]) -> None:
    for path in stripped:
        coverage = inspect_model(path, policy="all").coverage.to_dict()
        assert coverage["n_trainable_elements"] == 4 * WIDTH**2 + WIDTH
        assert coverage["may_be_learned"] == {"tensors": 0, "elements": 0}


@pytest.mark.parametrize("policy", ["auto", "all"])
def test_what_the_code_makes_stays_where_the_weights_are_gone(policy: str, stripped: tuple[Path, Path]) -> None:
    target = stripped[0].with_name("p.onnx")
    predict(stripped[1], target, policy=policy)  # type: ignore[arg-type]
    for name in ("turn", "scale", "mask", "shift"):
        np.testing.assert_array_equal(_of(target, name), _of(stripped[0], name))
    assert np.unique(_of(target, "wq")).size > 1


def test_the_original_gives_a_stripped_file_its_outputs_back(stripped: tuple[Path, Path]) -> None:
    target = stripped[0].with_name("p.onnx")
    predict(stripped[1], target, donors=[stripped[0]])
    x = np.random.default_rng(2).standard_normal((2, LENGTH, WIDTH)).astype(np.float32)
    (expected,), (found,) = (open_session(path).run(None, {"x": x}) for path in (stripped[0], target))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def _marked() -> onnx.ModelProto:
    """The same as torch's second exporter writes it: marks beside initializers, and a list of what is learned."""
    model = _attention()
    made = [node for node in model.graph.node if node.op_type == "Constant"]
    for node in made:
        stored = onnx.TensorProto.FromString(node.attribute[0].t.SerializeToString())
        stored.name = node.output[0]
        model.graph.initializer.append(stored)
        model.graph.node.remove(node)
    names = {node.output[0] for node in made}
    for tensor in model.graph.initializer:
        key, value = (
            ("pkg.onnxscript.optimizer.folded_from", "['val_1']")
            if tensor.name in names
            else ("pkg.torch.export.graph_signature.InputSpec.kind", "PARAMETER")
        )
        info = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        info.metadata_props.add(key=key, value=value)
        model.graph.value_info.append(info)
    learned = [tensor.name for tensor in model.graph.initializer if tensor.name not in names]
    signature = "\n".join(f"p_{name}: PARAMETER target='{name}'" for name in learned)
    model.graph.metadata_props.add(key="pkg.torch.export.ExportedProgram.graph_signature", value=signature)
    return model


def test_a_constant_of_a_file_is_one_of_its_stripped_file(tmp_path: Path) -> None:
    """A mask of zeros that was noted was a frozen bias of scores, whose labels set the file apart from the donor."""
    onnx.save(_marked(), tmp_path / "m.onnx")
    strip(tmp_path / "m.onnx", tmp_path / "s.onnx")
    before, after = (inspect_model(tmp_path / f"{name}.onnx").coverage for name in "ms")
    assert {"turn", "scale", "mask", "shift"} <= {row.parameter.name for row in before.constants}
    assert {"turn", "scale", "mask", "shift"} <= {row.parameter.name for row in after.constants}
    assert {row.parameter.name for row in after.entries} == {"gain", "wq", "wk", "wv", "wo"}


def _decoder() -> onnx.ModelProto:
    """The first layer of DETR's decoder: it begins with zeros, so that learned queries pass a norm before data come."""
    drawn = np.random.default_rng(3).standard_normal
    weights = {
        "queries": drawn((1, LENGTH, WIDTH)),
        "gain": 1 + drawn(WIDTH) / 4,
        "shift": drawn(WIDTH) / 4,
        **{name: drawn((WIDTH, WIDTH)) / WIDTH**0.5 for name in ("wq", "wk", "wv", "wo")},
    }
    zeros = numpy_helper.from_array(np.zeros((1, LENGTH, WIDTH), np.float32))
    nodes = [
        helper.make_node("Constant", [], ["start"], value=zeros),
        helper.make_node("Add", ["start", "queries"], ["a"]),
        helper.make_node("LayerNormalization", ["a", "gain", "shift"], ["n"]),
        helper.make_node("MatMul", ["n", "wq"], ["q"]),
        helper.make_node("MatMul", ["x", "wk"], ["k0"]),
        helper.make_node("MatMul", ["x", "wv"], ["v"]),
        helper.make_node("Transpose", ["k0"], ["k"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "k"], ["s"]),
        helper.make_node("Softmax", ["s"], ["p"]),
        helper.make_node("MatMul", ["p", "v"], ["h"]),
        helper.make_node("Add", ["h", "n"], ["r"]),
        helper.make_node("MatMul", ["r", "wo"], ["y"]),
    ]
    info = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2, LENGTH, WIDTH]) for n in ("x", "y")]
    stored = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], stored)
    return helper.make_model(graph, producer_name="pytorch", opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_a_decoder_that_begins_with_zeros_is_read_alike_when_stripped(tmp_path: Path) -> None:
    """Beside weights that are zeros, too, the start was a constant as any other, and all before the data was one."""
    onnx.save(_decoder(), tmp_path / "m.onnx")
    strip(tmp_path / "m.onnx", tmp_path / "s.onnx")
    for path in (tmp_path / "m.onnx", tmp_path / "s.onnx"):
        coverage = inspect_model(path).coverage
        assert {row.parameter.name: row.reason for row in coverage.constants}["start"].startswith("zeros that")
        roles = {row.parameter.name: row.parameter.role for row in coverage.entries}
        assert roles == {
            "queries": "position",
            "gain": "norm_scale",
            "shift": "norm_bias",
            **dict.fromkeys(("wq", "wk", "wv", "wo"), "weight"),
        }
    prediction = predict(tmp_path / "s.onnx", tmp_path / "p.onnx", donors=[tmp_path / "m.onnx"])
    assert any("are kept" in note for note in prediction.coverage.notes)
    x = np.random.default_rng(2).standard_normal((2, LENGTH, WIDTH)).astype(np.float32)
    (expected,), (found,) = (open_session(tmp_path / f"{n}.onnx").run(None, {"x": x}) for n in "mp")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def _pyramid() -> onnx.ModelProto:
    """Two maps of a backbone pass one norm (Depth Anything); a table of distances is made by a bias of folded ones."""
    drawn = np.random.default_rng(4).standard_normal
    weights = {
        **{name: drawn((WIDTH, WIDTH)) / WIDTH**0.5 for name in ("w1", "w2", "w3")},
        "gain": 1 + drawn(WIDTH) / 4,
        "shift": drawn(WIDTH) / 4,
        "folded": drawn((LENGTH, 2 * WIDTH)),
        "hidden": drawn(2 * WIDTH),
        "last": drawn((2 * WIDTH, WIDTH)),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"]),
        helper.make_node("MatMul", ["a", "w2"], ["b"]),
        helper.make_node("LayerNormalization", ["a", "gain", "shift"], ["na"]),
        helper.make_node("LayerNormalization", ["b", "gain", "shift"], ["nb"]),
        helper.make_node("Add", ["na", "nb"], ["n"]),
        helper.make_node("Add", ["folded", "hidden"], ["d0"]),
        helper.make_node("Relu", ["d0"], ["d1"]),
        helper.make_node("MatMul", ["d1", "last"], ["places"]),
        helper.make_node("Add", ["n", "places"], ["p"]),
        helper.make_node("MatMul", ["p", "w3"], ["y"]),
    ]
    info = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2, LENGTH, WIDTH]) for n in ("x", "y")]
    stored = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_a_norm_that_two_maps_pass_stays_one(tmp_path: Path) -> None:
    """Once its scales were ones, it was taken for two norms that an exporter had merged."""
    onnx.save(_pyramid(), tmp_path / "m.onnx")
    strip(tmp_path / "m.onnx", tmp_path / "s.onnx")
    strip(tmp_path / "s.onnx", tmp_path / "again.onnx")
    for name in ("m", "s", "again"):
        coverage = inspect_model(tmp_path / f"{name}.onnx").coverage
        assert {"gain", "shift"} <= {row.parameter.name for row in coverage.entries}
        assert len(coverage.entries) == 8
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "s.onnx").read_bytes()
    prediction = predict(tmp_path / "s.onnx", tmp_path / "p.onnx", donors=[tmp_path / "m.onnx"])
    assert any("are kept" in note for note in prediction.coverage.notes)
    for name in ("gain", "shift", "hidden", "folded"):
        np.testing.assert_array_equal(_of(tmp_path / "p.onnx", name), _of(tmp_path / "m.onnx", name))


def test_strip_takes_nothing_more_the_second_time(stripped: tuple[Path, Path]) -> None:
    again = stripped[1].with_name("again.onnx")
    strip(stripped[1], again)
    assert again.read_bytes() == stripped[1].read_bytes()


def test_a_small_scale_that_no_layer_stands_before_goes_as_well(tmp_path: Path) -> None:
    scale = 1 + np.random.default_rng(0).standard_normal(8).astype(np.float32) / 4
    onnx.save(_scaled(scale), tmp_path / "m.onnx")
    strip(tmp_path / "m.onnx", tmp_path / "s.onnx")
    assert np.unique(_of(tmp_path / "s.onnx", "scale")).size == 1
    assert float(_of(tmp_path / "s.onnx", "eps")) == np.float32(1e-6)
    predict(tmp_path / "s.onnx", tmp_path / "p.onnx", donors=[tmp_path / "m.onnx"])
    np.testing.assert_array_equal(_of(tmp_path / "p.onnx", "scale"), scale)


def test_a_table_that_strip_leaves_stays_in_predict(tmp_path: Path) -> None:
    """Added to the data, sines are positions, of which the file says nothing but their values."""
    angles = np.arange(LENGTH)[:, None] / 10_000 ** (np.arange(WIDTH // 2) / (WIDTH // 2))
    table = np.concatenate([np.sin(angles), np.cos(angles)], 1).astype(np.float32)
    weights = {
        "w": np.random.default_rng(0).standard_normal((WIDTH, WIDTH)).astype(np.float32),
        "table": table,
        "head": np.random.default_rng(1).standard_normal((WIDTH, 5)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Add", ["h", "table"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("MatMul", ["r", "head"], ["y"]),
    ]
    info = [
        helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, LENGTH, WIDTH]),
        helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, LENGTH, 5]),
    ]
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), tmp_path / "m.onnx")
    strip(tmp_path / "m.onnx", tmp_path / "s.onnx")
    for policy in ("auto", "all"):
        predict(tmp_path / "s.onnx", tmp_path / f"{policy}.onnx", policy=policy)  # type: ignore[arg-type]
        np.testing.assert_array_equal(_of(tmp_path / f"{policy}.onnx", "table"), table)
    predict(tmp_path / "s.onnx", tmp_path / "over.onnx", policy="all", overwrite_special=True)
    assert not np.array_equal(_of(tmp_path / "over.onnx", "table"), table)


@pytest.mark.parametrize("rounds", [False, True])
def test_zeros_that_are_added_to_scores_stay_where_a_tool_took_the_marks(rounds: bool, tmp_path: Path) -> None:
    """A mask that masks nothing, as an initializer; a static quantiser rounds what comes out of the addition."""
    model = _attention()
    model.producer_name = "onnx.quantize"
    mask = next(node for node in model.graph.node if node.output[0] == "mask")
    model.graph.node.remove(mask)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, LENGTH, LENGTH), np.float32), "mask"))
    if rounds:
        softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
        pair = [
            helper.make_node("QuantizeLinear", ["s", "step", "zero"], ["integers"]),
            helper.make_node("DequantizeLinear", ["integers", "step", "zero"], ["rounded"]),
        ]
        softmax.input[0] = "rounded"
        place = list(model.graph.node).index(softmax)
        nodes = [*model.graph.node[:place], *pair, *model.graph.node[place:]]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        model.graph.initializer.append(numpy_helper.from_array(np.float32(0.05), "step"))
        model.graph.initializer.append(numpy_helper.from_array(np.int8(0), "zero"))
    path, bare = tmp_path / "model.onnx", tmp_path / "bare.onnx"
    onnx.save(model, path)
    strip(path, bare)
    for source in (path, bare):
        filled = tmp_path / f"{source.stem}_filled.onnx"
        predict(source, filled, policy="all")
        assert not stored_tensors(read_model(filled))["mask"].numpy().any()
    outcomes = {
        row["name"]: row["outcome"] for row in inspect_model(path, policy="all").coverage.to_dict()["parameters"]
    }
    assert {outcomes[name] for name in ("wq", "wk", "wv", "wo")} == {"predicted"}


def test_a_quantised_mask_stays_in_a_stripped_file(tmp_path: Path) -> None:
    """A static quantiser makes integers of a causal mask: two of them, which are no weights."""
    model = _attention()
    model.producer_name = "onnx.quantize"
    mask = next(node for node in model.graph.node if node.output[0] == "mask")
    mask.CopyFrom(helper.make_node("DequantizeLinear", ["mask_quantized", "step", "zero"], ["mask"]))
    whole = np.where(np.tri(LENGTH, dtype=bool), 255, 0).astype(np.uint8)[None]
    model.graph.initializer.append(numpy_helper.from_array(whole, "mask_quantized"))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(40), "step"))
    model.graph.initializer.append(numpy_helper.from_array(np.uint8(255), "zero"))
    path, bare, filled = (tmp_path / f"{name}.onnx" for name in ("model", "bare", "filled"))
    onnx.save(model, path)
    strip(path, bare)
    predict(bare, filled, policy="all")
    for written in (bare, filled):
        stored = stored_tensors(read_model(written))
        np.testing.assert_array_equal(stored["mask_quantized"].numpy(), whole)
        assert stored["step"].numpy() == 40
    predict(bare, filled, donors=[path], force=True)
    fed = {"x": np.random.default_rng(1).standard_normal((2, LENGTH, WIDTH)).astype(np.float32)}
    before, after = (open_session(each).run(None, fed)[0] for each in (path, filled))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


def test_a_parameter_that_no_operator_tells_comes_back_from_the_original(tmp_path: Path) -> None:
    """The centres of radial functions, which torch's second exporter marks as a parameter: they stayed zeros."""
    drawn = np.random.default_rng(4).standard_normal
    weights = {"centres": drawn(32), "w": drawn((32, WIDTH))}
    nodes = [
        helper.make_node("Sub", ["x", "centres"], ["d"]),
        helper.make_node("Mul", ["d", "d"], ["square"]),
        helper.make_node("Neg", ["square"], ["n"]),
        helper.make_node("Exp", ["n"], ["e"]),
        helper.make_node("MatMul", ["e", "w"], ["y"]),
    ]
    info = [
        helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, LENGTH, 1]),
        helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, LENGTH, WIDTH]),
    ]
    stored = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    marked = [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in stored]
    for row in marked:
        row.metadata_props.add(key="pkg.torch.export.graph_signature.InputSpec.kind", value="PARAMETER")
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], stored, value_info=marked)
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, producer_name="pytorch", opset_imports=opsets, ir_version=10)
    onnx.save(model, tmp_path / "m.onnx")
    strip(tmp_path / "m.onnx", tmp_path / "s.onnx")
    assert not _of(tmp_path / "s.onnx", "centres").any()
    strip(tmp_path / "s.onnx", tmp_path / "again.onnx")
    for source in ("s", "again"):
        predict(tmp_path / f"{source}.onnx", tmp_path / "o.onnx", donors=[tmp_path / "m.onnx"], force=True)
        np.testing.assert_array_equal(_of(tmp_path / "o.onnx", "centres"), weights["centres"].astype(np.float32))


def test_a_learned_factor_without_standard_initialisation_begins_at_ones(tmp_path: Path) -> None:
    """As x-transformers multiplies normed queries and keys, head by head: two factors of zeros would never learn."""
    draw = np.random.default_rng(0)
    arrays = {
        "wq": draw.normal(size=(24, 24)),
        "wk": draw.normal(size=(24, 24)),
        "gq": draw.uniform(0.5, 1.5, (4, 1, 6)),
        "gk": draw.uniform(0.5, 1.5, (4, 1, 6)),
    }
    stored = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    stored.append(numpy_helper.from_array(np.array([2, 5, 4, 6]), "heads"))
    nodes = []
    for side, turn in (("q", [0, 2, 1, 3]), ("k", [0, 2, 1, 3])):
        nodes += [
            helper.make_node("MatMul", ["x", f"w{side}"], [f"a{side}"]),
            helper.make_node("Reshape", [f"a{side}", "heads"], [f"b{side}"]),
            helper.make_node("Transpose", [f"b{side}"], [f"c{side}"], perm=turn),
            helper.make_node("LpNormalization", [f"c{side}"], [f"d{side}"], axis=-1, p=2),
            helper.make_node("Mul", [f"d{side}", f"g{side}"], [f"e{side}"]),
        ]
    nodes += [
        helper.make_node("Transpose", ["ek"], ["turned"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["eq", "turned"], ["y"]),
    ]
    info = [helper.make_tensor_value_info("x", 1, [2, 5, 24]), helper.make_tensor_value_info("y", 1, [2, 4, 5, 5])]
    marked = [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in stored[:4]]
    for row in marked:
        row.metadata_props.add(key="pkg.torch.export.graph_signature.InputSpec.kind", value="PARAMETER")
    graph = helper.make_graph(nodes, "m", info[:1], info[1:], stored, value_info=marked)
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, producer_name="pytorch", opset_imports=opsets, ir_version=10)
    onnx.save(model, tmp_path / "m.onnx")
    strip(tmp_path / "m.onnx", tmp_path / "s.onnx")
    predict(tmp_path / "s.onnx", tmp_path / "p.onnx")
    for name in ("gq", "gk"):
        np.testing.assert_allclose(_of(tmp_path / "p.onnx", name), np.ones((4, 1, 6)), rtol=1e-5)
    predict(tmp_path / "s.onnx", tmp_path / "same.onnx", donors=[tmp_path / "m.onnx"])
    np.testing.assert_array_equal(_of(tmp_path / "same.onnx", "gq"), _of(tmp_path / "m.onnx", "gq"))
