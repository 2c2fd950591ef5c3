"""Folded batch norms are found by structure and values, whatever names say; nets without them get no note."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F

from onnx_ghn.exporters import pytorch
from onnx_ghn.onnx_io import read_model, write_model
from onnx_ghn.passes import UnfoldBatchNorms, find_folded, open_model

pytestmark = pytest.mark.filterwarnings("ignore")


class Block(nn.Sequential):
    def __init__(self, n_in: int, n_out: int, kernel: int = 3, stride: int = 1) -> None:
        conv = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(n_out), nn.SiLU())


class C2f(nn.Module):
    """As in YOLOv8: split, residual blocks, concatenation. Four batch norms."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = Block(width, width, 1), Block(3 * width // 2, width, 1)
        self.inner = nn.Sequential(Block(width // 2, width // 2), Block(width // 2, width // 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = list(self.first(x).chunk(2, 1))
        parts.append(parts[-1] + self.inner(parts[-1]))
        return self.last(torch.cat(parts, 1))


class Yolo(nn.Module):
    """Two scales joined, a detection head without batch norm. 13 batch norms, 14 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(Block(3, 16, 3, 2), Block(16, 32, 3, 2), C2f(32))
        self.deep = nn.Sequential(Block(32, 32, 3, 2), C2f(32))
        self.head = nn.Sequential(Block(64, 32), Block(32, 32), nn.Conv2d(32, 20, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = self.stem(x)
        return self.head(torch.cat([F.interpolate(self.deep(fine), scale_factor=2.0), fine], 1)).flatten(2)


class Squeeze(nn.Module):
    """An inverted residual with squeeze and excitation, whose two convolutions have biases and no batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide, self.thin = Block(3, 16), Block(16, 32, 1), nn.Conv2d(32, 16, 1, bias=False)
        self.norm, self.down, self.up = nn.BatchNorm2d(16), nn.Conv2d(32, 8, 1), nn.Conv2d(8, 32, 1)
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        h = self.wide(x)
        h = h * torch.sigmoid(self.up(F.silu(self.down(F.adaptive_avg_pool2d(h, 1)))))
        return self.head((x + self.norm(self.thin(h))).mean((2, 3)))


class Dense(nn.Module):
    """Norm, activation, convolution: the batch norms after a concatenation cannot be folded, those between can."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(16 + 8 * i) for i in range(9))
        self.inner = nn.ModuleList(Block(16 + 8 * i, 32, 1) for i in range(9))
        self.outer = nn.ModuleList(nn.Conv2d(32, 8, 3, padding=1, bias=False) for _ in range(9))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for norm, inner, outer in zip(self.norms, self.inner, self.outer, strict=True):
            x = torch.cat([x, outer(inner(F.relu(norm(x))))], 1)
        return x.mean((2, 3))


class UNet(nn.Module):
    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.norm = norm
        self.down = nn.ModuleList([self.two(3, 16), self.two(16, 32), self.two(32, 48)])
        self.rise = nn.ModuleList([nn.ConvTranspose2d(48, 32, 2, 2), nn.ConvTranspose2d(32, 16, 2, 2)])
        self.join = nn.ModuleList([self.two(64, 32), self.two(32, 16)])
        self.last = nn.Conv2d(16, 2, 1)

    def two(self, n_in: int, n_out: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for n in (n_in, n_out):
            norm = [nn.BatchNorm2d(n_out)] if self.norm else []
            layers += [nn.Conv2d(n, n_out, 3, padding=1, bias=not self.norm), *norm, nn.ReLU()]
        return nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = []
        for i, down in enumerate(self.down):
            x = down(F.max_pool2d(x, 2) if i else x)
            maps.append(x)
        for rise, join, skip in zip(self.rise, self.join, maps[-2::-1], strict=True):
            x = join(torch.cat([skip, rise(x)], 1))
        return self.last(x)


class SuperResolution(nn.Module):
    """Residual sums without any norm, as EDSR has them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 if i == 0 else 24, 24, 3, padding=1) for i in range(9))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layers[0](x)
        for a, b in zip(self.layers[1::2], self.layers[2::2], strict=True):
            x = x + b(F.relu(a(x)))
        return x


