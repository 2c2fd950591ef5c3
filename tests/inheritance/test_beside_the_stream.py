"""Weights that are read beside the stream: learned queries, biases of distances, joined biases, experts, sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from growing_nets import grow, run
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from onnx_ghn import predict


class Branch(nn.Module):
    """Attention within windows of half the sequence, cut by sizes that the model computes, whose biases are stored
    apart, with biases of scores that a small network makes of distances.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.o = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(width)) for _ in range(2))
        self.register_buffer("k_bias", torch.zeros(width), persistent=False)
        self.first, self.second = nn.Linear(1, 7), nn.Linear(7, heads, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        x = x.reshape(batch * 2, length // 2, width)
        y = F.linear(x, self.qkv.weight, torch.cat([self.q_bias, self.k_bias, self.v_bias]))
        q, k, v = y.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        places = torch.arange(x.shape[1], dtype=torch.float32)
        apart = (places[:, None] - places)[..., None]  # (N, N, 1)
        bias = self.second(F.relu(self.first(apart))).permute(2, 0, 1)  # (h, N, N)
        y = torch.softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + bias, -1) @ v
        return self.o(y.transpose(1, 2).flatten(2)).reshape(batch, length, width)


class Experts(nn.Module):
    """Two of four experts for each row, whose weights are gathered, as Hugging Face exports them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, 4)
        self.up = nn.Parameter(torch.randn(4, 2 * width, width) * width**-0.5)
        self.down = nn.Parameter(torch.randn(4, width, 2 * width) * width**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shares, which = torch.topk(torch.softmax(self.gate(x), -1), 2)  # (B, N, 2)
        y = F.relu(self.up[which] @ x[:, :, None, :, None])  # (B, N, 2, 2 · width, 1)
        y = (self.down[which] @ y).squeeze(-1)  # (B, N, 2, width)
        return (y * shares[..., None]).sum(2)


class Pool(nn.Module):
    """Learned queries that gather a sequence."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.latent = nn.Parameter(torch.randn(1, 2, width))
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        given = (self.latent.expand(x.shape[0], -1, -1), x, x)
        q, k, v = (
            layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, y in zip((self.q, self.k, self.v), given, strict=True)
        )
        y = torch.softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, -1) @ v
        return self.o(y.transpose(1, 2).flatten(2))


class Model(nn.Module):
    def __init__(self, width: int, heads: int, depth: int, branch: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.first = nn.Linear(6, width)
        self.branches = nn.ModuleList([branch(width, heads) for _ in range(depth)])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(depth)])
        self.pool, self.last = Pool(width, heads), nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for branch, norm in zip(self.branches, self.norms, strict=True):
            x = x + branch(norm(x))
        return self.last(self.pool(x).mean(1))


@pytest.mark.parametrize("size", [(32, 4, 1), (16, 2, 3)], ids=["wider", "deeper"])
def test_windows_keep_outputs(size: tuple[int, int, int], tmp_path: Path) -> None:
    torch.manual_seed(0)
    donor = Model(16, 2, min(size[2], 2), Branch)
    grown = grow(tmp_path, Model(*size, Branch), donor, torch.randn(2, 6, 6))
    assert grown.inheritance.is_exact, grown.inheritance.doubts
    assert grown.inheritance.tensors.keys() == grown.names
    assert grown.error <= 1e-5


def test_wider_experts_keep_outputs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    grown = grow(tmp_path, Model(32, 4, 1, Experts), Model(16, 2, 1, Experts), torch.randn(2, 6, 6))
    assert grown.inheritance.is_exact, grown.inheritance.doubts
    assert grown.inheritance.tensors.keys() == grown.names
    assert grown.error <= 1e-5


def test_joined_biases_come_from_their_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    donor = Model(16, 2, 1, Branch)
    grown = grow(tmp_path, Model(16, 2, 1, Branch), donor, torch.randn(2, 6, 6))
    for part in ("q_bias", "v_bias"):
        found = grown.inheritance.tensors[f"branches.0.{part}"]
        assert found.source == f"branches.0.{part}"
        np.testing.assert_array_equal(found.values(), getattr(donor.branches[0], part).detach().numpy())


