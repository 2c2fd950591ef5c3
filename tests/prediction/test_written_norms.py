"""Running statistics of batch norms that are written as arithmetic: measured here by numpy, in each spelling."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from predict_models import Net, arrays, besides_copies, run, signature, tiny_ghn
from torch.nn import functional as F

from onnx_ghn import predict
from onnx_ghn.inspection import inspect_model

Feed = dict[str, np.ndarray]
Spelling = Callable[[Net, str, int, str, tuple[int, ...]], str]

EPSILON = 1e-3


def store(net: Net, name: str, shape: tuple[int, ...], dtype: Any = None) -> tuple[str, str, str, str]:
    """(μ, σ², γ, β), with statistics that are far from true."""
    width = int(np.prod(shape))
    values = {
        "mean": np.linspace(3, 5, width),
        "var": np.linspace(0.1, 0.2, width),
        "gamma": net.rng.uniform(0.5, 1.5, width),
        "beta": net.rng.standard_normal(width),
    }
    mean, var, gamma, beta = (net.tensor(f"{name}.{k}", v.reshape(shape), dtype) for k, v in values.items())
    return mean, var, gamma, beta


def quotient(net: Net, x: str, width: int, name: str, shape: tuple[int, ...]) -> str:
    """(x − μ) / √(σ² + ε) · γ + β."""
    mean, var, gamma, beta = store(net, name, shape)
    centred = net.op("Sub", x, mean, out=f"{name}.c")
    root = net.op("Sqrt", net.op("Add", var, net.tensor(f"{name}.e", EPSILON), out=f"{name}.g"), out=f"{name}.r")
    scaled = net.op("Mul", net.op("Div", centred, root, out=f"{name}.n"), gamma, out=f"{name}.s")
    return net.op("Add", scaled, beta, out=f"{name}.y")


def gain_first(net: Net, x: str, width: int, name: str, shape: tuple[int, ...]) -> str:
    """(x − μ) · γ / √(σ² + ε) + β."""
    mean, var, gamma, beta = store(net, name, shape)
    root = net.op("Sqrt", net.op("Add", var, net.tensor(f"{name}.e", EPSILON), out=f"{name}.g"), out=f"{name}.r")
    scaled = net.op("Mul", net.op("Sub", x, mean, out=f"{name}.c"), gamma, out=f"{name}.s")
    return net.op("Add", net.op("Div", scaled, root, out=f"{name}.n"), beta, out=f"{name}.y")


def vectors_reshaped(net: Net, x: str, width: int, name: str, shape: tuple[int, ...]) -> str:
    """(x − μ) · (1/√(σ² + ε) · γ) + β, each stored as a vector and reshaped (Keras)."""
    dims = net.tensor(f"{name}.dims", np.array(shape), np.int64)
    parts = store(net, name, (width,))
    mean, var, gamma, beta = (net.op("Reshape", part, dims, out=f"{part}.as") for part in parts)
    centred = net.op("Sub", x, mean, out=f"{name}.c")
    root = net.op("Sqrt", net.op("Add", var, net.tensor(f"{name}.e", EPSILON), out=f"{name}.g"), out=f"{name}.r")
    inverse = net.op("Div", net.tensor(f"{name}.one", 1), root, out=f"{name}.i")
    factor = net.op("Mul", inverse, gamma, out=f"{name}.f")
    return net.op("Add", net.op("Mul", centred, factor, out=f"{name}.s"), beta, out=f"{name}.y")


def folded(net: Net, x: str, width: int, name: str, shape: tuple[int, ...]) -> str:
    """x · s + (β − μ · s), s = γ · (σ² + ε)^-½."""
    mean, var, gamma, beta = store(net, name, shape)
    guarded = net.op("Add", var, net.tensor(f"{name}.e", EPSILON), out=f"{name}.g")
    inverse = net.op("Pow", guarded, net.tensor(f"{name}.p", -0.5), out=f"{name}.i")
    factor = net.op("Mul", gamma, inverse, out=f"{name}.f")
    shift = net.op("Sub", beta, net.op("Mul", mean, factor, out=f"{name}.m"), out=f"{name}.t")
    return net.op("Add", net.op("Mul", x, factor, out=f"{name}.s"), shift, out=f"{name}.y")


def negated(net: Net, x: str, width: int, name: str, shape: tuple[int, ...]) -> str:
    """x · s + (−μ · s + β): the mean comes first (Keras on JAX)."""
    mean, var, gamma, beta = store(net, name, shape)
    root = net.op("Sqrt", net.op("Add", var, net.tensor(f"{name}.e", EPSILON), out=f"{name}.g"), out=f"{name}.r")
    factor = net.op("Mul", net.op("Reciprocal", root, out=f"{name}.i"), gamma, out=f"{name}.f")
    moved = net.op("Mul", net.op("Neg", mean, out=f"{name}.neg"), factor, out=f"{name}.m")
    shift = net.op("Add", moved, beta, out=f"{name}.t")
    return net.op("Add", net.op("Mul", x, factor, out=f"{name}.s"), shift, out=f"{name}.y")


SPELLINGS: tuple[Spelling, ...] = (quotient, gain_first, vectors_reshaped, folded, negated)


def batch_norm(x: torch.Tensor, stored: Feed, name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """torch's batch norm in training mode, N × C × H × W, and the statistics (biased) that it used."""
    gamma, beta = (torch.from_numpy(stored[f"{name}.{k}"].reshape(-1).astype(np.float32)) for k in ("gamma", "beta"))
    out = F.batch_norm(x, None, None, gamma, beta, training=True, eps=EPSILON)
    return out, x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)


