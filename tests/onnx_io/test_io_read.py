"""read_model: everything valid is read exactly; everything else is one line of ModelReadError."""

from __future__ import annotations

import contextlib
import glob
import os
import socket
from collections.abc import Callable

import io_models as m
import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn.errors import ModelReadError, ModelWriteError
from onnx_ghn.onnx_io import read_model, stored_tensors, wire, write_model

BACKEND = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data")


def fails(source, *words: str, **kwargs) -> str:
    with pytest.raises(ModelReadError) as caught:
        read_model(source, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


def test_file_bytes_and_proto_agree(tmp_path):
    proto = m.mlp()
    before = proto.SerializeToString()
    path = tmp_path / "m.onnx"
    onnx.save(proto, str(path))
    for source in (path, str(path), path.read_bytes(), proto):
        tensors = stored_tensors(read_model(source))
        assert list(tensors) == ["w1", "b1", "w2"]
        for proto_tensor in proto.graph.initializer:
            np.testing.assert_array_equal(tensors[proto_tensor.name].numpy(), numpy_helper.to_array(proto_tensor))
    model = read_model(proto)
    model.graph.initializers["w1"].name = "renamed"
    model.graph.initializers["renamed"].const_value = None
    assert proto.SerializeToString() == before


def test_no_second_copy_of_the_weights():
    proto = m.mlp(256)
    data = proto.SerializeToString()
    array = stored_tensors(read_model(data))["w1"].numpy()
    base: object = array
    while not isinstance(base, memoryview) and hasattr(base, "base"):
        base = base.base
    assert isinstance(base, memoryview)
    assert base.obj is data


def test_every_backend_model_is_read_and_written_back(tmp_path):
    paths = sorted(glob.glob(f"{BACKEND}/**/*.onnx", recursive=True))
    light = [path for path in paths if f"{os.sep}light{os.sep}" in path]
    assert len(light) == 9
    assert len(paths) >= 100
    for path in paths:
        (target,) = write_model(read_model(path), tmp_path / "back.onnx", force=True)
        source, back = onnx.load(path), onnx.load(str(target))
        # Text, as onnx_ir leaves out fields that are present but empty.
        assert onnx.printer.to_text(source.graph) == onnx.printer.to_text(back.graph), path
        assert [t.SerializeToString() for t in source.graph.initializer] == [
            t.SerializeToString() for t in back.graph.initializer
        ]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"hello, this is not a model\n", "text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"PK\x03\x04" + bytes(100), "zip"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\x80\x02\x8a\nl\xfc", "pickle"),
        (bytes(range(256)), "not an ONNX model"),
        (b"\x08\x07", "not an ONNX model"),
    ],
)
def test_other_files(tmp_path, content, word):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert str(path) in fails(path, word)