def chain(*widths: int, norm: bool = False) -> nn.Sequential:
    """VGG's way."""
    layers: list[nn.Module] = []
    for n_in, n_out in zip((3, *widths[:-1]), widths, strict=True):
        bn = [nn.BatchNorm2d(n_out)] if norm else []
        layers += [nn.Conv2d(n_in, n_out, 3, padding=1, bias=not norm), *bn, nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 4))


def trained(module: nn.Module) -> nn.Module:
    """Statistics, scales and shifts as wide apart as trained nets have them; biases of other layers moved a little."""
    rng = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.3, generator=rng)
            part.running_var.log_normal_(-0.7, 0.7, generator=rng)
            nn.init.uniform_(part.weight, 0.2, 1.4, generator=rng)
            nn.init.normal_(part.bias, 0, 0.3, generator=rng)
        elif isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            with torch.no_grad():
                part.weight.mul_(1 + 0.2 * torch.randn(part.weight.shape, generator=rng))
                if part.bias is not None:
                    part.bias.add_(0.03 * torch.randn(part.bias.shape, generator=rng))
    return module


def export(module: nn.Module, dynamo: bool = False) -> onnx.ModelProto:
    logging.disable(logging.CRITICAL)
    image = (torch.zeros(1, 3, 32, 32),)
    if dynamo:
        program = torch.onnx.export(module.eval(), image, dynamo=True, verbose=False)
        logging.disable(logging.NOTSET)
        return program.model_proto
    data = io.BytesIO()
    torch.onnx.export(module.eval(), image, data, dynamo=False)
    logging.disable(logging.NOTSET)
    return onnx.load_from_string(data.getvalue())


FOLDED: list[tuple[Callable[[], nn.Module], int]] = [
    (Yolo, 13),
    (Squeeze, 3),
    (Dense, 9),
    (lambda: UNet(norm=True), 10),
    (lambda: chain(16, 16, 32, 32, norm=True), 4),
]
PLAIN: list[Callable[[], nn.Module]] = [
    lambda: UNet(norm=False),
    SuperResolution,
    lambda: chain(16, 16, 32, 32),
    lambda: nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.Flatten()),
]


def renamed(proto: onnx.ModelProto) -> onnx.ModelProto:
    """With names that tell nothing."""
    names = {name: f"t{i}" for i, name in enumerate(t.name for t in proto.graph.initializer)}
    for tensor in proto.graph.initializer:
        tensor.name = names[tensor.name]
    for i, node in enumerate(proto.graph.node):
        node.name = f"n{i}"
        node.input[:] = [names.get(name, name) for name in node.input]
    return proto


@pytest.mark.parametrize("state", ["trained", "fresh"])
@pytest.mark.parametrize(("make", "expected"), FOLDED)
def test_as_many_as_there_were(make: Callable[[], nn.Module], expected: int, state: str) -> None:
    torch.manual_seed(0)
    module = trained(make()) if state == "trained" else make()
    assert sum(isinstance(part, nn.BatchNorm2d) for part in module.modules()) >= expected
    opened = open_model(renamed(export(module)))
    assert len(find_folded(opened.model)) == expected
    assert opened.notes[0].startswith(f"{expected} convolutions look as if batch norms had been folded")


