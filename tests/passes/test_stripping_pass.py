"""strip: a few KB that pass the checker, run, and can be filled again."""

from __future__ import annotations

import glob
import os

import io_models as m
import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from onnx_ghn import build_graph, strip
from onnx_ghn.errors import ModelReadError, ModelWriteError
from onnx_ghn.onnx_io import inject, read_model, stored_tensors, write_model
from onnx_ghn.passes import StripWeights, open_model

LIGHT = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data", "light")


def stripped(proto: onnx.ModelProto, tmp_path) -> tuple[ir.Model, str]:
    model = read_model(proto)
    StripWeights()(model)
    (path,) = write_model(model, tmp_path / "s.onnx", force=True)
    onnx.checker.check_model(str(path), full_check=True)
    return read_model(path), str(path)


def test_a_model_shrinks_and_comes_back(tmp_path):
    source = tmp_path / "m.onnx"
    proto = m.mlp(256)
    proto.graph.value_info.append(m.info("h", 1, 256))
    onnx.save(proto, str(source))
    path = strip(source, tmp_path / "s.onnx")
    assert path.stat().st_size < 1000
    onnx.checker.check_model(str(path), full_check=True)
    x = m.array(1, 256, seed=9)
    assert not m.run(path, x=x)[0].any()
    text = path.read_bytes()
    assert b"stack trace" not in text
    assert b"key" not in text
    assert not onnx.load(str(path)).graph.value_info
    with pytest.raises(ModelWriteError, match="`force`"):
        strip(source, path)
    model = read_model(path)
    weights = stored_tensors(read_model(source))
    assert {n for n, s in stored_tensors(model).items() if s.kind == "constant_of_shape"} == set(weights)
    inject(model, {name: stored.numpy for name, stored in weights.items()})
    (full,) = write_model(model, tmp_path / "full.onnx")
    np.testing.assert_array_equal(m.run(full, x=x)[0], m.run(source, x=x)[0])
    assert "shape" not in " ".join(stored_tensors(read_model(full)))


def test_every_form(tmp_path):
    model, path = stripped(m.every_form(), tmp_path)
    stored = stored_tensors(model)
    filled = {s.name for s in stored.values() if s.node is not None and s.node.op_type == "ConstantOfShape"}
    assert filled == {"m", "c", "floats", "z", "if/then_branch/w", "if/else_branch/w", "only", "my::F/w"}
    assert os.path.getsize(path) < 2500
    for cond in (True, False):
        m.run(path, x=m.array(1, 64), cond=np.array(cond))


def _with(tensor: onnx.TensorProto, opset: int = 17, ir_version: int = 9) -> onnx.ModelProto:
    shape = list(tensor.dims)
    outputs = [m.info("y", *shape, kind=tensor.data_type)]
    return m.model(
        [helper.make_node("Identity", ["t"], ["y"])],
        [],
        outputs,
        [tensor],
        opset=opset,
        ir_version=ir_version,
    )


MASK = np.triu(np.full((64, 64), -np.inf, np.float32), 1)
RANDOM = m.array(64, 64)


@pytest.mark.parametrize(
    ("array", "fill"),
    [
        (RANDOM, 0.0),
        (np.ones(64, np.float32), 1.0),
        (np.full(64, np.nan, np.float32), np.nan),
        (np.where(RANDOM > 0, 1, 0).astype(np.float32), 0.0),
        (RANDOM.astype(np.float16), 0.0),
        (RANDOM.astype(np.float64), 0.0),
        (MASK, None),
        (np.nan_to_num(MASK, neginf=-65504).astype(np.float16), None),
        (np.nan_to_num(MASK, neginf=-1e4), None),
        (RANDOM[0, :16], None),
        (np.arange(4096, dtype=np.int64), None),
        (np.arange(64, dtype=np.int8), None),
        (RANDOM > 0, None),
        (RANDOM.astype(ml_dtypes.bfloat16), None),  # ConstantOfShape gives bfloat16 from opset 20
    ],
)
def test_what_stays_and_what_goes(tmp_path, array, fill):
    model, _ = stripped(_with(ir.serde.serialize_tensor(ir.Tensor(array, name="t"))), tmp_path)
    found = stored_tensors(model)["t"]
    assert found.shape == array.shape
    if fill is None:
        assert found.kind == "initializer"
        np.testing.assert_array_equal(found.numpy(), array)
    else:
        assert found.kind == "constant_of_shape"
        assert found.numpy().dtype == array.dtype
        own = np.nextafter(array.dtype.type(fill), array.dtype.type(2)) if array.ndim > 1 else fill  # of this matrix
        np.testing.assert_array_equal(found.numpy(), np.full(array.shape, own, array.dtype))


