"""predict: what comes in stays, what comes out is the same model with other weights."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from predict_models import Net, arrays, cnn, export, mlp, random_feed, run, session, signature, tiny_ghn
from torch import nn

import onnx_ghn
from onnx_ghn import predict
from onnx_ghn.errors import GraphError, OptionError
from onnx_ghn.ghn import GHNConfig, new_ghn
from onnx_ghn.graph import Role


def filled(prediction: onnx_ghn.Prediction, folder: Path, name: str = "out.onnx") -> onnx.ModelProto:
    prediction.save(folder / name)
    return onnx.load(folder / name)


@pytest.mark.parametrize("form", ["path", "str", "proto"])
def test_the_input_stays_and_the_output_is_the_prediction(form: str, tmp_path: Path) -> None:
    proto = cnn()
    path = tmp_path / "in.onnx"
    onnx.save(proto, path)
    before = path.read_bytes()
    source: Any = {"path": path, "str": str(path), "proto": proto}[form]
    prediction = predict(source, tmp_path / "out.onnx", ghn=tiny_ghn())
    assert path.read_bytes() == before
    assert proto.SerializeToString() == before

    assert isinstance(prediction, Mapping)
    assert len(prediction) == len(list(prediction)) == 8
    assert "conv1.w" in prediction
    assert "x" not in prediction
    with pytest.raises(KeyError):
        prediction["x"]
    old, new = arrays(proto), arrays(onnx.load(tmp_path / "out.onnx"))
    for name, array in prediction.items():
        assert (array.shape, array.dtype) == (old[name].shape, old[name].dtype)
        np.testing.assert_array_equal(array, new[name])
        assert not np.array_equal(array, old[name])
    onnx.checker.check_model(tmp_path / "out.onnx", full_check=True)
    assert signature(onnx.load(tmp_path / "out.onnx")) == signature(proto)
    assert np.isfinite(run(tmp_path / "out.onnx")[0]).all()
    assert re.fullmatch(
        r"Prediction\('net' by .*: 8 tensors, CoverageReport\(.*8 predicted \(100.00%\)\)\)", repr(prediction)
    )


def test_nothing_is_written_unless_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "in.onnx"
    onnx.save(mlp(), path)
    predict(path, ghn=tiny_ghn())
    assert [p.name for p in tmp_path.iterdir()] == ["in.onnx"]


@pytest.mark.parametrize("post", ["none", "noise", "orthogonal"])
def test_same_seed_same_bytes(post: str, tmp_path: Path) -> None:
    proto = cnn()
    files = []
    for i, seed in enumerate((5, 5, 6)):
        predict(proto, tmp_path / f"{i}.onnx", ghn=tiny_ghn(), post=post, seed=seed)
        files.append((tmp_path / f"{i}.onnx").read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]  # the calibration's noise, at least


def test_a_ghn_by_name_by_folder_and_by_default(tmp_path: Path) -> None:
    onnx_ghn.save_ghn(tiny_ghn(), tmp_path / "ghn")
    one = predict(mlp(), ghn=tiny_ghn())
    other = predict(mlp(), ghn=tmp_path / "ghn")
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-5, atol=1e-6)
    assert len(predict(mlp(), policy="all")) == 4


def test_an_array_that_a_caller_changes_does_not_change_the_prediction(tmp_path: Path) -> None:
    prediction = predict(mlp(n_in=4, width=4, n_out=4), ghn=tiny_ghn())
    before = {name: array.copy() for name, array in prediction.items()}
    for array in prediction.values():
        if array.flags.writeable:
            array[...] = 7
    for name, array in prediction.items():
        np.testing.assert_array_equal(array, before[name])


# ---------------------------------------------------------------------------- which tensors


def test_include_and_exclude(tmp_path: Path) -> None:
    proto = cnn()
    old = arrays(proto)
    prediction = predict(
        proto, ghn=tiny_ghn(), include=[r"^conv", "fc"], exclude=[r"\.b$"], calibrate="none", correct_scales=False
    )
    assert set(prediction) == {"conv1.w", "conv2.w", "fc.w"}
    new = arrays(filled(prediction, tmp_path))
    assert {name for name in old if not np.array_equal(old[name], new[name])} == set(prediction)
    reasons = prediction.coverage.reasons()
    assert [entry.parameter.name for entry in reasons["left out by the patterns to include and exclude"]] == [
        "bn1.scale", "bn1.shift", "bn2.scale", "bn2.shift", "fc.b",
    ]  # fmt: skip
    assert set(predict(proto, ghn=tiny_ghn(), include="bn1", calibrate="none", correct_scales=False)) == {
        "bn1.scale",
        "bn1.shift",
    }


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(["w", "1", "^b", "2$", "."]), max_size=2),
    st.lists(st.sampled_from(["w", "1", "b"]), max_size=2),
)
def test_include_and_exclude_are_searches(include: list[str], exclude: list[str]) -> None:
    names = {"w1", "b1", "w2", "b2"}
    wanted = {
        name
        for name in names
        if (not include or any(re.search(p, name) for p in include)) and not any(re.search(p, name) for p in exclude)
    }
    assert set(predict(mlp(), ghn=tiny_ghn(), include=include, exclude=exclude)) == wanted


def odd_model() -> onnx.ModelProto:
    """A PRelu, an operator that nobody knows, a class token, and the initial states of an LSTM."""
    net = Net()
    net.input("N", 6, 8)
    net.op("MatMul", "x", net.random("w1", 8, 8), out="h")
    net.op("PRelu", "h", net.tensor("slope", np.full((8,), 0.5)), out="p")
    net.op("Mystery", "p", net.random("secret", 8, 8), net.random("vector", 8), out="m", domain="acme")
    net.op("Concat", net.random("token", 1, 1, 8), "m", out="joined", axis=1)
    net.op("LSTM", "joined", net.random("W", 1, 16, 8), net.random("R", 1, 16, 4), net.random("B", 1, 32), "",
           net.random("h0", 1, 6, 4), net.random("c0", 1, 6, 4), out="y", hidden_size=4)  # fmt: skip
    return net.model("y")


@pytest.mark.parametrize("fallback", ["standard", "keep"])
def test_what_no_node_decodes_falls_back_or_stays(fallback: Any, tmp_path: Path) -> None:
    proto = odd_model()
    old = arrays(proto)
    prediction = predict(proto, ghn=tiny_ghn(), fallback=fallback, overwrite_special=True)
    outcome = {entry.parameter.name: (entry.outcome, entry.reason) for entry in prediction.coverage.entries}
    assert set(outcome) == set(old)
    for name in ("slope", "secret", "vector", "token", "h0", "c0"):
        assert outcome[name][1], name
    assert "acme::Mystery" in outcome["secret"][1]
    assert {name for name, (kind, _) in outcome.items() if kind == "predicted"} >= {"w1", "W", "R", "B"}
    new = arrays(filled(prediction, tmp_path))
    if fallback == "keep":
        for name, (kind, _) in outcome.items():
            assert (kind == "kept") == np.array_equal(old[name], new[name]), name
        assert prediction.coverage.count("fallback") == 0
    else:
        assert {outcome[name][0] for name in ("slope", "secret", "token")} == {"fallback"}
        np.testing.assert_array_equal(new["slope"], np.full(8, 0.25, np.float32))
        assert 0.2 < new["secret"].std() / np.sqrt(2 / 8) < 2
        assert new["token"].std() < 0.05
        # Nobody knows what a vector of an unknown operator is, nor trains an initial state without saying so.
        np.testing.assert_array_equal(new["vector"], old["vector"])
    assert signature(onnx.load(tmp_path / "out.onnx")) == signature(proto)


def test_a_model_without_parameters_is_refused() -> None:
    net = Net()
    net.input("N", 4)
    net.op("Relu", "x", out="y")
    with pytest.raises(GraphError, match="no trainable tensors"):
        predict(net.model("y"), ghn=tiny_ghn())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include": ["("]}, "no regular expression"),
        ({"fallback": "zero"}, "fallback"),
        ({"post": "magic"}, "post"),
        ({"post": "noise", "post_strength": -1}, "strength"),
        ({"post": "orthogonal", "post_strength": 1.5}, "strength"),
        ({"post": "noise", "post_strength": float("nan")}, "strength"),
        ({"seed": -1}, "seed"),
        ({"calibrate": "/no/such/folder"}, "no such folder"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        predict(cnn(), ghn=tiny_ghn(), **options)


# ---------------------------------------------------------------------------- types


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16], ids=str)
@pytest.mark.parametrize("post", ["none", "noise"])
def test_types_are_kept(dtype: Any, post: str, tmp_path: Path) -> None:
    reference = predict(mlp(), ghn=tiny_ghn(), post=post, correct_scales=False)
    prediction = predict(mlp(dtype), ghn=tiny_ghn(), post=post, correct_scales=False)
    assert set(prediction) == set(reference)
    for name, array in prediction.items():
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, reference[name].astype(dtype))
    proto = filled(prediction, tmp_path)
    onnx.checker.check_model(tmp_path / "out.onnx", full_check=True)
    assert signature(proto) == signature(mlp(dtype))
    if dtype is not ml_dtypes.bfloat16:  # onnxruntime's CPU kernels have none
        expected = run(filled(reference, tmp_path, "float.onnx"))[0]
        runtime = session(proto)
        feed = {"x": random_feed(session(mlp()))["x"].astype(dtype)}
        np.testing.assert_allclose(runtime.run(None, feed)[0], expected, rtol=0.03, atol=0.01)


# ---------------------------------------------------------------------------- where tensors are


def test_every_form_of_storage(tmp_path: Path) -> None:
    """Constant, ConstantOfShape, a default of an input, a body of If, a function: all are filled where they are."""
    w = numpy_helper.from_array(np.ones((8, 8), np.float32), "w")
    net = Net()
    net.input("N", 8)
    net.inputs.append(helper.make_tensor_value_info("default", TensorProto.FLOAT, [8, 8]))
    net.input(name="flag", kind=TensorProto.BOOL)
    net.op("MatMul", "x", net.random("default", 8, 8), out="h0")
    net.op("Constant", out="constant", value=w)
    net.op("MatMul", "h0", "constant", out="h1")
    net.op("ConstantOfShape", net.tensor("dims", [8, 8], np.int64), out="generated",
           value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.5]))  # fmt: skip
    net.op("MatMul", "h1", "generated", out="h2")
    inner = numpy_helper.from_array(np.ones((8, 8), np.float32), "inner")
    branches = [
        helper.make_graph(
            [helper.make_node("MatMul", ["h2", "inner"], [f"{side}_out"])], side, [],
            [helper.make_tensor_value_info(f"{side}_out", TensorProto.FLOAT, None)], [inner],
        )
        for side in ("then", "else")
    ]  # fmt: skip
    net.op("If", "flag", out="h3", then_branch=branches[0], else_branch=branches[1])
    net.functions.append(
        helper.make_function(
            "my", "Layer", ["a"], ["b"],
            [helper.make_node("Constant", [], ["inside"], value=w), helper.make_node("MatMul", ["a", "inside"], ["b"])],
            [helper.make_opsetid("", 17)],
        )
    )  # fmt: skip
    net.op("Layer", "h3", out="y", domain="my")
    proto = net.model("y")
    prediction = predict(proto, ghn=tiny_ghn())
    assert {p.storage for p in prediction.graph.parameters} == {
        "input_default", "constant", "constant_of_shape", "subgraph", "function",
    }  # fmt: skip
    assert len(prediction) == 6
    assert prediction.coverage.share("predicted") == 1
    written = filled(prediction, tmp_path)
    onnx.checker.check_model(tmp_path / "out.onnx", full_check=True)
    assert [n.op_type for n in written.graph.node if n.op_type != "ConstantOfShape"] == [
        n.op_type for n in proto.graph.node if n.op_type != "ConstantOfShape"
    ]
    assert "generated" in {tensor.name for tensor in written.graph.initializer}
    assert not any(n.op_type == "ConstantOfShape" for n in written.graph.node)
    again = predict(written, ghn=tiny_ghn(), exclude=["."])  # reads the file that was written
    feed = {"x": np.ones((2, 8), np.float32), "flag": np.array(True)}
    x = feed["x"]
    for part in ("default", "constant", "generated", "inner", "inside"):
        name = next(n for n in prediction if n.split("/")[-1] == part and "else" not in n)
        x = x @ prediction[name]
    np.testing.assert_allclose(run(written, feed)[0], x, rtol=1e-4, atol=1e-6)
    assert {p.name for p in again.graph.parameters} == set(prediction)


# ---------------------------------------------------------------------------- torch networks


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(11, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.emb.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.emb(x)))


class Gru(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(6, 5, batch_first=True)
        self.fc = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.rnn(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pos = nn.Parameter(torch.randn(1, 4, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x + self.pos)


def conv_bn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6, bias=False), nn.BatchNorm2d(6),
        nn.PReLU(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip


def up_and_norms() -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(4, 6, 2, stride=2), nn.GroupNorm(2, 6), nn.GELU(), nn.Conv2d(6, 4, 1),
        nn.InstanceNorm2d(4, affine=True), nn.Conv2d(4, 2, 3),
    )  # fmt: skip


def one_and_three_d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(4, 6, 3), nn.ReLU(), nn.Conv1d(6, 6, 3), nn.Unflatten(1, (1, 6)), nn.Unflatten(3, (2, 4)),
        nn.Conv3d(1, 5, 2),
    )  # fmt: skip


NETS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "conv_bn": (conv_bn, (2, 3, 12, 12)),
    "up_and_norms": (up_and_norms, (2, 4, 6, 6)),
    "one_and_three_d": (one_and_three_d, (2, 4, 12)),
    "tied": (Tied, ()),
    "gru": (Gru, (2, 7, 6)),
    "attention": (Attention, (2, 4, 8)),
}


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", NETS)
def test_every_torch_parameter_is_found(name: str, dynamo: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, shape = NETS[name]
    net = make()
    with torch.no_grad():
        for parameter in net.parameters():  # no two alike: merging is the business of the tests of untying
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(shape) if shape else torch.randint(0, 11, (2, 5))
    proto = export(net, (x,), tmp_path / "in.onnx", dynamo=dynamo)
    prediction = predict(tmp_path / "in.onnx", tmp_path / "out.onnx", ghn=tiny_ghn())
    trainable = [p for p in prediction.graph.parameters if p.role is not Role.statistic]
    assert sum(p.size for p in trainable) == sum(p.numel() for p in net.parameters())
    assert prediction.coverage.n_trainable == sum(p.numel() for p in net.parameters())
    unique = dict(net.named_parameters())
    names = {n for n, _ in net.named_parameters(remove_duplicate=False)}
    found = {p.name for p in trainable}
    # Some tensors the exporters compute anew (a transposed matrix, the gates of a GRU in ONNX's order): those have
    # names of their own, all others keep torch's.
    anonymous = {n for n in found - names if re.match(r"onnx::|val_|t_", n)}
    assert found - anonymous <= names
    assert len(found) == len(unique)
    assert sum(p.size for p in prediction.graph.parameters if p.role is Role.statistic) == sum(
        b.numel() for n, b in net.named_buffers() if "running" in n
    )
    onnx.checker.check_model(tmp_path / "out.onnx", full_check=True)
    assert signature(onnx.load(tmp_path / "out.onnx"))["operators"] == signature(proto)["operators"]
    assert all(np.isfinite(output).all() for output in run(tmp_path / "out.onnx"))


def test_predicted_weights_go_where_torch_has_them(tmp_path: Path) -> None:
    """The prediction loaded into the torch module computes what the predicted file computes."""
    torch.manual_seed(0)
    net = conv_bn()
    x = torch.randn(2, 3, 12, 12)
    export(net, (x,), tmp_path / "in.onnx")
    predict(tmp_path / "in.onnx", tmp_path / "out.onnx", ghn=tiny_ghn())
    stored = arrays(onnx.load(tmp_path / "out.onnx"))
    state = {
        name: torch.from_numpy(stored[name].reshape(tuple(tensor.shape)))
        for name, tensor in net.state_dict().items()
        if name in stored
    }
    assert {name for name in net.state_dict() if "num_batches" not in name} == set(state)
    net.load_state_dict(state, strict=False)
    with torch.no_grad():
        expected = net.eval()(x).numpy()
    feed = {session(tmp_path / "out.onnx").get_inputs()[0].name: x.numpy()}
    np.testing.assert_allclose(run(tmp_path / "out.onnx", feed)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_wider_ghn_predicts_other_numbers() -> None:
    other = new_ghn(GHNConfig.preset("ghn2", hid=8, max_shape=(8, 8, 3, 3), num_classes=10), seed=1)
    one, two = predict(mlp(), ghn=tiny_ghn()), predict(mlp(), ghn=other)
    assert not np.array_equal(one["w1"], two["w1"])


# ---------------------------------------------------------------------------- models larger than memory

_SIDE = 8192
_CHILD = """
import json, sys
import onnx_ghn
options = json.loads(sys.argv[3])
raw = {"calibrate": "none", "correct_scales": False}
onnx_ghn.predict(sys.argv[1], sys.argv[2], ghn=onnx_ghn.new_ghn("ghn2", seed=0), **raw, **options)
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def sparse_matrices(path: Path, count: int, dtype: Any, storage: str) -> int:
    """A chain of matrices whose data file is one hole: weights of 8192 × 8192. The bytes of one."""
    tensor_bytes = _SIDE * _SIDE * np.dtype(dtype).itemsize
    with open(f"{path}.data", "wb") as data:
        data.truncate(count * tensor_bytes)
    net = Net(dtype=dtype)
    x = net.input("N", _SIDE)
    for i in range(count):
        tensor = TensorProto(name=f"w{i}", dims=[_SIDE, _SIDE], data_type=net.kind)
        tensor.data_location = TensorProto.EXTERNAL
        entries = {"location": f"{path.name}.data", "offset": i * tensor_bytes, "length": tensor_bytes}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
        net.tensors.append(tensor)
        x = net.op(storage, x, f"w{i}", out=f"x{i + 1}", domain="acme" if storage == "Mystery" else "")
    onnx.save(net.model(x, shape=("N", _SIDE)), path)
    return tensor_bytes


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads peak memory from /proc")
@pytest.mark.parametrize(
    ("dtype", "storage", "options"),
    [
        (np.float32, "MatMul", {}),
        (np.float32, "Gemm", {}),
        (np.float16, "MatMul", {}),
        (np.float32, "Mystery", {}),
        (np.float32, "MatMul", {"post": "noise"}),
        (np.float32, "MatMul", {"exclude": ["."]}),
    ],
    ids=["matmul", "gemm", "half", "fallback", "noise", "copied"],
)
def test_four_gib_in_little_more_than_the_largest_tensor(
    dtype: Any, storage: str, options: dict[str, Any], tmp_path: Path
) -> None:
    size_bytes = 4 << 30
    if shutil.disk_usage(tmp_path).free < size_bytes + (1 << 30):
        pytest.skip("needs 5 GiB of disk")
    count = size_bytes // (_SIDE * _SIDE * np.dtype(dtype).itemsize)
    tensor_bytes = sparse_matrices(tmp_path / "in.onnx", count, dtype, storage)
    target = tmp_path / "out.onnx"
    # VmHWM, not ru_maxrss: that one begins with what the parent had.
    command = [sys.executable, "-c", _CHILD, str(tmp_path / "in.onnx"), str(target), json.dumps(options)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    peak_bytes = int(done.stdout) * 1024
    print(f"peak {peak_bytes / 2**20:.0f} MiB")  # noqa: T201
    assert os.path.getsize(f"{target}.data") == size_bytes
    assert peak_bytes <= 0.8 * 2**30 + 2 * tensor_bytes
    (tmp_path / "out.onnx.data").unlink()
