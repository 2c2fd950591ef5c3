"""`load` of files that people have: torch's default exports, and files that tools went over."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from onnx_ir.passes import common
from torch import nn

import onnx_ghn
from onnx_ghn.errors import CheckpointError
from onnx_ghn.exporters import pytorch


class Mixer(nn.Module):
    """Square and other linear layers on tokens, a norm, and an embedding of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(1, 6, 16))
        self.norm, self.a, self.b = nn.LayerNorm(16), nn.Linear(16, 16, bias=False), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(x + self.position)
        return x + self.b(torch.relu(self.a(x)))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 4))


def convolutional() -> nn.Module:
    return nn.Sequential(nn.Conv1d(6, 8, 3), nn.ReLU(), nn.ConvTranspose1d(8, 8, 3), nn.ReLU(), nn.Linear(16, 16))


NETS = {"mixer": Mixer, "mlp": mlp, "convolutional": convolutional}
X = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(0))


def default_export(net: nn.Module, path: Path, *, dynamo: bool, x: torch.Tensor = X) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        torch.onnx.export(
            net.eval(), (x,), path, dynamo=dynamo, opset_version=18, **({"verbose": False} if dynamo else {})
        )


def run(path: Path, x: torch.Tensor = X) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("kind", NETS)
def test_default_exports_come_back(kind: str, dynamo: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = NETS[kind]()
    default_export(net, tmp_path / "m.onnx", dynamo=dynamo)
    names = {tensor.name for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer}
    assert any("MatMul" in name or name.startswith("val_") for name in names)  # a matrix was folded
    onnx_ghn.predict(tmp_path / "m.onnx", tmp_path / "o.onnx", policy="all")
    report = pytorch.load(net, tmp_path / "o.onnx", X)
    assert report.complete
    with torch.no_grad():
        np.testing.assert_allclose(net(X).numpy(), run(tmp_path / "o.onnx"), rtol=1e-3, atol=1e-4)


class LowRank(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w, self.a, self.b = (nn.Parameter(torch.randn(shape)) for shape in ((16, 16), (2, 16), (16, 2)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.w + self.b @ self.a)


class ClassToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token, self.layer = nn.Parameter(torch.randn(1, 1, 16)), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(torch.cat([self.token.expand(len(x), -1, -1), x], 1))


COMPUTED = {
    "low rank": LowRank,
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(16, 16)),
    "batch norm": lambda: nn.Sequential(nn.Conv1d(6, 6, 3), nn.BatchNorm1d(6)),
}


@pytest.mark.parametrize("kind", COMPUTED)
def test_what_torch_computed_from_weights_is_refused(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = COMPUTED[kind]()
    default_export(net, tmp_path / "m.onnx", dynamo=True)
    before = {name: values.clone() for name, values in net.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"computed something from it.*optimize=False"):
        pytorch.load(net, tmp_path / "m.onnx", X)
    assert all(torch.equal(values, net.state_dict()[name]) for name, values in before.items())


def test_a_class_token_that_was_spread_over_the_batch(tmp_path: Path) -> None:
    """It comes back while all rows are equal; when they are not, there is no one token."""
    torch.manual_seed(0)
    net = ClassToken()
    default_export(net, tmp_path / "m.onnx", dynamo=True)
    own = net.token.detach().clone()
    nn.init.zeros_(net.token)
    assert pytorch.load(net, tmp_path / "m.onnx", X).complete
    torch.testing.assert_close(net.token.detach(), own, rtol=0, atol=0)
    proto = onnx.load(tmp_path / "m.onnx")
    spread = next(t for t in proto.graph.initializer if list(t.dims) == [2, 1, 16])
    spread.CopyFrom(numpy_helper.from_array(np.random.default_rng(0).random((2, 1, 16), np.float32), spread.name))
    onnx.save(proto, tmp_path / "p.onnx")
    with pytest.raises(CheckpointError, match="export it again with optimize=False"):
        pytorch.load(net, tmp_path / "p.onnx", X)


def turned(proto: onnx.ModelProto) -> onnx.ModelProto:
    """With each Transpose of a weight folded into the weight of the same name, as onnxruntime's transformers do it."""
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in [node for node in proto.graph.node if node.op_type == "Transpose" and node.input[0] in tensors]:
        tensor = tensors[node.input[0]]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).T.copy(), tensor.name))
        for other in proto.graph.node:
            other.input[:] = [tensor.name if name == node.output[0] else name for name in other.input]
        proto.graph.node.remove(node)
    return proto