def assert_statistics(stored: Feed, name: str, mean: torch.Tensor, variance: torch.Tensor, rtol: float = 1e-3) -> None:
    spread = float(variance.max().sqrt())
    np.testing.assert_allclose(stored[f"{name}.mean"].reshape(-1), mean.numpy(), rtol=rtol, atol=rtol * spread)
    np.testing.assert_allclose(stored[f"{name}.var"].reshape(-1), variance.numpy(), rtol=rtol)


def filled(proto: onnx.ModelProto, path: Path) -> tuple[Feed, list[str]]:
    prediction = predict(proto, path, ghn=tiny_ghn(), correct_scales=False)
    written = onnx.load(path)
    onnx.checker.check_model(path, full_check=True)
    assert signature(written) == signature(proto)
    before = {t.name: (tuple(t.dims), t.data_type) for t in proto.graph.initializer}
    assert {t.name: (tuple(t.dims), t.data_type) for t in written.graph.initializer} == before
    return arrays(written), prediction.coverage.notes


@pytest.mark.parametrize("opset", [9, 13, 18])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_two_norms_equal_torch(spelling: Spelling, last: bool, opset: int, feeds: list[Feed], tmp_path: Path) -> None:
    """Channels first and last; the second norm sees what the first gives with the statistics of the batch."""
    net = Net(opset)
    x = net.input("N", 3, 8, 8)
    for i, (n_in, n_out) in enumerate(((3, 8), (8, 12))):
        x = net.conv(x, n_in, n_out, f"c{i}")
        if last:
            x = net.op("Transpose", x, out=f"last{i}", perm=[0, 2, 3, 1])
        x = spelling(net, x, n_out, f"b{i}", (1, 1, 1, n_out) if last else (n_out, 1, 1))
        if last:
            x = net.op("Transpose", x, out=f"first{i}", perm=[0, 3, 1, 2])
        x = net.op("Relu", x, out=f"r{i}")
    proto = net.model(x)
    stored, notes = filled(proto, tmp_path / "out.onnx")
    assert besides_copies(notes) == []
    roles = {
        e.parameter.name: (e.parameter.role.value, e.outcome)
        for e in inspect_model(proto, policy="all").coverage.entries
    }
    for i in range(2):
        assert roles[f"b{i}.mean"] == roles[f"b{i}.var"] == ("statistic", "statistic")
        assert roles[f"b{i}.gamma"] == ("norm_scale", "predicted")
        assert roles[f"b{i}.beta"] == ("norm_bias", "predicted")
    h = torch.from_numpy(feeds[0]["x"])
    for i in range(2):
        h = F.conv2d(h, torch.from_numpy(stored[f"c{i}.w"]), padding=1)
        h, mean, variance = batch_norm(h, stored, f"b{i}")
        assert_statistics(stored, f"b{i}", mean, variance)
        h = F.relu(h)
    np.testing.assert_allclose(run(tmp_path / "out.onnx", feeds[0])[0], h.numpy(), rtol=1e-3, atol=1e-3)


