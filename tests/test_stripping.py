"""strip takes the weights and nothing else: with them put back, a model computes what it did."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from onnx_ghn import build_graph, predict, strip
from onnx_ghn.onnx_io import inject, read_model, stored_tensors, write_model
from onnx_ghn.runtime import open_session
from onnx_ghn.torch_export import module_to_onnx

WIDTH, LENGTH = 32, 12


class Rotary(nn.Module):
    """Attention with rotated queries and keys, a fixed scale and a GELU; 0.5 and the scale are numbers of the code."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(40, WIDTH)
        self.query, self.key, self.up, self.down = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        angles = torch.arange(LENGTH)[:, None] / 10_000 ** (torch.arange(WIDTH // 2) / (WIDTH // 2))
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def _turned(self, x: Tensor) -> Tensor:
        one, other = x[..., : WIDTH // 2], x[..., WIDTH // 2 :]
        return torch.cat([one * self.cos - other * self.sin, one * self.sin + other * self.cos], -1)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, N) -> (B, N, 40)."""
        x = self.table(ids)
        scores = self._turned(self.query(x)) @ self._turned(self.key(x)).transpose(1, 2) * WIDTH**-0.5
        x = x + F.softmax(scores, -1) @ x
        x = self.down(F.gelu(self.up(x)))
        return x @ self.table.weight.T


class Sinusoidal(nn.Module):
    """Positions of sines and cosines, added; what comes in is normalised by settings of the code."""

    def __init__(self) -> None:
        super().__init__()
        angles = torch.arange(LENGTH)[:, None] / 10_000 ** (torch.arange(WIDTH // 2) / (WIDTH // 2))
        self.positions: Tensor
        self.register_buffer("positions", torch.cat([angles.sin(), angles.cos()], -1))
        self.layer, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, d) -> (B, 5)."""
        x = torch.tanh(self.layer((x - 0.4) / 0.3) + self.positions)
        return self.head(x.mean(1)) * 0.125


class Filtered(nn.Module):
    """A fixed bank of triangles before the layers, as a spectrogram's, and batch norms behind them."""

    def __init__(self) -> None:
        super().__init__()
        centres = torch.linspace(0, WIDTH, 10)[1:-1]
        bank = (1 - (torch.arange(WIDTH)[:, None] - centres).abs() / 4).clamp_min(0)  # (d, 8)
        self.bank: Tensor
        self.register_buffer("bank", bank)
        self.layers = nn.Sequential(nn.Conv1d(LENGTH, 16, 3), nn.BatchNorm1d(16), nn.PReLU(), nn.Flatten())
        self.head = nn.Linear(16 * 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, d) -> (B, 3)."""
        return self.head(self.layers((x @ self.bank + 1e-3).log()))


NETS = {"rotary": Rotary, "sinusoidal": Sinusoidal, "filtered": Filtered}


@pytest.fixture(params=list(NETS))
def exported(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, np.ndarray]:
    torch.manual_seed(0)
    net = NETS[request.param]()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for name, buffer in net.named_buffers():
            if "running" in name:
                buffer.add_(torch.rand_like(buffer))
    generator = np.random.default_rng(0)
    if request.param == "rotary":
        inputs = generator.integers(0, 40, (2, LENGTH))
    else:
        inputs = generator.random((2, LENGTH, WIDTH), np.float32)
    model = module_to_onnx(net.eval(), (torch.from_numpy(inputs),), input_names=["x"])
    onnx.save(model, tmp_path / "m.onnx")
    return tmp_path / "m.onnx", inputs


def test_with_its_weights_put_back_a_stripped_model_computes_the_same(
    exported: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    path, inputs = exported
    (expected,) = open_session(path).run(None, {"x": inputs})
    own = {name: tensor.numpy() for name, tensor in stored_tensors(read_model(path)).items()}
    strip(path, tmp_path / "s.onnx")
    names = [p.name for p in build_graph(path).parameters]
    left = read_model(tmp_path / "s.onnx")
    taken = {name for name, tensor in stored_tensors(left).items() if tensor.kind == "constant_of_shape"}
    assert taken
    assert taken <= set(names)  # nothing but parameters and their statistics
    assert not any(np.array_equal(stored_tensors(left)[name].numpy(), own[name]) for name in taken)
    inject(left, {name: lambda name=name: own[name] for name in taken})
    (filled,) = write_model(left, tmp_path / "filled.onnx")
    (found,) = open_session(filled).run(None, {"x": inputs})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_what_was_computed_survives_strip_and_predict(
    exported: tuple[Path, np.ndarray], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, _ = exported
    with caplog.at_level(logging.WARNING, "onnx_ghn.stripping"):
        strip(path, tmp_path / "s.onnx")
    predict(tmp_path / "s.onnx", tmp_path / "p.onnx", policy="all")
    own, written = (stored_tensors(read_model(each)) for each in (path, tmp_path / "p.onnx"))
    parameters = {p.name for p in build_graph(tmp_path / "s.onnx").parameters}
    tables = [name for name, tensor in own.items() if tensor.dtype.is_floating_point() and name not in parameters]
    assert any(len(own[name].shape) == 2 for name in tables) or "they look computed" in caplog.text
    for name in tables:
        np.testing.assert_array_equal(written[name].numpy(), own[name].numpy())


@pytest.mark.parametrize(
    ("nodes", "setting"),
    [
        ([("MatMul", "x", "x"), ("Mul", "h0", "k")], 0.1767767),  # the scale of attention
        ([("MatMul", "x", "w"), ("Mul", "h0", "k")], 0.5),  # half of a GELU behind a layer
        ([("MatMul", "x", "w"), ("Add", "h0", "k")], 1e-5),
        ([("Gemm", "x", "w"), ("Mul", "k", "h0")], 2.5),
    ],
)
def test_numbers_of_the_code_behind_a_layer_stay(
    nodes: list[tuple[str, str, str]], setting: float, tmp_path: Path
) -> None:
    made = [
        helper.make_node(op, [one, two], [f"h{i}" if i + 1 < len(nodes) else "y"])
        for i, (op, one, two) in enumerate(nodes)
    ]
    weights = [
        numpy_helper.from_array(np.random.default_rng(0).standard_normal((24, 24)).astype(np.float32), "w"),
        numpy_helper.from_array(np.float32(setting), "k"),
    ]
    info = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [24, 24]) for name in ("x", "y")]
    used = {name for _, one, two in nodes for name in (one, two)}
    graph = helper.make_graph(made, "g", info[:1], info[1:], [w for w in weights if w.name in used])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    strip(tmp_path / "m.onnx", tmp_path / "s.onnx")
    found = stored_tensors(read_model(tmp_path / "s.onnx"))
    assert found["k"].kind == "initializer"
    assert float(found["k"].numpy()) == np.float32(setting)
    assert "w" not in found or found["w"].kind == "constant_of_shape"