class Rows(nn.Module):
    """Rows of a state that are written one after the other, and its places that are resized to the root of a size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, width), nn.Linear(width, 3)
        self.places = nn.Parameter(torch.randn(1, 4, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        side = int(self.places.shape[1] ** 0.5)
        grid = self.places.reshape(1, side, side, -1).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, scale_factor=2.0, mode="bilinear").flatten(2).transpose(1, 2)
        state = torch.zeros(2, 16, x.shape[-1])
        for i in range(3):
            state[:, i] = x[:, i] * 0.5
        return self.last(torch.relu(state + grid).mean(1))


def test_rows_that_are_written_are_followed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    grown = grow(tmp_path, Rows(16), Rows(8), torch.randn(2, 3, 6))
    assert not grown.inheritance.trace.unknown
    assert grown.inheritance.is_exact, grown.inheritance.doubts
    assert grown.inheritance.tensors.keys() == grown.names
    assert grown.error <= 1e-5


@pytest.mark.parametrize("is_constant", [False, True])
def test_tables_that_arrays_index_are_followed(is_constant: bool, tmp_path: Path) -> None:
    """GatherND, which torch's second exporter writes for them: of tokens, and of biases that go with distances."""
    models = []
    for width in (8, 4):
        rng = np.random.default_rng(width)
        stored = {"table": rng.standard_normal((5, width)), "last": rng.standard_normal((width, 3))}
        tensors = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in stored.items()]
        tensors += [numpy_helper.from_array(np.array([[[1], [4], [0]]]), "places")]
        nodes = [helper.make_node("GatherND", ["table", "places" if is_constant else "tokens"], ["rows"])]
        if is_constant:
            tensors.append(numpy_helper.from_array(rng.standard_normal((1, width)).astype(np.float32), "first"))
            nodes += [
                helper.make_node("MatMul", ["x", "first"], ["y"]),
                helper.make_node("Add", ["y", "rows"], ["sum"]),
            ]
        nodes.append(helper.make_node("MatMul", ["sum" if is_constant else "rows", "last"], ["z"]))
        kind = TensorProto.FLOAT if is_constant else TensorProto.INT64
        given = helper.make_tensor_value_info("x" if is_constant else "tokens", kind, [1, 3, 1])
        graph = helper.make_graph(
            nodes, "g", [given], [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 3, 3])], tensors
        )
        models.append(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9))
    onnx.save(models[1], tmp_path / "donor.onnx")
    found = predict(models[0], tmp_path / "out.onnx", donors=[tmp_path / "donor.onnx"]).inheritance
    assert found is not None
    assert found.is_exact, found.doubts
    assert {"table", "last"} <= found.tensors.keys()
    values = torch.tensor([[[2], [0], [4]]])
    example = [values.float() if is_constant else values]
    np.testing.assert_allclose(run(str(tmp_path / "out.onnx"), example), run(models[1], example), rtol=0, atol=1e-5)


class PassedBy(nn.Module):
    """Queries pass attention by and are added to its values, as in the set transformer: weights read them, too."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.last, self.o = nn.Linear(6, width), nn.Linear(width, 3), nn.Linear(width, width)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        q, k, v = (each(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (self.q, self.k, self.v))
        scores = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1)
        x = (q + scores @ v).transpose(1, 2).flatten(2)
        return self.last(x + torch.relu(self.o(x)))


def test_keys_take_zeros_where_weights_read_the_queries(tmp_path: Path) -> None:
    torch.manual_seed(0)
    grown = grow(tmp_path, PassedBy(32, 2), PassedBy(16, 2), torch.randn(2, 5, 6))
    assert grown.inheritance.is_exact, grown.inheritance.doubts
    assert grown.error <= 1e-5
    rules = {name.split(".")[0]: tensor.rule for name, tensor in grown.inheritance.tensors.items() if ".bias" in name}
    assert rules["k"] == "channel 16 → 32 copied, keys padded with zeros, × √(16/8)"
    assert rules["q"] == "channel 16 → 32 copied"


class Branches(nn.Module):
    """The product of what two branches make of a stream, both of which weights read as well."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (
            nn.Linear(6, width),
            nn.Linear(6, width),
            nn.Linear(width, 3),
            nn.Linear(width, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.a(x).relu(), self.b(x).relu()
        return a @ b.transpose(1, 2) @ (self.c(a) + self.d(b))


def test_products_of_what_weights_read_are_doubted(tmp_path: Path) -> None:
    torch.manual_seed(0)
    grown = grow(tmp_path, Branches(16), Branches(8), torch.randn(2, 5, 6))
    assert grown.inheritance.doubts == ("heads grow from 8 to 16, and weights read what is multiplied, too",)