@pytest.mark.parametrize("kind", NETS)
def test_matrices_that_a_tool_turned_are_turned_back(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = NETS[kind]()
    pytorch.export(net, tmp_path / "m.onnx", X)
    proto = turned(onnx.load(tmp_path / "m.onnx"))
    assert not any(node.op_type == "Transpose" for node in proto.graph.node)
    onnx.save(proto, tmp_path / "t.onnx")
    before = {name: values.clone() for name, values in net.state_dict().items()}
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    assert pytorch.load(net, tmp_path / "t.onnx").complete
    for name, values in before.items():
        torch.testing.assert_close(net.state_dict()[name], values, rtol=0, atol=0)


def test_a_kernel_in_another_layout_is_refused(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(8, 8, 3))
    pytorch.export(net, tmp_path / "m.onnx", torch.rand(1, 8, 9, 9))
    proto = onnx.load(tmp_path / "m.onnx")
    proto.graph.node[0].domain = "com.microsoft.nchwc"
    proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft.nchwc", 1))
    onnx.save(proto, tmp_path / "n.onnx")
    with pytest.raises(CheckpointError, match=r"0\.weight is read as the kernel of com\.microsoft\.nchwc\.Conv here"):
        pytorch.load(net, tmp_path / "n.onnx")


@pytest.mark.parametrize("kind", NETS)
def test_rounded_values_are_told(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = NETS[kind]()
    pytorch.export(net, tmp_path / "m.onnx", X)
    assert pytorch.load(net, tmp_path / "m.onnx").notes == ()
    proto = onnx.load(tmp_path / "m.onnx")
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    onnx.save(proto, tmp_path / "h.onnx")
    expected = {name: values.half().float() for name, values in net.state_dict().items()}
    report = pytorch.load(net, tmp_path / "h.onnx")
    assert report.notes == ("the file holds float16, so that the weights of the model are rounded to that",)
    for name, values in expected.items():
        torch.testing.assert_close(net.state_dict()[name], values, rtol=0, atol=0)


class Tied(nn.Module):
    """A table of words that is the head, too, two square layers side by side, and one that makes the rest wider."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.norm = nn.Embedding(12, 8), nn.LayerNorm(8)
        self.query, self.key = nn.Linear(8, 8), nn.Linear(8, 8)
        self.wide, self.narrow = nn.Linear(8, 10), nn.Linear(10, 8)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, T, 12)."""
        x = self.norm(self.words(tokens))
        x = x + (self.query(x) @ self.key(x).transpose(1, 2)).softmax(-1) @ x
        x = x + self.narrow(torch.relu(self.wide(x)))
        return nn.functional.linear(x, self.words.weight)


TOKENS = torch.arange(12).reshape(2, 6)


def by_onnxruntime(source: Path, target: Path) -> None:
    """MatMul and Add become Gemm and Reshape, turned matrices are folded, and take the names of what turned them."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def as_onnxslim(source: Path, target: Path) -> None:
    """The same, with the matrices as they were, under new names, and the head's table stored once."""
    by_onnxruntime(source, target)
    proto = onnx.load(target)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    for number, node in enumerate(proto.graph.node):
        if node.op_type == "Gemm":
            tensor = tensors[node.input[1]]
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).T.copy(), f"matrix_{number}"))
            node.input[1] = tensor.name
            next(attribute for attribute in node.attribute if attribute.name == "transB").i = 1
    head = next(node for node in proto.graph.node if node.op_type == "MatMul" and node.input[1] in tensors)
    position = list(proto.graph.node).index(head)
    proto.graph.initializer.remove(tensors[head.input[1]])
    turned = onnx.helper.make_node("Transpose", ["words.weight"], [head.input[1]], perm=[1, 0])
    proto.graph.node.insert(position, turned)
    onnx.save(proto, target)


