"""Tensors that are one parameter stay one; layers that a GHN cannot tell apart do not stay equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from predict_models import Net, arrays, besides_copies, export, tiny_ghn
from torch import nn

from onnx_ghn import predict
from onnx_ghn.ghn import load_ghn
from onnx_ghn.graph import build_graph
from onnx_ghn.onnx_io.external import FileSlice
from onnx_ghn.passes import open_model
from onnx_ghn.prediction.ties import find_ties


def language_model(head: str) -> onnx.ModelProto:
    """An embedding, a layer, and an output layer by the embedding, which the exporter wrote again."""
    net = Net()
    net.input("N", 5, kind=onnx.TensorProto.INT64)
    table = net.random("table", 30, 8)
    copy = np.frombuffer(net.tensors[-1].raw_data, np.float32).reshape(30, 8)
    x = net.op("Gather", table, "x", out="e", axis=0)
    x = net.op("Relu", net.op("MatMul", x, net.random("w", 8, 8), out="h"), out="r")
    if head == "transposed":
        net.op("MatMul", x, net.tensor("head", copy.T.copy()), out="y")
    elif head == "copied":
        net.op("MatMul", x, net.op("Transpose", net.tensor("head", copy.copy()), out="t", perm=[1, 0]), out="y")
    else:
        net.op("MatMul", x, net.random("head", 8, 30), out="y")
    return net.model("y", kind=onnx.TensorProto.FLOAT, shape=["N", 5, 30])


@pytest.mark.parametrize("head", ["transposed", "copied", "apart"])
@pytest.mark.parametrize("post", ["none", "noise"])
def test_a_tied_output_layer_stays_tied(head: str, post: str, tmp_path: Path) -> None:
    prediction = predict(language_model(head), tmp_path / "o.onnx", ghn=tiny_ghn(), post=post)
    written = arrays(onnx.load(tmp_path / "o.onnx"))
    same = written["head"] if head == "copied" else written["head"].T
    assert np.array_equal(written["table"], same) == (head != "apart")
    reason = {entry.parameter.name: entry.reason for entry in prediction.coverage.entries}["head"]
    assert reason.startswith("tied") == (head != "apart")


def test_what_repeats_a_table_that_is_kept_is_kept(tmp_path: Path) -> None:
    proto = language_model("transposed")
    prediction = predict(proto, tmp_path / "o.onnx", ghn=tiny_ghn(), policy="all", exclude="table")
    written, before = arrays(onnx.load(tmp_path / "o.onnx")), arrays(proto)
    assert not np.array_equal(written["w"], before["w"])
    for name in ("table", "head"):  # the head was predicted, and parted from the table
        np.testing.assert_array_equal(written[name], before[name])
    reason = {entry.parameter.name: entry.reason for entry in prediction.coverage.entries}["head"]
    assert reason == "tied: the transpose of table, which is kept"


def test_torchs_folded_transpose(tmp_path: Path) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.e, self.h = nn.Embedding(50, 16), nn.Linear(16, 50, bias=False)
            self.h.weight = self.e.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.h(torch.tanh(self.e(x)))

    torch.manual_seed(0)
    tokens = torch.zeros(2, 3, dtype=torch.long)
    proto = export(
        Model(), (tokens,), tmp_path / "i.onnx", do_constant_folding=True, training=torch.onnx.TrainingMode.EVAL
    )
    predict(proto, tmp_path / "o.onnx", ghn=tiny_ghn())
    tables = [array for array in arrays(onnx.load(tmp_path / "o.onnx")).values() if array.size == 800]
    for table in tables[1:]:
        assert np.array_equal(table, tables[0]) or np.array_equal(table, tables[0].T)


def gated(branches: int) -> onnx.ModelProto:
    """Linear layers of one shape beside each other, which read one value."""
    net = Net()
    net.input("N", 12)
    outs = [net.op("MatMul", "x", net.random(f"w{i}", 12, 20), out=f"h{i}") for i in range(branches)]
    x = outs[0]
    for i, other in enumerate(outs[1:]):
        x = net.op("Mul", x, other, out=f"p{i}")
    net.op("Gemm", x, net.random("out", 4, 20), net.random("b", 4), out="y", transB=1)
    return net.model("y")


@pytest.mark.parametrize("branches", [2, 3, 4])
def test_weights_beside_each_other_are_told_apart(branches: int) -> None:
    ghn = load_ghn("ghn-cifar10")
    plain = predict(gated(branches), ghn=ghn, policy="all", tell_apart=False, correct_scales=False)
    prediction = predict(gated(branches), ghn=ghn, policy="all", correct_scales=False)
    assert all(np.array_equal(plain["w0"], plain[f"w{i}"]) for i in range(branches))
    np.testing.assert_array_equal(plain["w0"], prediction["w0"])
    for i in range(1, branches):
        noise = prediction[f"w{i}"] - plain["w0"]
        assert 0.08 < noise.std() / plain["w0"].std() < 0.12
        assert all(not np.array_equal(prediction[f"w{i}"], prediction[f"w{j}"]) for j in range(i))
    (note,) = besides_copies(prediction.coverage.notes)
    told = "1 weight comes" if branches == 2 else f"{branches - 1} weights come"
    assert note.startswith(f"{told} out equal to one that reads the same values, first w1 to w0: ")
    assert besides_copies(plain.coverage.notes) == []
    again = predict(gated(branches), ghn=ghn, policy="all", correct_scales=False)
    assert all(np.array_equal(again[name], array) for name, array in prediction.items())


def test_what_repeats_a_weight_that_is_told_apart_follows_it(tmp_path: Path) -> None:
    proto = gated(2)
    w1 = next(tensor for tensor in proto.graph.initializer if tensor.name == "w1")
    values = onnx.numpy_helper.to_array(w1)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(values.T.copy(), "copy"))
    proto.graph.node.append(onnx.helper.make_node("MatMul", ["p0", "copy"], ["back"], name="n_back"))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("back", onnx.TensorProto.FLOAT, ["N", 12]))
    prediction = predict(proto, tmp_path / "o.onnx", ghn=load_ghn("ghn-cifar10"), policy="all", correct_scales=False)
    written = arrays(onnx.load(tmp_path / "o.onnx"))
    np.testing.assert_array_equal(written["copy"], written["w1"].T)
    assert not np.array_equal(written["w0"], written["w1"])
    assert any(note.startswith("1 weight comes out equal") for note in prediction.coverage.notes)


def test_one_layer_after_the_other_is_no_twin() -> None:
    net = Net()
    x = net.input("N", 12)
    for i in range(3):
        x = net.op("MatMul", x, net.random(f"w{i}", 12, 12), out=f"h{i}")
    prediction = predict(net.model(x), ghn=load_ghn("ghn-cifar10"), policy="all", correct_scales=False)
    assert besides_copies(prediction.coverage.notes) == []


def test_a_bias_that_three_slices_read_stays_one(tmp_path: Path) -> None:
    class Cross(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.norm = nn.MultiheadAttention(16, 4, batch_first=True), nn.LayerNorm(16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.norm(x), self.norm(x + 1), self.norm(x - 1)
            return x + self.attention(q, k, v, need_weights=False)[0]

    proto = export(Cross(), (torch.randn(2, 5, 16),), tmp_path / "i.onnx")
    prediction = predict(proto, ghn=tiny_ghn())
    assert [entry.parameter.name for entry in prediction.coverage.entries if entry.parameter.shape == (48,)] == [
        "attention.in_proj_bias"
    ]
    assert not [name for name in prediction if "Slice" in name]


@pytest.mark.parametrize("n_blocks", [2, 3, 5])
def test_norms_that_the_new_exporter_merged_are_parameters_of_their_own(n_blocks: int, tmp_path: Path) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.n, self.a = nn.LayerNorm(8), nn.Linear(8, 8, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.a(self.n(x))

    torch.manual_seed(0)
    net = nn.Sequential(*[Block() for _ in range(n_blocks)])
    proto = export(net, (torch.randn(2, 8),), tmp_path / "i.onnx", dynamo=True, optimize=True)
    prediction = predict(proto, ghn=tiny_ghn())
    scales = [e for e in prediction.coverage.entries if e.parameter.role == "norm_scale"]
    assert len(scales) == n_blocks


def branches(kind: str) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3)
            make = {"conv": lambda: nn.Conv2d(8, 8, 3), "grouped": lambda: nn.Conv2d(8, 8, 3, groups=4)}
            make["pointwise"] = lambda: nn.Conv2d(8, 16, 1)
            self.branches = nn.ModuleList(make[kind]() for _ in range(2))
            self.fc = nn.LazyLinear(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.stem(x))
            return self.fc(sum(torch.relu(branch(x)) for branch in self.branches).mean((2, 3)))

    torch.manual_seed(0)
    net = Net()
    net(torch.rand(1, 3, 12, 12))
    return net


@pytest.mark.parametrize("kind", ["conv", "pointwise", "grouped"])
def test_branches_that_are_equal_up_to_rounding_are_told_apart(kind: str, tmp_path: Path) -> None:
    proto = export(branches(kind), (torch.rand(2, 3, 12, 12),), tmp_path / "i.onnx")
    one, other = "branches.0.weight", "branches.1.weight"
    together = predict(proto, ghn="ghn-cifar10", policy="all", tell_apart=False, calibrate="none")
    apart = predict(proto, ghn="ghn-cifar10", policy="all", calibrate="none")
    spread = together[one].std()
    assert np.abs(together[other] - together[one]).max() < 1e-3 * spread
    assert (apart[other] - apart[one]).std() == pytest.approx(0.1 * spread, rel=0.3)
    assert any("out equal to one that reads the same values" in note for note in apart.coverage.notes)


def test_matrices_in_a_data_file_are_read_only_where_they_may_be_tied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of gigabytes are told apart by their edges; of those that may be equal every element counts."""
    net = Net()
    x = net.input("N", 48)
    first = net.random("first", 48, 48)
    values = np.frombuffer(net.tensors[-1].raw_data, np.float32).reshape(48, 48)
    nearly = values.copy()
    nearly[40, 41] += 1  # far from the edges
    others = (net.tensor("turned", values.T.copy()), net.tensor("nearly", nearly), net.random("other", 48, 48))
    for name in (first, *others):
        x = net.op("MatMul", x, name, out=f"x_{name}")
    onnx.save(net.model(x), tmp_path / "m.onnx", save_as_external_data=True, location="d", size_threshold=0)
    opened = open_model(tmp_path / "m.onnx")
    graph = build_graph(tmp_path / "m.onnx")
    read: list[int] = []
    was = FileSlice.view
    monkeypatch.setattr(FileSlice, "view", lambda self: read.append(self.offset) or was(self))
    ties = find_ties(graph.parameters, opened.stored)
    names = [parameter.name for parameter in graph.parameters]
    assert {names[i]: (names[tie.original], tie.transposed) for i, tie in ties.items()} == {"turned": ("first", True)}
    assert opened.stored["other"].tensor.source.offset not in read
    assert opened.stored["nearly"].tensor.source.offset in read