def test_statistics_in_half_precision_keep_their_type(feeds: list[Feed], tmp_path: Path) -> None:
    net = Net()
    x = net.conv(net.input("N", 3, 8, 8), 3, 8, "c")
    mean, var, gamma, beta = (
        net.op("Cast", part, out=f"{part}.as", to=TensorProto.FLOAT)
        for part in store(net, "b", (8, 1, 1), dtype=np.float16)
    )
    root = net.op("Sqrt", net.op("Add", var, net.tensor("e", EPSILON), out="g"), out="r")
    scaled = net.op("Mul", net.op("Div", net.op("Sub", x, mean, out="d"), root, out="n"), gamma, out="s")
    net.op("Add", scaled, beta, out="y")
    stored, notes = filled(net.model("y"), tmp_path / "out.onnx")
    assert besides_copies(notes) == []
    assert stored["b.mean"].dtype == stored["b.var"].dtype == np.float16
    h = F.conv2d(torch.from_numpy(feeds[0]["x"]), torch.from_numpy(stored["c.w"]), padding=1)
    assert_statistics(stored, "b", *batch_norm(h, stored, "b")[1:], rtol=2e-3)


def test_a_norm_that_is_used_twice_gets_the_statistics_of_both(feeds: list[Feed], tmp_path: Path) -> None:
    """norm(conv(norm(x))), where one factor and one shift serve both."""
    net = Net()
    y = folded(net, net.conv(net.input("N", 3, 8, 8), 3, 8, "c1"), 8, "b", (8, 1, 1))
    z = net.conv(y, 8, 8, "c2")
    net.op("Add", net.op("Mul", z, "b.f", out="again"), "b.t", out="z")
    stored, notes = filled(net.model("z"), tmp_path / "out.onnx")
    assert besides_copies(notes) == []
    first = F.conv2d(torch.from_numpy(feeds[0]["x"]), torch.from_numpy(stored["c1.w"]), padding=1)
    second = F.conv2d(batch_norm(first, stored, "b")[0], torch.from_numpy(stored["c2.w"]), padding=1)
    both = torch.cat([first, second])
    assert_statistics(stored, "b", both.mean((0, 2, 3)), both.var((0, 2, 3), unbiased=False))


def test_a_norm_in_a_function_that_holds_its_statistics(feeds: list[Feed], tmp_path: Path) -> None:
    inner = Net()
    quotient(inner, "h", 8, "b", (8, 1, 1))
    constants = [helper.make_node("Constant", [], [t.name], value=t) for t in inner.tensors]
    net = Net()
    body = [*constants, *inner.nodes]
    opsets = [helper.make_opsetid("", 17)]
    net.functions.append(helper.make_function("local", "Norm", ["h"], ["b.y"], body, opsets))
    net.op("Norm", net.conv(net.input("N", 3, 8, 8), 3, 8, "c"), out="y", domain="local")
    proto = net.model("y", shape=["N", 8, 8, 8])
    prediction = predict(proto, tmp_path / "out.onnx", ghn=tiny_ghn(), correct_scales=False)
    assert besides_copies(prediction.coverage.notes) == []
    written = onnx.load(tmp_path / "out.onnx")
    nodes = [node for node in written.functions[0].node if node.op_type == "Constant"]
    stored = arrays(written) | {n.output[0]: onnx.numpy_helper.to_array(n.attribute[0].t) for n in nodes}
    h = F.conv2d(torch.from_numpy(feeds[0]["x"]), torch.from_numpy(stored["c.w"]), padding=1)
    expected, mean, variance = batch_norm(h, stored, "b")
    assert_statistics(stored, "b", mean, variance)
    np.testing.assert_allclose(run(tmp_path / "out.onnx", feeds[0])[0], expected.numpy(), rtol=1e-3, atol=1e-3)