def test_bfloat16_goes_where_the_opset_allows(tmp_path):
    tensor = ir.serde.serialize_tensor(ir.Tensor(RANDOM.astype(ml_dtypes.bfloat16), name="t"))
    model, _ = stripped(_with(tensor, opset=20), tmp_path)
    assert stored_tensors(model)["t"].kind == "constant_of_shape"


@pytest.mark.parametrize("kind", ["initializer", "constant"])
@pytest.mark.parametrize("dtype", [ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.UINT8, ir.DataType.FLOAT8E4M3FN])
def test_narrow_quantised_weights(tmp_path, dtype, kind):
    tensor = ir.Tensor((np.arange(64 * 64).reshape(64, 64) % 7).astype(dtype.numpy()), dtype=dtype, name="q")
    proto = ir.serde.serialize_tensor(tensor)
    nodes = [
        *([helper.make_node("Constant", [], ["q"], value=proto)] if kind == "constant" else []),
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    tensors = [*([proto] if kind == "initializer" else []), numpy_helper.from_array(np.float32(2), "s")]
    model, path = stripped(
        m.model(nodes, [m.info("x", 1, 64)], [m.info("y", 1, 64)], tensors, opset=21, ir_version=10), tmp_path
    )
    found = stored_tensors(model)["q"]
    assert found.kind == ("constant_of_shape" if dtype is ir.DataType.UINT8 else kind)  # which onnxruntime fills
    assert found.dtype == dtype
    assert not found.numpy().astype(np.float32).any()
    np.testing.assert_allclose(m.run(path, x=m.array(1, 64))[0], np.zeros((1, 64)), atol=1e-4)  # 4 bits: by a kernel


def test_quantised_weights_and_divisors(tmp_path):
    quantised = numpy_helper.from_array(np.arange(64 * 64, dtype=np.int64).astype(np.int8).reshape(64, 64), "q")
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale"], ["w"], axis=1),
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("BatchNormalization", ["h", "g", "b", "mean", "var"], ["y"]),
    ]
    rest = [
        numpy_helper.from_array(np.abs(m.array(64, seed=i)), n)
        for i, n in enumerate(["scale", "g", "b", "mean", "var"])
    ]
    proto = m.model(nodes, [m.info("x", 1, 64)], [m.info("y", 1, 64)], [quantised, *rest])
    model, path = stripped(proto, tmp_path)
    fills = {n: float(s.numpy().flat[0]) for n, s in stored_tensors(model).items() if s.kind == "constant_of_shape"}
    assert fills == {"q": 0, "scale": 1, "g": 0, "b": 0, "mean": 0, "var": 1}
    assert np.isfinite(m.run(path, x=m.array(1, 64))[0]).all()


