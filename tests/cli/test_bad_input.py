"""Bad input through the whole command: one clear line and exit 1 or 2, or a valid model; never anything half-done.

What `Predictor` (cli_tools) holds of every run: exactly one line that begins with "error:" and was foreseen, no
traceback, nothing beside the output, nothing printed on success but the report. Over 900 cases.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import cli_models as models
import io_models as m
import numpy as np
import onnx
import pytest
from cli_tools import command, one_line, snapshot
from graph_models import Net
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from test_io_external import entries
from test_io_read import BAD_STRUCTURES, _nest

from onnx_ghn import limits
from onnx_ghn.onnx_io import wire

EXAMPLES = Path(__file__).resolve().parents[2] / "data" / "examples"
NO_CALIBRATION = ("--calibrate", "none")


@pytest.fixture(scope="session")
def real(tmp_path_factory, ghn_folder) -> dict[str, bytes]:
    """Real small files: exporters' work filled with weights, and models of every construct."""
    folder = tmp_path_factory.mktemp("real")
    target = folder / "audio.onnx"
    outcome = command("predict", EXAMPLES / "audio_m5.onnx", "-o", target, "--ghn", ghn_folder)
    assert outcome.code == 0, outcome.err
    return {
        "filled": target.read_bytes(),
        "stripped": (EXAMPLES / "lstm_text.onnx").read_bytes(),
        "conv": models.conv_net().SerializeToString(),
        "loops": models.loops().SerializeToString(),
    }


@pytest.fixture
def small_machine(monkeypatch) -> None:
    """256 MiB of memory, so that what is too large is found early."""
    from onnx_ghn import calibration_inputs, prediction, runtime
    from onnx_ghn.graph import model

    for module in (limits, prediction, runtime, calibration_inputs, model):
        monkeypatch.setattr(module, "memory_bytes", lambda: 256 << 20)


def save(folder: Path, proto: onnx.ModelProto | bytes) -> Path:
    """In a folder of its own, so that what lies beside it can be watched."""
    folder.mkdir(exist_ok=True)
    path = folder / "m.onnx"
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return path


# -- damage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["filled", "stripped", "conv", "loops"])
def test_truncations(real, tmp_path, predictor, name):
    """25 of each: everywhere in the structure, and one byte short."""
    data = real[name]
    random = np.random.default_rng(len(data))
    for end in (*random.integers(0, len(data), 23).tolist(), 0, len(data) - 1):
        path = save(tmp_path / "in", data[:end])
        predictor.fails(path, str(path), options=NO_CALIBRATION, watch=path.parent)


def flipped(data: bytes, random: np.random.Generator) -> bytes:
    """One to three bits flipped where structure is: outside the insides of large tensors."""
    payloads = wire.Payloads()
    skeleton = bytearray(wire.deflate(memoryview(data), payloads))
    for at in random.integers(0, len(skeleton), random.integers(1, 4)):
        skeleton[at] ^= 1 << random.integers(0, 8)
    try:
        pieces, _ = wire.inflate(bytes(skeleton), payloads, [len(item) for item in payloads.items])
    except wire.WireError:
        return bytes(skeleton)
    return b"".join(bytes(payloads.items[p]) if isinstance(p, int) else p for p in pieces)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["filled", "stripped", "conv", "loops"])
def test_bit_flips(real, tmp_path, predictor, small_machine, name, seed):
    """20 of each: refused, or a model that parses, with the tensors of the damaged one."""
    random = np.random.default_rng([seed, len(name)])
    codes = set()
    for i in range(20):
        path = save(tmp_path / "in", flipped(real[name], random))
        began = time.perf_counter()
        calibrate = "noise" if name == "conv" and i % 2 else "none"
        outcome = predictor(path, "--calibrate", calibrate, watch=path.parent)
        assert time.perf_counter() - began < 10
        codes.add(outcome.code)
        if outcome.code == 0:
            given_, taken = onnx.load(str(path), load_external_data=False), predictor.take()
            assert len(taken.graph.output) == len(given_.graph.output)
    assert codes <= {0, 1}


@given(at=st.lists(st.integers(0, 1 << 20), min_size=1, max_size=4), bits=st.integers(1, 255), cut=st.booleans())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage(real, tmp_path, predictor, at, bits, cut):
    data = bytearray(real["conv"])
    for place in at:
        data[place % len(data)] ^= bits
    path = save(tmp_path / "in", bytes(data[: at[0] % len(data)] if cut else data))
    predictor(path, *NO_CALIBRATION, watch=path.parent)
    predictor.clear()


@given(data=st.binary(max_size=300))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes(tmp_path, predictor, data):
    predictor.fails(save(tmp_path / "in", data))


