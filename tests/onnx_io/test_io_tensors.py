"""stored_tensors and inject: every form of storage, its name, and new content in the same form."""

from __future__ import annotations

import io_models as m
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from onnx_ghn.errors import ModelWriteError
from onnx_ghn.onnx_io import external as external_data
from onnx_ghn.onnx_io import inject, read_model, stored_tensors, write_model

KINDS = {
    "m": "initializer",
    "s": "initializer",
    "c": "constant",
    "floats": "constant",
    "int": "constant",
    "z": "constant_of_shape",
    "if/then_branch/w": "subgraph",
    "if/else_branch/w": "subgraph",
    "only": "subgraph",
    "my::F/w": "function",
}


def test_every_form_has_its_name_and_content():
    stored = stored_tensors(read_model(m.every_form()))
    assert {name: tensor.kind for name, tensor in stored.items()} == KINDS
    assert stored["z"].shape == (64, 64)
    assert stored["z"].nbytes == 64 * 64 * 4
    assert stored["z"].numpy().strides == (0, 0)  # nothing allocated
    assert float(stored["z"].numpy()[3, 3]) == 0.5
    assert stored["floats"].numpy().tolist() == list(range(64))
    assert stored["floats"].dtype == ir.DataType.FLOAT
    assert stored["int"].shape == ()
    np.testing.assert_array_equal(stored["my::F/w"].numpy(), m.array(64, 64, seed=4))
    np.testing.assert_array_equal(stored["if/else_branch/w"].numpy(), m.array(64, 64, seed=5))
    assert stored["m"].node is None
    assert stored["m"].value.name == "m"


def test_huge_constant_of_shape_costs_nothing():
    shape = numpy_helper.from_array(np.array([1 << 20, 1 << 20]), "s")
    proto = m.model([helper.make_node("ConstantOfShape", ["s"], ["y"])], [], [m.info("y", 1 << 20, 1 << 20)], [shape])
    assert stored_tensors(read_model(proto))["y"].nbytes == 4 << 40


def test_unnamed_branches_still_get_unique_names():
    branch = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["t"])], "b", [], [m.info("t", 4)], [m.init("w", 4)]
    )
    ifs = [helper.make_node("If", ["cond"], [f"y{i}"], then_branch=branch, else_branch=branch) for i in range(2)]
    proto = m.model(ifs, [m.info("cond", kind=onnx.TensorProto.BOOL)], [m.info("y0", 4), m.info("y1", 4)])
    names = list(stored_tensors(read_model(proto)))
    assert len(names) == 4
    assert names[0] == "/else_branch/w"
    assert names[2] == "/else_branch/w#2"


@pytest.mark.parametrize("external", [False, True])
def test_inject_into_every_form(tmp_path, external):
    model = read_model(m.every_form())
    new = {
        name: m.array(*tensor.shape, seed=100 + i)
        for i, (name, tensor) in enumerate(stored_tensors(model).items())
        if tensor.dtype == ir.DataType.FLOAT
    }
    order = [node.name for node in model.graph]
    calls = []

    def give(name):
        return lambda: (calls.append(name), new[name])[1]

    inject(model, {name: give(name) for name in new})
    assert calls == []
    paths = write_model(model, tmp_path / "m.onnx", external=external)
    assert sorted(calls) == sorted(new)
    onnx.checker.check_model(str(paths[0]), full_check=True)
    again = stored_tensors(read_model(paths[0]))
    for name, array in new.items():
        np.testing.assert_array_equal(again[name].numpy(), array)
    assert again["z"].kind == "initializer"
    assert "s" not in again  # the shape of what is no ConstantOfShape any more
    assert int(again["int"].numpy()) == 7
    assert len(order) - 1 == len(model.graph)
    assert np.isfinite(m.run(paths[0], x=m.array(1, 64), cond=np.array(True))[0]).all()


