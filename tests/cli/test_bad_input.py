"""Bad input through the whole command: one clear line and exit 1 or 2, or a valid model; never anything half-done.

What `Predictor` (cli_tools) holds of every run: exactly one line that begins with "error:" and was foreseen, no
traceback, nothing beside the output, nothing printed on success but the report. Over 900 cases.
"""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import cli_models as models
import io_models as m
import numpy as np
import onnx
import pytest
from cli_tools import command, save
from graph_models import Net
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from test_io_read import BAD_STRUCTURES, _nest

from onnx_ghn.onnx_io import wire

EXAMPLES = Path(__file__).resolve().parents[2] / "data" / "examples"
NO_CALIBRATION = ("--calibrate", "none", "--no-correct-scales")  # nothing is run


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
    skeleton = bytearray(wire.take_out(memoryview(data), payloads))
    for at in random.integers(0, len(skeleton), random.integers(1, 4)):
        skeleton[at] ^= 1 << random.integers(0, 8)
    try:
        pieces, _ = wire.put_back(bytes(skeleton), payloads, [len(item) for item in payloads.items])
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
            assert "onnx.checker" in outcome.err or "no runtime takes that" in outcome.err, (name, outcome.err)


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


@pytest.mark.parametrize("options", [NO_CALIBRATION, ()])
def test_shape_arithmetic_without_end(tmp_path, predictor, options):
    """Steps beyond Python's limit of recursion, and constants that onnxruntime would join until no memory is left."""
    net = Net()
    x = net.input(2, 4)
    big = net.number([2] * 64, np.int64)
    for _ in range(40):  # would be 2^46 numbers
        big = net.op("Concat", big, big, axis=0)
    deep = net.number([4, 4], np.int64)
    for _ in range(1100):
        deep = net.op("Add", deep, net.number([0], np.int64))
    y = net.op("Reshape", net.op("Reshape", net.weight(4, 4, name="w"), big), deep)
    tracemalloc.start()
    predictor.works(save(tmp_path / "in", net.model(net.linear(net.op("MatMul", x, y), 4, 4, "last"))), *options)
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