def test_flips_in_a_model_with_external_data(tmp_path, predictor):
    """40 cases."""
    folder = tmp_path / "in"
    folder.mkdir()
    m.save_external(m.mlp(), folder / "m.onnx")
    data = (folder / "m.onnx").read_bytes()
    random = np.random.default_rng(0)
    for _ in range(40):
        path = save(folder, flipped(data, random))
        predictor(path, watch=folder)
        predictor.clear()


# -- structure ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", BAD_STRUCTURES)
def test_bad_structures(tmp_path, predictor, case):
    proto = m.every_form()
    change, words = BAD_STRUCTURES[case]
    change(proto)
    predictor.fails(save(tmp_path / "in", proto), words, watch=tmp_path / "in")


def test_graphs_in_graphs(tmp_path, predictor):
    predictor.works(save(tmp_path / "in", _nest(20)))
    predictor.fails(save(tmp_path / "in", m.model([], [], [])), "no trainable tensors")


def _without(index: int):
    return lambda p: p.graph.node[index].ClearField("input")


def _attribute(index: int, name: str, value: object):
    def change(proto: onnx.ModelProto) -> None:
        node = proto.graph.node[index]
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


def _every_node(change):
    return [
        (f"{change.__name__.strip('_')} {i}", lambda p, i=i: change(i)(p))
        for i in range(len(models.conv_net().graph.node))
    ]


def _no_outputs(index: int):
    return lambda p: p.graph.node[index].output.__setitem__(0, "")


def _strange_attributes() -> list[tuple[str, object]]:
    """Every attribute that a handler asks for, with a value of another type, of every node of the net."""
    found = []
    values = ["text", 1.5, [1, 2, 3], [-1], 0, -7, 2**62, ["a"], numpy_helper.from_array(np.ones(2, np.float32))]
    names = {
        "Conv": ["group", "dilations", "kernel_shape", "strides"], "BatchNormalization": ["epsilon", "training_mode"],
        "Gemm": ["transB", "transA"], "Flatten": ["axis"], "GlobalAveragePool": ["keepdims"],
    }  # fmt: skip
    for i, node in enumerate(models.conv_net().graph.node):
        for name in names.get(node.op_type, [])[: 4 if i == 0 else 2]:
            found += [(f"{node.op_type} {i} {name} {k}", _attribute(i, name, value)) for k, value in enumerate(values)]
    return found


ODD_NODES = [*_every_node(_without), *_every_node(_no_outputs), *_strange_attributes()]


@pytest.mark.parametrize("group", range(8))
def test_nodes_that_break_the_rules(tmp_path, predictor, small_machine, group):
    """Missing inputs and outputs, attributes of other types and senseless values: refused or filled."""
    for i, (name, change) in enumerate(ODD_NODES[group::8]):
        proto = models.conv_net()
        change(proto)
        path = save(tmp_path / "in", proto)
        outcome = predictor(path, "--calibrate", "noise" if i % 3 == 0 else "none", watch=path.parent)
        if outcome.code == 0:
            predictor.take()
        elif "nothing produces" not in outcome.err and "cannot be understood" not in outcome.err:
            assert "onnx.checker" in outcome.err, (name, outcome.err)


SHAPES = [
    (),
    (1,),
    (4,),
    (0,),
    (1, 1),
    (4, 0),
    (4, 4),
    (0, 0, 3, 3),
    (4, 2, 3),
    (4, 4, 3, 3),
    (2, 2, 2, 2, 2),
    (1,) * 7,
]
OPERATORS = [
    ("Conv", {}), ("Conv", {"group": 2}), ("ConvTranspose", {"group": 2}), ("Gemm", {"transB": 1}), ("Gemm", {}),
    ("MatMul", {}), ("Einsum", {"equation": "...i,ij->...j"}), ("Einsum", {"equation": "ab,bc->ac"}),
    ("Einsum", {"equation": "ab"}), ("Einsum", {"equation": "->,,"}), ("LSTM", {"hidden_size": 4}), ("GRU", {}),
    ("RNN", {}), ("BatchNormalization", {}), ("LayerNormalization", {}), ("InstanceNormalization", {}),
    ("GroupNormalization", {"num_groups": 0}), ("Add", {}), ("Mul", {}), ("Div", {}), ("Sub", {}), ("Sum", {}),
    ("Concat", {"axis": 9}), ("PRelu", {}), ("MaxPool", {"kernel_shape": [1, 2, 3, 4, 5]}), ("Sqrt", {}), ("Pow", {}),
    ("ReduceMean", {"axes": [99]}), ("Gather", {"axis": 9}), ("Transpose", {"perm": [7, 7]}), ("Reshape", {}),
    ("Softmax", {}), ("Attention", {}), ("Unsqueeze", {}), ("Squeeze", {}), ("QLinearConv", {}),
]  # fmt: skip