def test_trained_vectors_that_are_added_are_not_quite_zero(tmp_path):
    """Simplifiers take out additions of zero, and with them the place of a bias; an untrained one is what it was."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Add", ["h", "b1"], ["i"]),
        helper.make_node("Mul", ["i", "g"], ["j"]),
        helper.make_node("Add", ["b2", "j"], ["k"]),
        helper.make_node("Add", ["k", "untrained"], ["y"]),
    ]
    vectors = {"b1": m.array(64, seed=1), "b2": m.array(64, seed=2), "g": m.array(64, seed=3)}
    rest = [numpy_helper.from_array(value, name) for name, value in vectors.items()]
    rest += [numpy_helper.from_array(np.zeros(64, np.float32), "untrained"), m.init("w", 64, 64)]
    proto = m.model(nodes, [m.info("x", 1, 64)], [m.info("y", 1, 64)], rest)
    model, path = stripped(proto, tmp_path)
    fills = {n: s.numpy().flat[0] for n, s in stored_tensors(model).items() if s.kind == "constant_of_shape"}
    assert fills["untrained"] == fills["g"] == 0
    assert 0 < fills["b1"] < 1e-40
    assert 0 < fills["b2"] < 1e-40
    assert fills["b1"] != fills["b2"]
    again, _ = stripped(onnx.load(path), tmp_path)
    assert {n: s.numpy().flat[0] for n, s in stored_tensors(again).items() if s.kind == "constant_of_shape"} == fills
    folded = [numpy_helper.from_array(np.full(64, fill, np.float32), n) for n, fill in fills.items() if n != "w"]
    proto = m.model(nodes, [m.info("x", 1, 64)], [m.info("y", 1, 64)], [*folded, m.init("w", 64, 64)])
    model, _ = stripped(proto, tmp_path)  # once more, after a tool has made tensors of the fills
    assert {n: s.numpy().flat[0] for n, s in stored_tensors(model).items() if n in fills} == fills


def test_ir_3_weights_leave_the_inputs(tmp_path):
    proto = m.mlp(ir_version=3, opset=9)
    proto.graph.input.extend([m.info("w1", 64, 64), m.info("b1", 64), m.info("w2", 64, 64)])
    model, path = stripped(proto, tmp_path)
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert m.run(path, x=m.array(1, 64))[0].shape == (1, 64)


def test_old_opsets_are_refused():
    with pytest.raises(ModelReadError, match="opset 8"):
        StripWeights()(read_model(m.mlp(opset=8, ir_version=3)))


def test_names_taken_by_the_model_are_avoided(tmp_path):
    proto = m.mlp()
    proto.graph.node[0].output[0] = proto.graph.node[1].input[0] = "shape_64x64"
    model, path = stripped(proto, tmp_path)
    assert "shape_64x64_2" in stored_tensors(model)
    assert not m.run(path, x=m.array(1, 64))[0].any()


def test_large_external_source(tmp_path):
    m.save_external(m.mlp(512), tmp_path / "m.onnx")
    assert strip(tmp_path / "m.onnx", tmp_path / "s.onnx").stat().st_size < 1000


def _inputs(path) -> list[onnx.ValueInfoProto]:
    graph = onnx.load(str(path)).graph
    stored = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in stored]


def test_light_models_run_stripped(tmp_path):
    for path in sorted(glob.glob(f"{LIGHT}/*.onnx"))[:4]:
        out = strip(path, tmp_path / "s.onnx", force=True)
        onnx.checker.check_model(str(out), full_check=True)
        (size,) = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in _inputs(out)}.items()
        assert np.isfinite(m.run(out, **{size[0]: np.zeros(size[1], np.float32)})[0]).all()


SMALL = np.array([0.3, -0.7, 1.1, 0.2], np.float32)


@pytest.mark.parametrize(
    ("nodes", "tensors"),
    [
        ([("Conv", ["x", "w", "b"], {})], {"w": (4, 3, 1, 1), "b": (4,)}),
        ([("Conv", ["x", "w"], {}), ("PRelu", ["h0", "a"], {})], {"w": (4, 3, 1, 1), "a": (4, 1, 1)}),
        ([("Conv", ["x", "w"], {}), ("PRelu", ["h0", "a"], {})], {"w": (4, 3, 1, 1), "a": (1,)}),
        (
            [("Conv", ["x", "w"], {}), ("BatchNormalization", ["h0", *"sbmv"], {})],
            {"w": (4, 3, 1, 1)} | dict.fromkeys("sbmv", (4,)),
        ),
        ([("MatMul", ["x", "w"], {}), ("Add", ["h0", "b"], {})], {"w": (8, 2), "b": (2,)}),
        ([("LayerNormalization", ["x", "s", "b"], {})], {"s": (8,), "b": (8,)}),
        ([("Conv", ["x", "w"], {}), ("Mul", ["h0", "g"], {})], {"w": (1, 3, 1, 1), "g": (1, 1, 1)}),
    ],
)
def test_small_trained_tensors_go(nodes, tensors, tmp_path):
    made = [
        helper.make_node(op, inputs, ["y" if i + 1 == len(nodes) else f"h{i}"], **attributes)
        for i, (op, inputs, attributes) in enumerate(nodes)
    ]
    weights = [numpy_helper.from_array(np.resize(np.abs(SMALL), shape), name) for name, shape in tensors.items()]
    proto = m.model(made, [m.info("x", 1, 3, 8, 8)], [m.info("y")], weights)
    del proto.graph.output[0].type.tensor_type.shape.dim[:]
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    before = stored_tensors(read_model(proto))
    model = read_model(proto)
    StripWeights()(model)
    path = write_model(model, tmp_path / "s.onnx")[0]
    assert not onnx.load(str(path)).graph.initializer
    assert {s.name: s.shape for s in stored_tensors(read_model(path)).values() if s.name in before} == {
        s.name: s.shape for s in before.values()
    }
    assert np.isfinite(m.run(path, x=m.array(1, 3, 8, 8))[0]).all()


def test_small_settings_stay():
    """What inputs are normalised by, an exponent, an epsilon: nobody trained them."""
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["a"]),
        helper.make_node("Div", ["a", "std"], ["b"]),
        helper.make_node("Mul", ["b", "half"], ["c"]),
        helper.make_node("Conv", ["c", "w"], ["y"]),
    ]
    shapes = {"mean": (3, 1, 1), "std": (3, 1, 1), "half": (), "w": (4, 3, 1, 1)}
    weights = [numpy_helper.from_array(np.resize(SMALL, shape).reshape(shape), name) for name, shape in shapes.items()]
    model = read_model(m.model(nodes, [m.info("x", 1, 3, 8, 8)], [m.info("y", 1, 4, 8, 8)], weights))
    assert StripWeights()(model).changes == ("w",)


def _equal_layers(kind: str) -> onnx.ModelProto:
    """Four layers of one shape with random weights, biases and fresh norms, of which strip leaves fills."""
    rng = np.random.default_rng(0)
    tensors, nodes, x = [], [], "x"
    shape = (24, 24, 1, 1) if kind == "conv" else (24, 24)
    dtype = np.float64 if kind == "double" else np.float32
    for i in range(4):
        tensors.append(numpy_helper.from_array(rng.standard_normal(shape).astype(dtype), f"w{i}"))
        tensors.append(numpy_helper.from_array(rng.standard_normal(24).astype(dtype), f"b{i}"))
        nodes.append(helper.make_node("Conv" if kind == "conv" else "Gemm", [x, f"w{i}", f"b{i}"], [f"h{i}"]))
        x = f"h{i}"
        if kind == "norm":
            tensors += [numpy_helper.from_array(np.full(24, v, dtype), f"{n}{i}") for n, v in (("s", 1), ("t", 0))]
            nodes.append(helper.make_node("LayerNormalization", [x, f"s{i}", f"t{i}"], [f"n{i}"]))
            x = f"n{i}"
    nodes.append(helper.make_node("Relu", [x], ["y"]))
    ends = [1, 24, 5, 5] if kind == "conv" else [1, 24]
    float_type = onnx.TensorProto.DOUBLE if kind == "double" else onnx.TensorProto.FLOAT
    return m.model(nodes, [m.info("x", *ends, kind=float_type)], [m.info("y", *ends, kind=float_type)], tensors)


def _simplified(path, how: str):
    import onnxruntime
    import onnxscript.optimizer
    from onnx_ir.passes import common

    if how == "onnxruntime":
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(path.with_name("simple.onnx"))
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(path.with_name("simple.onnx"))
    if how == "onnxscript":
        return onnxscript.optimizer.optimize(onnx.load(path))
    model = ir.from_proto(onnxscript.optimizer.optimize(onnx.load(path)) if how == "initializers" else onnx.load(path))
    common.CommonSubexpressionEliminationPass()(model)
    common.DeduplicateHashedInitializersPass()(model)
    return ir.to_proto(model)


@pytest.mark.parametrize("how", ["onnxruntime", "onnxscript", "common", "initializers"])
@pytest.mark.parametrize("kind", ["conv", "linear", "norm", "double"])
def test_no_simplifier_merges_what_was_stripped(how: str, kind: str, tmp_path):
    proto = _equal_layers(kind)
    onnx.save(proto, tmp_path / "m.onnx")
    simple = _simplified(strip(tmp_path / "m.onnx", tmp_path / "s.onnx"), how)
    before = {p.name: p.size for p in build_graph(proto).parameters}
    after = build_graph(simple)
    assert sum(p.size for p in after.parameters) == sum(before.values()) == (2592 if kind == "norm" else 2400)
    assert len(after.parameters) == len(before)
    assert open_model(simple).notes == ()


@pytest.mark.parametrize("kind", ["MatMul", "Conv", "Gather"])
def test_a_fill_with_several_readers_is_told(kind: str):
    """As older versions of strip, and a simplifier after them, left it; a matrix that is tied on purpose is none."""
    shape = [6, 6, 1, 1] if kind == "Conv" else [6, 6]
    notes = []
    for values in (np.zeros(shape, np.float32), m.array(*shape)):
        reads = [["w", "x"] if kind == "Gather" else [x, "w"] for x in ("x", "h")]
        nodes = [helper.make_node(kind, reads[0], ["h"]), helper.make_node(kind, reads[1], ["y"])]
        x = m.info("x", 6, kind=onnx.TensorProto.INT64) if kind == "Gather" else m.info("x", 1, 6, *shape[2:])
        proto = m.model(nodes, [x], [m.info("y", *([None] * 4))], [numpy_helper.from_array(values, "w")])
        notes.append(open_model(proto).notes)
    assert notes[0][0].startswith("1 matrix of one value, first w, read by 2 layers, will be one weight for all")
    assert notes[1] == ()


def test_a_first_state_of_several_layers_is_no_weight_of_theirs():
    weights = {
        "w": m.array(1, 24, 6),
        "r": m.array(1, 24, 6),
        "r2": m.array(1, 24, 6),
        "h0": np.zeros((1, 2, 6), np.float32),
    }
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r", "", "", "h0", "h0"], ["", "h"], hidden_size=6),
        helper.make_node("LSTM", ["h", "w", "r2", "", "", "h0", "h0"], ["", "y"], hidden_size=6),
    ]
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    assert open_model(m.model(nodes, [m.info("x", 4, 2, 6)], [m.info("y", 1, 2, 6)], stored)).notes == ()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_what_was_tied_before_strip_is_not_told(value: float, dtype: type, tmp_path):
    """One matrix alone of its shape, two layers that read it: nothing was merged."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    tensor = numpy_helper.from_array(np.full((6, 6), value, dtype), "w")
    proto = m.model(nodes, [m.info("x", 1, 6, kind=kind)], [m.info("y", None, None, kind=kind)], [tensor])
    onnx.save(proto, tmp_path / "m.onnx")
    assert len(open_model(proto).notes) == 1
    strip(tmp_path / "m.onnx", tmp_path / "s.onnx")
    assert open_model(tmp_path / "s.onnx").notes == ()
    strip(tmp_path / "s.onnx", tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "s.onnx").read_bytes()