def without_repetition(source: Path, target: Path) -> None:
    """Equal tensors are one, and what is computed twice is computed once."""
    model = ir.load(source)
    common.DeduplicateInitializersPass()(model)
    common.CommonSubexpressionEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)
    ir.save(model, target)


@pytest.mark.parametrize(
    ("tool", "equal"),
    [
        (by_onnxruntime, False),
        (by_onnxruntime, True),
        (as_onnxslim, False),
        (as_onnxslim, True),
        (without_repetition, False),
    ],
)
def test_a_tied_weight_comes_back_from_behind_a_tool(
    tool: Callable[[Path, Path], None], equal: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net, other = Tied().eval(), Tied().eval()
    if equal:
        net.key.load_state_dict(net.query.state_dict())
    pytorch.export(net, tmp_path / "m.onnx", TOKENS)
    tool(tmp_path / "m.onnx", tmp_path / "t.onnx")
    assert pytorch.load(other, tmp_path / "t.onnx", TOKENS).complete
    for name, values in net.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name].numpy(), values.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(other(TOKENS).numpy(), run(tmp_path / "t.onnx", TOKENS), rtol=1e-4, atol=1e-5)


def test_a_tied_weight_with_two_values_is_refused(tmp_path: Path) -> None:
    """onnxruntime stores the table twice; a trainer can change one of the two."""
    torch.manual_seed(0)
    net, other = Tied().eval(), Tied().eval()
    pytorch.export(net, tmp_path / "m.onnx", TOKENS)
    by_onnxruntime(tmp_path / "m.onnx", tmp_path / "t.onnx")
    proto = onnx.load(tmp_path / "t.onnx")
    turned = next(tensor for tensor in proto.graph.initializer if list(tensor.dims) == [8, 12])
    turned.CopyFrom(numpy_helper.from_array(1.5 * numpy_helper.to_array(turned), turned.name))
    onnx.save(proto, tmp_path / "t.onnx")
    before = {name: values.clone() for name, values in other.state_dict().items()}
    with pytest.raises(CheckpointError, match="weight is absent"):
        pytorch.load(other, tmp_path / "t.onnx", TOKENS)
    for name, values in before.items():
        assert torch.equal(other.state_dict()[name], values)


class Scaled(nn.Module):
    """Two layers whose outputs are halved; a tool multiplies that into the kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, 8, 8) -> (B, 4, 4, 4)."""
        return torch.relu(self.second(torch.relu(self.first(x) * 0.5)) * 0.5)


def test_weights_into_which_a_tool_multiplied_are_refused(tmp_path: Path) -> None:
    """They have the shapes and the places of the weights that they are no more."""
    torch.manual_seed(0)
    net, other, images = Scaled().eval(), Scaled().eval(), torch.rand(1, 3, 8, 8)
    pytorch.export(net, tmp_path / "m.onnx", images)
    by_onnxruntime(tmp_path / "m.onnx", tmp_path / "t.onnx")
    kernels = [numpy_helper.to_array(t) for t in onnx.load(tmp_path / "t.onnx").graph.initializer if len(t.dims) == 4]
    assert any(np.array_equal(kernel, 0.5 * net.first.weight.detach().numpy()) for kernel in kernels)
    with pytest.raises(CheckpointError, match="is absent"):
        pytorch.load(other, tmp_path / "t.onnx", images)