@pytest.mark.parametrize(("op_type", "attributes"), OPERATORS, ids=lambda v: v if isinstance(v, str) else "")
def test_weights_of_every_rank(tmp_path, predictor, op_type, attributes):
    """12 shapes of weight for each operator, most of which it does not take."""
    for shape in SHAPES:
        proto = models.one_op(op_type, *[shape] * 4, **attributes)
        path = save(tmp_path / "in", proto)
        predictor(path, *NO_CALIBRATION, watch=path.parent)
        predictor.clear()


@pytest.mark.parametrize(
    ("op_type", "n_inputs"),
    [("Attention", 7), ("EmbedLayerNormalization", 7), ("SkipLayerNormalization", 5), ("GroupNorm", 3), ("Nothing", 3)],
)
def test_contrib_operators_of_every_rank(tmp_path, predictor, op_type, n_inputs):
    for shape in SHAPES:
        proto = models.one_op(op_type, *[shape] * (n_inputs - 1), domain="com.microsoft")
        predictor(save(tmp_path / "in", proto), *NO_CALIBRATION)
        predictor.clear()


def test_gather_of_a_vector_and_without_axis(tmp_path, predictor):
    for table in [(4,), (0, 4), (5, 4), (1, 1, 1)]:
        net = Net()
        index = net.input(2, kind=TensorProto.INT64)
        y = net.op("Gather", net.weight(*table, name="table"), index, axis=-1)
        predictor(save(tmp_path / "in", net.model(net.linear(y, 4, 4, "last"))))
        predictor.clear()


def test_shape_arithmetic_that_makes_no_sense(tmp_path, predictor):
    """Constants that do not broadcast, divide by zero, grow without bound, or go thousands of steps deep."""
    cases = {
        "Concat": ([1.0], [[1.0]]), "Mul": ([1.0, 2.0], [1.0, 2.0, 3.0]), "Div": ([1.0], [0.0]), "Div ": ([1], [0]),
        "Sqrt": ([-1.0],), "Add": (["a"], ["b"]), "Gather": ([1], [2**40]), "Gather ": ([1], [1.5]),
        "Sub": ([np.nan], [np.inf]),
        "Range": ([-(2**63)], [2**63 - 1], [1]), "Range ": ([0.0], [1.0], [1e-300]), "Range  ": ([0], [9], [0]),
    }  # fmt: skip
    for op_type, arrays in cases.items():
        net = Net()
        x = net.input(2, 4)
        kinds = [object if isinstance(a[0], str) else None for a in arrays]
        names = [net.weight(name=f"c{i}", array=np.array(a, kinds[i])) for i, a in enumerate(arrays)]
        kwargs = {"axis": 0} if op_type == "Concat" else {}
        shape = net.op(op_type.strip(), *names, **kwargs)
        y = net.op("Reshape", net.weight(4, 4, name="w"), shape)
        predictor(save(tmp_path / "in", net.model(net.linear(net.op("MatMul", x, y), 4, 4, "last"))))
        predictor.clear()
    net = Net()
    x = net.input(2, 4)
    big = net.number([2] * 64, np.int64)
    for _ in range(40):  # would be 2^46 numbers
        big = net.op("Concat", big, big, axis=0)
    deep = net.number([4], np.int64)
    for _ in range(1500):  # beyond Python's limit of recursion
        deep = net.op("Add", deep, net.number([0], np.int64))
    y = net.op("Reshape", net.op("Reshape", net.weight(4, 4, name="w"), big), deep)
    tracemalloc.start()
    predictor.works(save(tmp_path / "in", net.model(net.linear(net.op("MatMul", x, y), 4, 4, "last"))))
    assert tracemalloc.get_traced_memory()[1] < 200 << 20
    tracemalloc.stop()


def test_functions_that_multiply(tmp_path, predictor, monkeypatch):
    """Twelve functions that each call the next ten times: 10^12 operators in 10 KB."""
    from onnx_ghn.graph import flatten

    monkeypatch.setattr(flatten, "_MAX_OPS", 20_000)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    functions = []
    for level in range(12):
        kind = {"op_type": f"F{level + 1}", "domain": "my"} if level < 11 else {"op_type": "Relu"}
        nodes = [helper.make_node(inputs=[f"v{i}"], outputs=[f"v{i + 1}"], **kind) for i in range(10)]
        functions.append(helper.make_function("my", f"F{level}", ["v0"], ["v10"], nodes, opsets))
    nodes = [helper.make_node("F0", ["x"], ["h"], domain="my"), helper.make_node("MatMul", ["h", "w"], ["y"])]
    proto = m.model(nodes, [m.info("x", 1, 4)], [m.info("y", 1, 4)], [m.init("w", 4, 4)], functions=functions)
    predictor.fails(save(tmp_path / "in", proto), "without functions")