def test_constants_that_share_a_name_become_nodes_that_do_not(tmp_path):
    """onnxruntime makes initializers of Constant nodes before it looks for names that two nodes have."""
    arrays = {"a": m.array(6, 6), "b": m.array(6, 6, seed=1)}
    nodes = [
        helper.make_node("Constant", [], [key], name="anon", value=numpy_helper.from_array(array))
        for key, array in arrays.items()
    ]
    nodes += [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("MatMul", ["h", "b"], ["y"])]
    graph = helper.make_graph(nodes, "net", [m.info("x", 2, 6)], [m.info("y", 2, 6)])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "named.onnx"
    onnx.save(proto, path)
    x = m.array(2, 6, seed=9)
    np.testing.assert_allclose(m.run(path, x=x)[0], x @ arrays["a"] @ arrays["b"], rtol=1e-5)
    assert not m.run(stripped(proto, tmp_path)[1], x=x)[0].any()


@pytest.mark.parametrize("root", ["Sqrt", "Reciprocal"])
def test_what_a_norm_divides_by_becomes_ones(root: str, tmp_path):
    """A variance that no run measures afterwards would make numbers infinite as zeros."""
    variance = np.linspace(1, 2, 20, dtype=np.float32)
    nodes = [
        helper.make_node("Add", ["variance", "epsilon"], ["added"]),
        helper.make_node(root, ["added"], ["root"]),
        helper.make_node("Div", ["x", "root"], ["h"]),
        helper.make_node("MatMul", ["h", "w"], ["y"]),
    ]
    stored = {"variance": variance, "epsilon": np.float32(0), "w": np.ones((20, 3), np.float32) * np.arange(3)}
    inputs, outputs = (helper.make_tensor_value_info(n, 1, [2, size]) for n, size in (("x", 20), ("y", 3)))
    tensors = [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "g", [inputs], [outputs], tensors)
    model, _ = stripped(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path)
    np.testing.assert_array_equal(stored_tensors(model)["variance"].numpy(), np.ones(20, np.float32))