def test_what_is_no_regular_file(tmp_path):
    fails(tmp_path, "directory")
    fails(tmp_path / "none.onnx", "no such file")
    fails("/dev/zero", "device")
    fails("a\0b", "not a path")
    os.mkfifo(tmp_path / "fifo")
    fails(tmp_path / "fifo", "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        fails(tmp_path / "s")


def test_a_file_over_two_gib_is_refused_unread(tmp_path):
    path = tmp_path / "huge.onnx"
    with open(path, "wb") as file:
        file.truncate(2**31)
    fails(path, "2 GiB", "external data")


def _survives(data: bytes, tmp_path) -> bool:
    """Read, and where that works list and write: only our errors may come out."""
    try:
        model = read_model(data)
    except ModelReadError:
        return False
    for stored in stored_tensors(model).values():
        if not stored.is_sparse and stored.nbytes < 1 << 20:
            stored.numpy()
    with contextlib.suppress(ModelWriteError):
        write_model(model, tmp_path / "back.onnx", force=True)
    return True


def test_truncations(tmp_path):
    data = m.every_form().SerializeToString()
    assert _survives(data, tmp_path)
    assert not any(_survives(data[:end], tmp_path) for end in range(0, len(data), 64))


@pytest.mark.parametrize("n", [150, pytest.param(600, marks=pytest.mark.slow)])
def test_bit_flips(tmp_path, n):
    data = m.every_form().SerializeToString()
    # Flip where structure is: everything but the insides of large tensors.
    payloads = wire.Payloads()
    skeleton = wire.take_out(memoryview(data), payloads)
    random = np.random.default_rng(0)
    damaged = 0
    for _ in range(n):
        flipped = bytearray(skeleton)
        for at in random.integers(0, len(skeleton), random.integers(1, 4)):
            flipped[at] ^= 1 << random.integers(0, 8)
        try:
            pieces, _ = wire.put_back(bytes(flipped), payloads, [len(item) for item in payloads.items])
            whole = b"".join(bytes(payloads.items[p]) if isinstance(p, int) else p for p in pieces)
        except wire.WireError:
            whole = bytes(flipped)
        damaged += not _survives(whole, tmp_path)
    assert damaged > n // 3


@given(st.binary(max_size=400))
@settings(max_examples=150, deadline=None)
def test_random_bytes(data):
    with pytest.raises(ModelReadError):
        read_model(data)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_wire_round_trip(data):
    """put_back undoes take_out on any nesting of large and small tensors, whole or in attributes."""
    sizes = data.draw(st.lists(st.sampled_from([0, 1, 255, 256, 257, 5000]), max_size=6))
    proto = m.mlp(4)
    for i, size in enumerate(sizes):
        tensor = numpy_helper.from_array(np.arange(size, dtype=np.float32), f"t{i}")
        if data.draw(st.booleans()):
            proto.graph.initializer.append(tensor)
        else:
            inner = helper.make_graph([helper.make_node("Constant", [], [f"t{i}"], value=tensor)], "b", [], [])
            proto.graph.node.append(helper.make_node("If", ["x"], [], then_branch=inner, else_branch=inner))
    whole = proto.SerializeToString()
    payloads = wire.Payloads()
    skeleton = wire.take_out(memoryview(whole), payloads)
    assert len(skeleton) < 16000 or not payloads.items
    pieces, length = wire.put_back(skeleton, payloads, [len(item) for item in payloads.items])
    assert b"".join(bytes(payloads.items[p]) if isinstance(p, int) else p for p in pieces) == whole
    assert length == len(whole)


def _edit(change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    proto = m.every_form()
    change(proto)
    return proto


def _nest(depth: int) -> onnx.ModelProto:
    graph = helper.make_graph([], "leaf", [], [])
    for _ in range(depth):
        node = helper.make_node("If", ["cond"], [])
        node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g.CopyFrom(graph)
        graph = helper.make_graph([node], "g", [], [])
    proto = m.mlp()
    proto.graph.input.append(m.info("cond", kind=TensorProto.BOOL))
    proto.graph.node.extend(graph.node)
    return proto


def _function(*names: str) -> list[onnx.FunctionProto]:
    """Each calls the next; the last the first."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    return [
        helper.make_function("my", a, ["x"], ["y"], [helper.make_node(b, ["x"], ["y"], domain="my")], opsets)
        for a, b in zip(names, names[1:] + names[:1], strict=True)
    ]


def _branch(proto: onnx.ModelProto) -> onnx.GraphProto:
    return proto.graph.node[8].attribute[0].g


BAD_STRUCTURES = {
    "no graph": (lambda p: p.ClearField("graph"), "not an ONNX model"),
    "ir version 0": (lambda p: setattr(p, "ir_version", 0), "IR version 0"),
    "ir version 99": (lambda p: setattr(p, "ir_version", 99), "update onnx"),
    "no opset": (lambda p: p.ClearField("opset_import"), "no opset"),
    "opset 0": (lambda p: setattr(p.opset_import[0], "version", 0), "opset 0"),
    "domain": (lambda p: setattr(p.graph.node[4], "domain", "com.x"), "com.x"),
    "dangling": (
        lambda p: p.graph.node[4].input.__setitem__(1, "nothing"),
        "'nothing', which nothing produces",
    ),
    "output": (lambda p: setattr(p.graph.output[0], "name", "nothing"), "output 'nothing'"),
    "branch output": (lambda p: setattr(_branch(p).output[0], "name", "h3"), "output 'h3'"),
    "ssa": (lambda p: p.graph.node[4].output.__setitem__(0, "m"), "'m' twice"),
    "two initializers": (lambda p: setattr(p.graph.initializer[1], "name", "m"), "initializers named 'm'"),
    "no name": (lambda p: p.graph.initializer[0].ClearField("name"), "without name"),
    "two inputs": (lambda p: setattr(p.graph.input[1], "name", "x"), "inputs named 'x'"),
    "cycle": (lambda p: p.graph.node[5].input.__setitem__(0, "h3"), "cycle"),
    "no operator": (lambda p: p.graph.node[4].ClearField("op_type"), "no operator"),
    "short raw": (
        lambda p: setattr(p.graph.initializer[0], "raw_data", b"1234"),
        "needs 16384 bytes but holds 4",
    ),
    "no data": (lambda p: p.graph.initializer[0].ClearField("raw_data"), "weights removed"),
    "huge": (lambda p: p.graph.initializer[0].dims.extend([1 << 40]), "bytes but holds"),
    "overflow": (lambda p: p.graph.initializer[0].dims.extend([1 << 62, 1 << 62]), "impossible shape"),
    "zero and huge": (lambda p: p.graph.initializer[0].dims.extend([0, 1 << 62]), "impossible shape"),
    "negative": (lambda p: p.graph.initializer[0].dims.__setitem__(0, -64), "negative shape"),
    "rank": (lambda p: p.graph.initializer[0].dims.extend([1] * 70), "72 dimensions"),
    "data type": (lambda p: setattr(p.graph.initializer[0], "data_type", 77), "unknown data type 77"),
    "undefined": (lambda p: setattr(p.graph.initializer[0], "data_type", 0), "unknown data type 0"),
    "twice": (lambda p: p.graph.initializer[0].float_data.append(1), "twice"),
    "segment": (lambda p: setattr(p.graph.initializer[0].segment, "begin", 1), "segments"),
    "typed length": (lambda p: p.graph.node[3].attribute[0].t.float_data.append(1), "1 values but holds 2"),
    "attribute type": (lambda p: setattr(p.graph.node[2].attribute[0], "type", 1), "another kind of value"),
    "attribute missing": (lambda p: p.graph.node[0].attribute[0].ClearField("t"), "another kind of value"),
    "attribute twice": (
        lambda p: p.graph.node[0].attribute.append(p.graph.node[0].attribute[0]),
        "two attributes",
    ),
    "function output": (lambda p: p.functions[0].output.__setitem__(0, "zz"), "'zz', which nothing produces"),
    "function twice": (lambda p: p.functions.append(p.functions[0]), "twice"),
    "function dangling": (
        lambda p: p.functions[0].node[1].input.__setitem__(0, "m"),
        "'m', which nothing produces",
    ),
    "calls itself": (lambda p: p.functions.extend(_function("A")), "calls itself"),
    "call one another": (lambda p: p.functions.extend(_function("A", "B", "C")), "calls itself"),
    "bad value type": (lambda p: setattr(p.graph.input[0].type.tensor_type, "elem_type", 77), "77"),
    "map": (lambda p: setattr(p.graph.input[0].type.map_type, "key_type", 1), "maps"),
}


@pytest.mark.parametrize("case", BAD_STRUCTURES)
def test_bad_structures(case):
    change, words = BAD_STRUCTURES[case]
    fails(_edit(change), words)


def test_deep_nesting():
    assert read_model(_nest(20)) is not None
    # Deeper than protobuf's own parser goes, so written by hand.
    graph, kind = b"", b""
    for _ in range(3000):
        attribute = b"\x32" + wire._varint(len(graph)) + graph  # AttributeProto.g
        node = b"\x2a" + wire._varint(len(attribute)) + attribute  # NodeProto.attribute
        graph = b"\x0a" + wire._varint(len(node)) + node  # GraphProto.node
        sequence = b"\x0a" + wire._varint(len(kind)) + kind  # TypeProto.Sequence.elem_type
        kind = b"\x22" + wire._varint(len(sequence)) + sequence  # TypeProto.sequence_type
    fails(b"\x08\x09\x3a" + wire._varint(len(graph)) + graph)
    value = b"\x12" + wire._varint(len(kind)) + kind  # ValueInfoProto.type
    graph = b"\x5a" + wire._varint(len(value)) + value  # GraphProto.input
    fails(b"\x08\x09\x3a" + wire._varint(len(graph)) + graph)


def test_names_that_are_not_text():
    data = m.mlp().SerializeToString().replace(b"second", b"\xff\xfe\xff\xfe\xff\xfe")
    fails(data, "not text")


def test_unsorted_nodes_are_sorted():
    proto = m.mlp()
    nodes = list(reversed(proto.graph.node))
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    assert [node.name for node in read_model(proto).graph] == ["first", "bias", "second"]


def test_onnxruntimes_opsets_are_imported_where_a_model_uses_them(tmp_path):
    """Olive saves what onnxruntime fused without the import, and onnxruntime runs that."""
    node = helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")
    proto = m.model([node], [m.info("x", 2)], [m.info("y", 2)])
    assert [entry.domain for entry in proto.opset_import] == [""]
    read = read_model(proto)
    assert dict(read.opset_imports) == {"": 17, "com.microsoft": 1}
    write_model(read, tmp_path / "m.onnx")
    onnx.checker.check_model(str(tmp_path / "m.onnx"))
    x = np.float32([-1, 2])
    np.testing.assert_array_equal(m.run(tmp_path / "m.onnx", x=x)[0], m.run(proto, x=x)[0])
    node.domain = "com.example"
    fails(m.model([node], [m.info("x", 2)], [m.info("y", 2)]), "'com.example'", "not imported")


def test_input_defaults_of_ir_3_are_kept(tmp_path):
    proto = m.mlp(ir_version=3, opset=9)
    proto.graph.input.extend([m.info("w1", 64, 64), m.info("b1", 64), m.info("w2", 64, 64)])
    onnx.checker.check_model(proto)
    model = read_model(proto)
    assert {stored.kind for stored in stored_tensors(model).values()} == {"input_default"}
    (path,) = write_model(model, tmp_path / "m.onnx")
    assert [value.name for value in onnx.load(str(path)).graph.input] == ["x", "w1", "b1", "w2"]


def test_attributes_without_type_as_in_ir_1():
    proto = m.every_form()
    proto.graph.node[0].attribute[0].ClearField("type")
    assert stored_tensors(read_model(proto))["c"].shape == (64, 64)


@pytest.mark.parametrize("dtype", [d for d in ir.DataType if d not in (ir.DataType.UNDEFINED, ir.DataType.STRING)])
@pytest.mark.parametrize("count", [0, 3, 2000])
def test_every_data_type(dtype, count, tmp_path):
    values = (np.arange(count) % 2).astype(dtype.numpy())
    tensor = ir.serde.serialize_tensor(ir.Tensor(values, dtype=dtype, name="t"))
    proto = m.model([helper.make_node("Identity", ["t"], ["y"])], [], [m.info("y", count)], [tensor])
    proto.graph.output[0].type.tensor_type.elem_type = dtype.value
    model = read_model(proto)
    for external in (False, True):
        paths = write_model(model, tmp_path / "m.onnx", force=True, external=external)
        back = stored_tensors(read_model(paths[0]))["t"]
        assert back.dtype == dtype
        np.testing.assert_array_equal(back.numpy().astype(np.complex128), values.astype(np.complex128))


def test_typed_data_is_checked_and_kept():
    kinds = [(TensorProto.FLOAT, [1.0, 2.0]), (TensorProto.INT64, [1, 2]), (TensorProto.DOUBLE, [1.0, 2.0])]
    kinds += [(TensorProto.BOOL, [True, False]), (TensorProto.FLOAT16, np.ones(2, np.float16))]
    kinds += [(TensorProto.BFLOAT16, np.ones(2, ml_dtypes.bfloat16)), (TensorProto.UINT32, [1, 2])]
    kinds += [(TensorProto.COMPLEX64, [1 + 1j, 2]), (TensorProto.STRING, [b"a", b"b"])]
    for kind, values in kinds:
        tensor = helper.make_tensor("t", kind, [2], values)
        proto = m.model([helper.make_node("Identity", ["t"], ["y"])], [], [m.info("y", 2, kind=kind)], [tensor])
        stored = stored_tensors(read_model(proto))["t"]
        assert stored.is_string == (kind == TensorProto.STRING)
        np.testing.assert_array_equal(stored.numpy(), np.asarray(values))
        tensor.dims[0] = 3
        proto.graph.initializer[0].dims[0] = 3
        fails(proto, "values but holds")


def test_sparse_tensors_are_carried(tmp_path):
    values = numpy_helper.from_array(np.ones(3, np.float32), "sp")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([0, 5, 7]), "i"), [4, 4])
    nodes = [
        helper.make_node("Constant", [], ["sc"], sparse_value=sparse),
        helper.make_node("Add", ["sp", "sc"], ["y"]),
    ]
    proto = m.model(nodes, [], [m.info("y", 4, 4)], sparse=[sparse])
    model = read_model(proto)
    stored = stored_tensors(model)
    assert [(t.name, t.is_sparse, t.shape) for t in stored.values()] == [
        ("sp", True, (4, 4)),
        ("sc", True, (4, 4)),
    ]
    dense = np.zeros(16, np.float32)
    dense[[0, 5, 7]] = 1
    for tensor in stored.values():
        np.testing.assert_array_equal(tensor.numpy(), dense.reshape(4, 4))
    (path,) = write_model(model, tmp_path / "m.onnx")
    assert onnx.load(str(path)).SerializeToString() == proto.SerializeToString()
    proto.graph.sparse_initializer[0].indices.dims[0] = 2
    fails(proto)


@pytest.mark.parametrize(("dims", "match"), [([4, 1], "outside"), ([1 << 20, 1 << 20], "no dense content")])
def test_sparse_tensors_of_other_sizes_have_no_dense_content(dims, match):
    values = numpy_helper.from_array(np.ones(3, np.float32), "sp")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([0, 5, 7]), "i"), dims)
    proto = m.model([helper.make_node("Identity", ["sp"], ["y"])], [], [m.info("y", 4, 4)], sparse=[sparse])
    with pytest.raises(ModelReadError, match=match):
        stored_tensors(read_model(proto))["sp"].numpy()