# -- values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 1e-45, 0.0])
def test_weights_of_any_value(tmp_path, predictor, value):
    """What the weights were does not matter: the prediction is the same and finite."""
    proto = models.conv_net()
    for tensor in proto.graph.initializer:
        array = np.full_like(numpy_helper.to_array(tensor), value)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    taken = predictor.works(save(tmp_path / "in", proto))
    for tensor in taken.graph.initializer:
        assert np.isfinite(numpy_helper.to_array(tensor)).all(), tensor.name


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int8, np.complex64, np.bool_, object])
def test_weights_of_any_type(tmp_path, predictor, kind):
    array = np.ones((4, 4), np.float32).astype(kind) if kind is not object else np.array([["a"] * 4] * 4, object)
    net = Net()
    y = net.op("MatMul", net.input(2, 4), net.weight(name="odd", array=array))
    predictor(save(tmp_path / "in", net.model(net.linear(y, 4, 4, "last"))))


def test_nothing_to_predict(tmp_path, predictor):
    empty = helper.make_model(helper.make_graph([], "g", [], []), opset_imports=[helper.make_opsetid("", 17)])
    empty.ir_version = 9
    relu = m.model([helper.make_node("Relu", ["x"], ["y"])], [m.info("x", 1)], [m.info("y", 1)])
    scalar = m.model([helper.make_node("Add", ["x", "c"], ["y"])], [m.info("x", 1)], [m.info("y", 1)], [m.init("c")])
    zero = m.model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], [m.info("x", 1, 0)], [m.info("y", 1, 0)], [m.init("w", 0, 0)]
    )
    for proto in (empty, relu, scalar, zero):
        predictor.fails(save(tmp_path / "in", proto), "no trainable tensors")


# -- size --------------------------------------------------------------------------------------------------


def _declares(shape: tuple[int, ...], where: str = "weight", reads: int = 1) -> onnx.ModelProto:
    """A few hundred bytes that stand for a weight of that shape."""
    net = Net()
    x = net.input("N", shape[0])
    size = net.constant(np.array(shape, np.int64))
    nodes = net.nodes
    if where == "branch":
        net.nodes = []
        w = net.op("ConstantOfShape", size)
        y = net.op("MatMul", x, w)
        branch = helper.make_graph(net.nodes, "b", [], [helper.make_tensor_value_info(y, m.F, None)])
        net.nodes = nodes
        cond = net.input(name="cond", kind=TensorProto.BOOL)
        out = net.op("If", cond, then_branch=branch, else_branch=branch)
    elif where == "table":
        out = net.op("Gather", net.op("ConstantOfShape", size), net.input(2, name="i", kind=TensorProto.INT64))
    elif where == "bias":
        out, w = x, net.op("ConstantOfShape", size)
        for _ in range(reads):
            out = net.op("Relu", net.op("Add", out, w))
    else:
        out = x
        w = net.op("ConstantOfShape", size)
        for _ in range(reads):
            out = net.op("MatMul", out, w)
    return net.model(out)


@pytest.mark.parametrize("command_name", ["predict", "inspect", "strip", "draw"])
@pytest.mark.parametrize("where", ["weight", "branch", "table", "bias", "statistic"])
@pytest.mark.parametrize("shape", [(10**6, 10**6), (10**12,), (2**57,), (10**4, 2 * 10**7)])
def test_huge_shapes(tmp_path, predictor, command_name, where, shape):
    """10^11 elements and more in a few hundred bytes: nothing of the size is ever allocated."""
    if where == "statistic":
        proto = models.conv_net()
        size = numpy_helper.from_array(np.array(shape, np.int64), "huge_size")
        proto.graph.initializer.append(size)
        proto.graph.node.insert(0, helper.make_node("ConstantOfShape", ["huge_size"], ["huge"]))
        norms = [node for node in proto.graph.node if node.op_type == "BatchNormalization"]
        norms[0].input[3] = norms[1].input[4] = "huge"
    else:
        proto = _declares(shape, where, reads=2)
    path = save(tmp_path / "in", proto)
    tracemalloc.start()
    if command_name == "predict":
        outcome = predictor(path, watch=path.parent)
        if where in ("weight", "branch", "bias") and len(shape) > (where != "bias"):
            one_line(outcome, "memory")
    elif command_name == "inspect":
        outcome = command("inspect", path, "--json")
        assert json.loads(outcome.out)["coverage"]["parameters"] is not None
    else:
        target = tmp_path / ("x.onnx" if command_name == "strip" else "x.dot")
        outcome = command(command_name, path, "-o", target)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20
    assert outcome.code in (0, 1)
    assert len(outcome.lines) == outcome.code


@pytest.mark.parametrize("option", [("--exclude", "."), ("--include", "nothing"), ("--fallback", "keep")])
def test_huge_shapes_left_out(tmp_path, predictor, option):
    """What is not to be filled costs nothing, and stays as it was written."""
    path = save(tmp_path / "in", _declares((10**6, 10**6)))
    if option[0] == "--fallback":
        predictor.fails(path, "--exclude", options=option)
        return
    taken = predictor.works(path, *option)
    assert [node.op_type for node in taken.graph.node] == ["Constant", "ConstantOfShape", "MatMul"]