@pytest.mark.parametrize("make", [Yolo, lambda: chain(16, 16, 32, 32, norm=True)])
def test_the_new_exporter(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    expected = sum(isinstance(part, nn.BatchNorm2d) for part in make().modules())
    assert len(find_folded(read_model(export(trained(make()), dynamo=True)))) == expected


@pytest.mark.parametrize("state", ["trained", "fresh", "zero"])
@pytest.mark.parametrize("make", PLAIN)
def test_nets_without_batch_norms(make: Callable[[], nn.Module], state: str) -> None:
    torch.manual_seed(0)
    module = trained(make()) if state == "trained" else make()
    if state == "zero":  # as many codes initialise their biases
        if make is SuperResolution:
            pytest.skip("a residual net whose biases are zero looks as one with fresh batch norms does")
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
    assert open_model(export(module)).notes == ()


def test_weights_in_constants_and_half_precision() -> None:
    """Weights in Constant nodes, as Paddle writes them, and in half precision: found all the same, and put back."""
    torch.manual_seed(0)
    proto = export(trained(Yolo()))
    for tensor in list(proto.graph.initializer):
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) in (1, 4):
            proto.graph.initializer.remove(tensor)
            proto.graph.node.insert(0, onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))
    assert len(find_folded(read_model(proto))) == 13
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.attribute[0].t.data_type == onnx.TensorProto.FLOAT:
            half = numpy_helper.to_array(node.attribute[0].t).astype(np.float16)
            node.attribute[0].t.CopyFrom(numpy_helper.from_array(half))
    assert len(find_folded(read_model(proto))) == 13


@pytest.mark.parametrize("make", [Yolo, Squeeze, lambda: UNet(norm=True)])
def test_put_back_they_compute_the_same(make: Callable[[], nn.Module], tmp_path: object) -> None:
    torch.manual_seed(0)
    folded = export(trained(make()))
    model = read_model(folded)
    n_found = len(find_folded(model))
    assert len(UnfoldBatchNorms()(model).changes) == n_found > 2
    path = write_model(model, f"{tmp_path}/m.onnx")[0]
    image = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    before, after = (
        onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
        for source in (folded.SerializeToString(), str(path))
    )
    feed = {before.get_inputs()[0].name: image}
    np.testing.assert_allclose(after.run(None, feed)[0], before.run(None, feed)[0], rtol=1e-3, atol=1e-4)
    assert find_folded(read_model(path)) == []


class LowRank(nn.Module):
    """A convolution and a pair of thin ones beside it, of which none has a bias, as LoRA adds them."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.thin = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 2, 3, bias=False)
        self.wide, self.head = nn.Conv2d(2, 8, 1, bias=False), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head((self.base(x) + self.wide(self.thin(x))).relu().mean((2, 3)))


def test_a_file_that_tells_all_its_tensors_needs_no_guess(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "noted.onnx"
    pytorch.export(LowRank(), path, torch.zeros(1, 3, 32, 32), exporter="torchscript")
    assert open_model(path).notes == ()
    assert open_model(export(LowRank(), dynamo=True)).notes == ()  # it lists its buffers, of which there are none
    assert len(find_folded(read_model(export(LowRank())))) == 2  # by values alone they look so
    listed = open_model(export(trained(chain(16, 16, 32, 32, norm=True)), dynamo=True))
    assert "look as if batch norms had been folded" in listed.notes[0]


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_a_bias_behind_an_identity_is_a_bias(op: str) -> None:
    """Paddle's file of a generator: an Identity node stands behind each convolution, and then its bias."""
    rng = np.random.default_rng(0)
    tensors, nodes, value = [], [], "x"
    for number in range(4):
        tensors.append(numpy_helper.from_array(rng.standard_normal((8, 8, 3, 3), dtype=np.float32), f"w{number}"))
        tensors.append(numpy_helper.from_array(rng.standard_normal((8, 1, 1), dtype=np.float32) / 10, f"b{number}"))
        nodes += [
            helper.make_node(op, [value, f"w{number}"], [f"c{number}"], pads=[1, 1, 1, 1]),
            helper.make_node("Identity", [f"c{number}"], [f"i{number}"]),
            helper.make_node("Add", [f"i{number}", f"b{number}"], [f"a{number}"]),
            helper.make_node("Relu", [f"a{number}"], [f"r{number}"]),
        ]
        value = f"r{number}"
    tensors.append(numpy_helper.from_array(np.ones((8, 4), np.float32), "head"))
    tensors.append(numpy_helper.from_array(np.ones(4, np.float32), "bias"))
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "head", "bias"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 8, 8, 8]), ("y", [1, 4])))
    proto = helper.make_model(helper.make_graph(nodes, "g", [x], [y], tensors), ir_version=9)
    assert find_folded(ir.from_proto(proto)) == []