def test_shared_shapes_and_outputs_and_old_ir(tmp_path):
    shape = numpy_helper.from_array(np.array([2, 3]), "s")
    nodes = [helper.make_node("ConstantOfShape", ["s"], [name]) for name in ("a", "b", "y")]
    nodes.append(helper.make_node("Add", ["a", "b"], ["z"]))
    outputs = [m.info("y", 2, 3), m.info("z", 2, 3)]
    for ir_version, opset in ((9, 17), (3, 9)):
        inputs = [m.info("s", 2, kind=onnx.TensorProto.INT64)] if ir_version == 3 else []
        model = read_model(m.model(nodes, inputs, outputs, [shape], ir_version=ir_version, opset=opset))
        inject(model, {"a": lambda: np.full((2, 3), 5, np.float32)})
        assert "s" in model.graph.initializers
        inject(model, {name: lambda: np.ones((2, 3), np.float32) for name in ("b", "y")})
        assert ("s" in model.graph.initializers) == (ir_version == 3)  # there it is part of the interface
        (path,) = write_model(model, tmp_path / "m.onnx", force=True)
        onnx.checker.check_model(str(path), full_check=True)
        feeds = {}
        y, z = m.run(path, **feeds)
        assert float(y[0, 0]) == 1
        assert float(z[0, 0]) == 6


@pytest.mark.parametrize(
    "bad", [np.zeros((64, 63), np.float32), np.zeros((64, 64), np.float64), np.zeros((4096,), np.float32)]
)
def test_wrong_arrays_are_refused_when_evaluated(tmp_path, bad):
    model = read_model(m.mlp())
    inject(model, {"w1": lambda: bad})
    with pytest.raises(ModelWriteError, match=r"'w1'.*float\[64,64\]"):
        write_model(model, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_unknown_names_are_refused_before_anything_changes():
    model = read_model(m.mlp())
    old = model.graph.initializers["w1"].const_value
    with pytest.raises(ModelWriteError, match="'w9'"):
        inject(model, {"w1": lambda: np.zeros((64, 64), np.float32), "w9": lambda: np.zeros(1)})
    assert model.graph.initializers["w1"].const_value is old


def test_one_array_at_a_time(tmp_path):
    import gc
    import weakref

    model = read_model(m.mlp(256))
    alive: list[weakref.ref] = []

    def give(shape):
        def function():
            gc.collect()
            assert not any(ref() is not None for ref in alive)
            array = np.ones(shape, np.float32)
            alive.append(weakref.ref(array))
            return array

        return function

    inject(model, {name: give(stored.shape) for name, stored in stored_tensors(model).items()})
    for external in (False, True):
        write_model(model, tmp_path / "m.onnx", external=external, force=True)
    assert len(alive) == 6


def test_narrow_types(tmp_path):
    for dtype in (
        ir.DataType.BFLOAT16,
        ir.DataType.FLOAT16,
        ir.DataType.DOUBLE,
        ir.DataType.FLOAT8E4M3FN,
        ir.DataType.INT4,
    ):
        old, new = np.zeros(2001).astype(dtype.numpy()), (np.arange(2001) % 5).astype(dtype.numpy())
        tensor = ir.serde.serialize_tensor(ir.Tensor(old, dtype=dtype, name="t"))
        proto = m.model([helper.make_node("Identity", ["t"], ["y"])], [], [m.info("y", 2001)], [tensor])
        model = read_model(proto)
        inject(model, {"t": lambda new=new: new})
        for external in (False, True):
            paths = write_model(model, tmp_path / "m.onnx", force=True, external=external)
            back = stored_tensors(read_model(paths[0]))["t"]
            np.testing.assert_array_equal(back.numpy().astype(float), new.astype(float))
            loaded = numpy_helper.to_array(onnx.load(str(paths[0])).graph.initializer[0])
            np.testing.assert_array_equal(loaded.astype(float), new.astype(float))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.uint8])
@pytest.mark.parametrize("external", [False, True])
def test_a_sample_is_what_the_whole_tensor_holds(tmp_path, dtype, external, monkeypatch):
    """Of a data file no more is read: not the megabyte that lies between."""
    values = np.random.default_rng(0).integers(0, 100, (64, 96)).astype(dtype)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])],
        "g",
        [],
        [helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(values.dtype), None)],
        [numpy_helper.from_array(values, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=external, location="d", size_threshold=0)
    (tensor,) = stored_tensors(read_model(tmp_path / "m.onnx")).values()
    if external:
        monkeypatch.setattr(external_data.DataFile, "view", lambda *arguments: pytest.fail("read whole"))
    for step, count in ((1, 7), (96, 64), (96, 1000), (5, 3), (1, 10**6)):
        found = tensor.sample(step, count)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, values.reshape(-1)[::step][:count])
    flat = values.reshape(-1)
    for step, count, width in ((96, 64, 8), (96, 3, 96), (5, 2, 5), (1000, 50, 200), (64, 200, 64)):
        expected = [flat[start : start + width] for start in range(0, len(flat), step)][:count]
        np.testing.assert_array_equal(tensor.sample(step, count, width), np.concatenate(expected))