def branch(net: Net, outputs: str, name: str) -> onnx.GraphProto:
    return helper.make_graph(
        net.nodes, name, [], [helper.make_tensor_value_info(outputs, TensorProto.FLOAT, None)], net.tensors
    )


@pytest.mark.parametrize("spelling", [None, quotient, folded])
def test_a_norm_in_a_body_stays_whole(spelling: Spelling | None, tmp_path: Path) -> None:
    inner = Net()
    if spelling is None:
        inner.bn("h", 8, "inner")
    else:
        spelling(inner, "h", 8, "inner", (8, 1, 1))
    other = Net()
    other.op("Identity", "h", out="same")
    net = Net()
    net.op("Relu", net.conv(net.input("N", 3, 8, 8), 3, 8, "c"), out="h")
    flag = net.input(name="flag", kind=TensorProto.BOOL)
    branches = {"then_branch": branch(inner, "inner.y", "then"), "else_branch": branch(other, "same", "else")}
    net.op("If", flag, out="y", **branches)
    proto = net.model("y")
    prediction = predict(proto, tmp_path / "out.onnx", ghn=tiny_ghn(), correct_scales=False)
    (note,) = besides_copies(prediction.coverage.notes)
    assert note == (
        "2 running statistics are kept, first inner.mean: it stands in the body of If, which a trial run may not enter"
    )
    assert set(prediction) == {"c.w"}
    entries = {e.parameter.name: e for e in prediction.coverage.entries}
    kept = {name for name, entry in entries.items() if entry.outcome == "kept"}
    assert kept == ({"inner.scale", "inner.shift"} if spelling is None else {"inner.gamma", "inner.beta"})
    assert all("body of If" in entries[name].reason for name in kept)
    before, after = (
        {t.name: t.SerializeToString() for n in m.graph.node if n.op_type == "If" for t in n.attribute[0].g.initializer}
        for m in (proto, onnx.load(tmp_path / "out.onnx"))
    )
    assert before == after
    assert set(predict(proto, ghn=tiny_ghn(), calibrate="none", correct_scales=False)) == {"c.w", *kept}


def test_a_norm_whose_mean_is_folded_away_stays_whole(tmp_path: Path) -> None:
    """x · γ/√(σ² + ε) + t: what t is made of is lost."""
    net = Net()
    _, var, gamma, beta = store(net, "b", (8, 1, 1))
    root = net.op("Sqrt", net.op("Add", var, net.tensor("e", EPSILON), out="g"), out="r")
    x = net.conv(net.input("N", 3, 8, 8), 3, 8, "c")
    net.op("Add", net.op("Mul", x, net.op("Div", gamma, root, out="f"), out="s"), beta, out="y")
    prediction = predict(net.model("y"), ghn=tiny_ghn(), correct_scales=False)
    assert set(prediction) == {"c.w"}
    assert "are not told apart" in prediction.coverage.notes[0]


def test_what_scales_the_inputs_is_no_batch_norm(tmp_path: Path) -> None:
    """Keras' Normalization layer: statistics of the data, which noise must not replace."""
    net = Net()
    mean, var, *_ = store(net, "b", (3, 1, 1))
    centred = net.op("Sub", net.input("N", 3, 8, 8), mean, out="d")
    x = net.op("Div", centred, net.op("Sqrt", var, out="r"), out="n")
    net.conv(x, 3, 8, "c")
    net.tensors = [t for t in net.tensors if t.name not in ("b.gamma", "b.beta")]
    proto = net.model("c.y")
    predict(proto, tmp_path / "out.onnx", ghn=tiny_ghn(), correct_scales=False)
    before, after = arrays(proto), arrays(onnx.load(tmp_path / "out.onnx"))
    np.testing.assert_array_equal(after["b.mean"], before["b.mean"])
    np.testing.assert_array_equal(after["b.var"], before["b.var"])
    assert not np.array_equal(after["c.w"], before["c.w"])