def test_more_than_the_disk_holds(tmp_path, predictor, monkeypatch):
    """Each tensor fits in memory, all of them do not fit on the disk: told before anything is written."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 30, 1 << 30, 1 << 20))
    path = save(tmp_path / "in", m.mlp(1024))
    line = predictor.fails(path, "its disk has 0.0 GiB free")
    assert "free some space" in line


def test_more_nodes_than_memory(tmp_path, predictor, monkeypatch):
    from onnx_ghn.graph import model

    monkeypatch.setattr(model, "memory_bytes", lambda: 1 << 20)
    net = Net()
    x = net.input(1, 4)
    for i in range(300):
        x = net.op("Add", net.linear(x, 4, 4, f"w{i}"), net.weight(4, name=f"b{i}"))
    predictor.fails(save(tmp_path / "in", net.model(x)), "601 nodes", "more memory")


def test_a_huge_model_in_a_process_of_its_own(tmp_path, ghn_folder):
    """Peak memory as the kernel counts it, that of onnxruntime included."""
    net = Net()
    x = net.input(1, 1, 8, 8)
    y = models.batch_norm(net, net.op("Expand", x, net.number([1, 4, 10**5, 10**6], np.int64)), 4, "bn")
    paths = [save(tmp_path / "a", net.model(y)), save(tmp_path / "b", _declares((10**6, 10**6)))]
    code = """
        import sys
        from cli_tools import command
        for path in sys.argv[3:]:
            outcome = command("predict", path, "-o", sys.argv[1], "--ghn", sys.argv[2])
            # Not ru_maxrss: a child process inherits its parent's there.
            status = open("/proc/self/status").read()
            peak_mib = int(status.split("VmHWM:")[1].split()[0]) // 1024
            print(peak_mib, outcome.code, len(outcome.lines), *outcome.lines)
    """
    run = _python(code, tmp_path / "out.onnx", ghn_folder, *paths)
    assert run.returncode == 0, run.stderr
    for line, code_ in zip(run.stdout.splitlines(), (0, 1), strict=True):  # the first is only not calibrated
        assert int(line.split()[0]) < 1024, line
        assert line.split()[1:3] == [str(code_)] * 2
        assert "unexpected" not in line


def _python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    import textwrap

    folder = os.path.dirname(__file__)
    path = os.pathsep.join([folder, os.path.join(folder, "..", ".."), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


# -- files -------------------------------------------------------------------------------------------------


def test_what_is_no_model(tmp_path, predictor):
    contents = [
        b"",
        b"hello\n",
        b"PK\x03\x04" + bytes(99),
        b"\x89HDF\r\n\x1a\n",
        b"<html>",
        b"\x80\x02}",
        bytes(4096),
        b"\xff" * 99,
    ]
    for content in contents:
        predictor.fails(save(tmp_path / "in", content), "m.onnx", watch=tmp_path / "in")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(tmp_path)
        server.bind("s")
        for path in (
            tmp_path,
            "/dev/zero",
            "/dev/null",
            "fifo",
            "s",
            "loop",
            "no.onnx",
            "no/m.onnx",
            "",
            "x" * 300,
            "a\nb",
        ):
            began = time.perf_counter()
            predictor.fails(path)
            assert time.perf_counter() - began < 5


@pytest.fixture
def external(tmp_path) -> Path:
    """A model with external data, and things outside its folder that it may not read."""
    folder = tmp_path / "in"
    folder.mkdir()
    m.save_external(m.mlp(), folder / "m.onnx")
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(1 << 16))
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(secret, tmp_path / "elsewhere")
    (folder / "link").symlink_to(secret)
    (folder / "inside-link").symlink_to("m.onnx.data")
    (folder / "parent").symlink_to(tmp_path / "elsewhere")
    os.link(secret, folder / "hardlink")
    (folder / "zero").symlink_to("/dev/zero")
    os.mkfifo(folder / "fifo")
    return folder / "m.onnx"


@pytest.mark.parametrize(
    "location",
    ["../secret", "x/../../secret", "..", ".", "", "/etc/passwd", "/dev/zero", "C:\\x", "..\\secret", "\\\\host\\share",
     "link", "inside-link", "parent/secret", "hardlink", "zero", "fifo", "missing", "x" * 5000, "a\0b", "m.onnx/x"],
)  # fmt: skip
def test_external_data_outside(external, predictor, location):
    entries(external, location=location)
    predictor.fails(external, watch=external.parent.parent)


@pytest.mark.parametrize(
    "new",
    [{"offset": "-1"}, {"offset": "1e3"}, {"offset": str(2**63)}, {"offset": "99999999"}, {"length": "1"},
     {"length": "-1"}, {"length": "9" * 99}, {"basepath": "/etc"}, {"offset": "٣"}, {"length": ""}, {"offset": "0x10"},
     {"length": str(1 << 50)}],
)  # fmt: skip
def test_external_data_of_wrong_length(external, predictor, new):
    entries(external, **new)
    predictor.fails(external, watch=external.parent.parent)


@pytest.mark.parametrize("size", [0, 1, 4096, 16384])
def test_external_data_cut_short(external, predictor, size):
    os.truncate(external.parent / "m.onnx.data", size)
    predictor.fails(external, "truncated", watch=external.parent.parent)


def test_external_data_is_read_and_kept_apart(external, predictor):
    before = snapshot(external.parent)
    predictor.works(external, watch=external.parent)
    assert snapshot(external.parent) == before


# -- targets -----------------------------------------------------------------------------------------------


@pytest.fixture
def good(tmp_path) -> Path:
    return save(tmp_path / "in", m.mlp())


def test_targets_that_cannot_be_written(good, tmp_path, ghn_folder):
    (tmp_path / "file").write_text("x")
    (tmp_path / "there.onnx").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    before = snapshot(tmp_path)
    targets = [
        tmp_path, tmp_path / "no" / "o.onnx", tmp_path / "file" / "o.onnx", "/dev/null", "/proc/o.onnx",
        "", "/", "x" * 300,
        tmp_path / "there.onnx", tmp_path / "pipe", f"{tmp_path}/", "a\0b", good,
    ]  # fmt: skip
    for target in targets:
        outcome = command("predict", good, "-o", target, "--ghn", ghn_folder)
        one_line(outcome)
        assert snapshot(tmp_path) == before, target


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(good, tmp_path, ghn_folder):  # pragma: no cover - of other machines
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    one_line(command("predict", good, "-o", folder / "o.onnx", "--ghn", ghn_folder), "permission")


@pytest.mark.parametrize("external_data", [False, True])
def test_a_full_disk(tmp_path, predictor, external_data):
    """A limit on file size stops the writing in the middle."""
    path = save(tmp_path / "in", m.mlp(512))
    if external_data:
        m.save_external(m.mlp(512), path)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, old[1]))
    try:
        predictor.fails(path, "free some space")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, previous)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("call", ["write", "fsync", "replace", "open"])
def test_every_call_that_can_fail(good, tmp_path, predictor, monkeypatch, call, number):
    """Writing, syncing, renaming and making files: the error is told and nothing is left."""
    original = getattr(os, call)
    target = str(predictor.folder)

    def fails(*args, **kwargs):
        if call in ("write", "fsync") or any(str(a).startswith(target) and ".onnx" in str(a) for a in args):
            raise OSError(number, os.strerror(number))
        return original(*args, **kwargs)

    monkeypatch.setattr(os, call, fails)
    outcome = command("predict", good, "-o", predictor.output, "--ghn", predictor.ghn)
    monkeypatch.undo()
    one_line(outcome, "cannot be written", os.strerror(number).lower())
    assert list(predictor.folder.iterdir()) == []


def test_kill_during_writing(tmp_path, ghn_folder):
    """SIGKILL at 24 moments: the whole new file, or what was there before; never anything between."""
    source = save(tmp_path / "in", m.mlp(1024))
    (tmp_path / "old").write_bytes(m.mlp().SerializeToString())
    folder = tmp_path / "out"
    folder.mkdir()
    # One process forks the writers, so that torch is loaded once.
    code = """
        import os, random, shutil, signal, sys, time
        from cli_tools import command
        source, old, target, ghn = sys.argv[1:]
        arguments = ["predict", source, "--ghn", ghn, "--force", "-o"]
        command(*arguments, target + ".whole")
        began = time.monotonic()
        command(*arguments, target + ".whole")
        whole_s = time.monotonic() - began
        contents = {open(path, "rb").read(): name for path, name in ((target + ".whole", "new"), (old, "old"))}
        random.seed(0)
        for i in range(24):
            if i % 2:
                shutil.copy(old, target)
            elif os.path.exists(target):
                os.unlink(target)
            child = os.fork()
            if not child:
                command(*arguments, target)
                os._exit(0)
            time.sleep(random.uniform(0.2, 1.2) * whole_s)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            found = contents.get(open(target, "rb").read(), "broken") if os.path.exists(target) else "none"
            print(i % 2, found, flush=True)
    """
    run = _python(code, source, tmp_path / "old", folder / "o.onnx", ghn_folder)
    assert run.returncode == 0, run.stderr
    states = run.stdout.splitlines()
    assert len(states) == 24
    assert set(states) <= {"0 new", "0 none", "1 new", "1 old"}
    strays = {path.name for path in folder.iterdir()} - {"o.onnx", "o.onnx.whole"}
    assert all(name.startswith(".o.onnx") and name.endswith(".tmp") for name in strays)
    onnx.checker.check_model(str(folder / "o.onnx.whole"))


# -- options -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--include", "("], 1), (["--exclude", "*"], 1), (["--include", "[z-a]"], 1), (["--fallback", "x"], 2),
        (["--post", "x"], 2), (["--post-strength", "0.5"], 1), (["--post-strength", "x"], 2),
        (["--post", "noise", "--post-strength", "-1"], 1),
        (["--post", "noise", "--post-strength", "nan"], 1), (["--post", "orthogonal", "--post-strength", "2"], 1),
        (["--post", "noise", "--post-strength", "inf"], 1), (["--seed", "-1"], 2), (["--seed", "x"], 2),
        (["--seed", str(2**70)], 1), (["--seed", "1.5"], 2), (["--nothing"], 2), (["--calibrate"], 2), (["more"], 2),
    ],
)  # fmt: skip
def test_bad_options(good, predictor, options, code):
    outcome = predictor(good, *options)
    assert outcome.code == code
    one_line(outcome)


def test_a_usage_error_without_arguments():
    for arguments in (
        [],
        ["predict"],
        ["predict", "m.onnx"],
        ["nothing"],
        ["--nothing"],
        ["draw", "m.onnx"],
        ["strip"],
    ):
        outcome = command(*arguments)
        assert outcome.code == (2 if arguments else outcome.code)
        assert "Traceback" not in outcome.err


# -- GHNs --------------------------------------------------------------------------------------------------


@pytest.fixture
def bad_ghn(ghn_folder, tmp_path) -> Path:
    """A copy of the GHN, to be damaged."""
    return Path(shutil.copytree(ghn_folder, tmp_path / "ghn"))


def test_ghns_that_are_not_there(good, predictor, tmp_path):
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "fifo.pt")
    for ghn in (
        "ghn-99",
        "",
        "x" * 5000,
        "~nobody-of-that-name/x",
        "a\0b",
        tmp_path / "empty",
        "/dev/zero",
        tmp_path / "fifo.pt",
    ):
        predictor.fails(good, options=("--ghn", ghn))


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, 0.5, 0.999])
def test_truncated_ghns(good, predictor, bad_ghn, keep):
    weights = bad_ghn / "model.safetensors"
    size = weights.stat().st_size
    os.truncate(weights, keep if isinstance(keep, int) else int(keep * size))
    predictor.fails(good, str(bad_ghn), options=("--ghn", bad_ghn))


def test_flipped_ghns(good, predictor, bad_ghn):
    """30 flips in the header of the weights, 30 in the config: refused, or the same GHN all the same."""
    random = np.random.default_rng(0)
    for name, extent in (("model.safetensors", 3000), ("config.json", 10**9)):
        data = (bad_ghn / name).read_bytes()
        for _ in range(30):
            damaged = bytearray(data)
            damaged[random.integers(0, min(extent, len(data)))] ^= 1 << random.integers(0, 8)
            (bad_ghn / name).write_bytes(damaged)
            predictor(good, "--ghn", bad_ghn)
            predictor.clear()
        (bad_ghn / name).write_bytes(data)


@pytest.mark.parametrize(
    "change",
    [
        {"hid": 16}, {"hid": 7}, {"hid": "8"}, {"hid": 10**9}, {"max_shape": [8, 8, 3]}, {"max_shape": [8, 8, 3, 5]},
        {"max_shape": "8"}, {"num_classes": 0}, {"num_classes": 11}, {"hypernet": "x"}, {"hypernet": "graphormer"},
        {"decoder": "mlp"}, {"graph_rules": "x"}, {"unknown": 1}, {"ve_cutoff": -1}, {"layernorm": False},
        {"trained": 1},
    ],
)  # fmt: skip
def test_ghns_of_another_config(good, predictor, bad_ghn, change):
    config = bad_ghn / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    predictor.fails(good, options=("--ghn", bad_ghn))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1", "[" * 100000, '{"hid": NaN}', "\x00", '"x"', "{}"])
def test_configs_that_are_none(good, predictor, bad_ghn, text):
    (bad_ghn / "config.json").write_text(text)
    predictor.fails(good, options=("--ghn", bad_ghn))


def test_a_ghn_of_nans(good, predictor, bad_ghn):
    from safetensors.torch import load_file, save_file

    tensors = load_file(bad_ghn / "model.safetensors")
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, bad_ghn / "model.safetensors")
    predictor.fails(good, "NaNs", options=("--ghn", bad_ghn))


class _Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/onnx_ghn_was_here",)


def test_pickles_are_never_run(good, predictor, tmp_path):
    import torch

    paths = [tmp_path / f"{i}.pt" for i in range(6)]
    paths[0].write_bytes(pickle.dumps(_Evil()))
    torch.save({"state_dict": _Evil()}, paths[1])
    torch.save([1, 2], paths[2])
    torch.save({"state_dict": {"x": torch.ones(2)}}, paths[3])
    torch.save({"state_dict": {"x": torch.ones(2)}, "config": "x"}, paths[4])
    paths[5].write_bytes(paths[3].read_bytes()[:200])
    for path in paths:
        predictor.fails(good, str(path), options=("--ghn", path))
    assert not os.path.exists("/tmp/onnx_ghn_was_here")


# -- calibration -------------------------------------------------------------------------------------------


@pytest.fixture
def conv_path(tmp_path) -> Path:
    return save(tmp_path / "in", models.conv_net())


def test_folders_that_hold_no_images(conv_path, predictor, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("x")
    (tmp_path / "folders" / "a.png").mkdir(parents=True)
    (tmp_path / "pipes").mkdir()
    os.mkfifo(tmp_path / "pipes" / "a.png")
    for folder in ("missing", "empty", "text", "folders", "pipes", "in/m.onnx", "x" * 300):
        predictor.fails(conv_path, "--calibrate", options=("--calibrate", tmp_path / folder))


def test_broken_images(conv_path, predictor, tmp_path):
    """32 damaged images of four formats: read past, or told by name."""
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    pixels = Image.fromarray(random.integers(0, 255, (12, 12, 3), dtype=np.uint8))
    for suffix in ("png", "jpg", "bmp", "webp"):
        path = folder / f"a.{suffix}"
        pixels.save(path)
        data = path.read_bytes()
        for i in range(8):
            damaged = bytearray(data[: random.integers(0, len(data))] if i % 3 == 0 else data)
            for at in random.integers(0, max(1, min(80, len(damaged))), 3):
                if damaged:
                    damaged[at] ^= 1 << random.integers(0, 8)
            path.write_bytes(damaged)
            outcome = predictor(conv_path, "--calibrate", folder, watch=folder)
            if outcome.code:
                one_line(outcome, str(path))
            predictor.clear()
        path.unlink()


def _calibrated(kind: int, shape: tuple[object, ...], custom: str = "") -> onnx.ModelProto:
    net = Net()
    x = net.input(*shape, kind=kind)
    if custom:
        x = net.op(custom, x, domain="made.up")
    elif kind != m.F:
        x = net.op("Cast", x, to=m.F)
    y = net.op("Relu", models.batch_norm(net, net.conv(x, 3, 4, "w"), 4, "bn"))
    return net.model(y)


@pytest.mark.parametrize(
    ("kind", "shape", "custom"),
    [
        (TensorProto.STRING, (1, 3, 4, 4), ""), (m.F, (1, 3, 4, 4), "Nobody"), (m.F, (1, 5, 4, 4), ""),
        (m.F, (1, 3), ""), (m.F, ("N", 3, 1, 1), ""),
        (m.F, (), ""), (m.F, (0, 3, 4, 4), ""), (m.F, (1, 3, 0, 0), ""), (m.F, ("N", "C", "H", "W"), ""),
        (m.F, (10**6, 3, 10**6, 10**6), ""), (m.F, (2**62, 3, 2**62, 4), ""), (TensorProto.COMPLEX64, (1, 3, 4, 4), ""),
        (TensorProto.BFLOAT16, (1, 3, 4, 4), ""), (TensorProto.FLOAT8E4M3FN, (1, 3, 4, 4), ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("source", ["noise", "folder"])
def test_models_that_cannot_be_calibrated(tmp_path, predictor, kind, shape, custom, source):
    """Noise, which is the default, becomes a note; a folder that was asked for is an error."""
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    path = save(tmp_path / "in", _calibrated(kind, shape, custom))
    tracemalloc.start()
    outcome = predictor(path, "--calibrate", folder if source == "folder" else "noise", watch=path.parent)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 30
    if outcome.code == 0:
        predictor.take()


def test_a_loop_without_end(tmp_path, predictor, monkeypatch):
    """onnxruntime is stopped; the model is written with the statistics that it had."""
    from onnx_ghn import runtime

    monkeypatch.setattr(runtime, "_MAX_RUN_S", 1.0)
    net = Net()
    x = net.input(1, 4, 2, 2)
    trips = net.number(2**62, np.int64)
    true = net.number(True, np.bool_)
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Relu", ["s"], ["s2"])], "body",
        [m.info("i", kind=TensorProto.INT64), m.info("c", kind=TensorProto.BOOL), m.info("s", 1, 4, 2, 2)],
        [m.info("c2", kind=TensorProto.BOOL), m.info("s2", 1, 4, 2, 2)],
    )  # fmt: skip
    y = models.batch_norm(net, net.op("Loop", trips, true, x, body=body), 4, "bn")
    path = save(tmp_path / "in", net.model(y))
    began = time.perf_counter()
    outcome = predictor(path)
    assert time.perf_counter() - began < 15
    assert "still runs after" in outcome.out + outcome.err
    predictor.clear()


@pytest.fixture(autouse=True)
def _stay_here():
    """Some tests change the folder."""
    here = os.getcwd()
    yield
    os.chdir(here)
