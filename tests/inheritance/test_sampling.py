"""Channels stay where a value is read, or written anew, at places that the model computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from growing_nets import grow
from onnx import numpy_helper, parser
from torch import nn

from onnx_ghn import predict


class Sampled(nn.Module):
    """A map is read at places that are learned of it, as deformable attention does."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.places = nn.Conv2d(width, 2, 1)
        self.head = nn.Conv2d(width, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        grid = torch.tanh(self.places(x)).permute(0, 2, 3, 1)
        return self.head(F.grid_sample(x, grid, align_corners=False))


class Scattered(nn.Module):
    """Rows of features are written over others, at the places of the largest."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Linear(6, width)
        self.over = nn.Linear(6, width)
        self.head = nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.argsort(1)[:, :2, :1]
        new = self.over(x[:, :2])
        return self.head(torch.relu(self.stem(x).scatter(1, rows.expand_as(new), new)))


class Normed(nn.Module):
    """Learned queries pass a norm before data meet them, as in the first layer of a decoder."""

    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(width)
        self.queries = nn.Parameter(torch.randn(1, 4, width))
        self.norm = nn.LayerNorm(width)
        self.q, self.k, self.v = nn.Linear(width, width), nn.Linear(6, width), nn.Linear(6, width)
        self.head = nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        queries = self.norm(self.queries)
        scores = self.q(queries) @ self.k(x).transpose(1, 2) / self.q.out_features**0.5
        return self.head(scores.softmax(-1) @ self.v(x) + queries)


def test_a_map_that_is_sampled_grows(tmp_path: Path) -> None:
    grown = grow(tmp_path, Sampled(16), Sampled(8), torch.randn(2, 3, 8, 8))
    assert grown.inheritance.is_exact
    assert grown.error < 1e-5


def test_rows_that_are_written_over_others_grow(tmp_path: Path) -> None:
    grown = grow(tmp_path, Scattered(16), Scattered(8), torch.randn(2, 5, 6))
    assert grown.inheritance.is_exact
    assert grown.error < 1e-5


def test_learned_queries_behind_which_a_norm_stands_are_inherited(tmp_path: Path) -> None:
    for width in (8, 16):
        grown = grow(tmp_path, Normed(width), Normed(8), torch.randn(2, 5, 6))
        assert not grown.inheritance.missing
        assert grown.error < 1e-5


def weighted(text: str, width: int, seed: int, beside: int) -> onnx.ModelProto:
    """A model whose first weights make features, and whose last read them, with others beside."""
    model = parser.parse_model(text)
    rng = np.random.default_rng(seed)
    for name, shape in (("a", (6, width)), ("b", (width + beside, 3))):
        model.graph.initializer.append(numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
    return model


def backwards(width: int, seed: int) -> onnx.ModelProto:
    """A sequence that is read backwards, beside itself: Keras's Bidirectional, as TensorFlow writes it."""
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        net (float[2, 5, 6] x) => (float[2, 5, 3] y) <int64[2] lengths = {5, 5}>
        {
            h = MatMul (x, a)
            r = ReverseSequence <batch_axis = 0, time_axis = 1> (h, lengths)
            j = Concat <axis = 2> (r, x)
            y = MatMul (j, b)
        }"""
    return weighted(text, width, seed, 6)


def tokens(width: int, seed: int) -> onnx.ModelProto:
    """Numbers as ones at their places, beside features: Keras's CategoryEncoding."""
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        net (float[2, 5, 6] x) => (float[2, 5, 3] y) <int64[1] depth = {4}, float[2] off_on = {0.0, 1.0}>
        {
            h = MatMul (x, a)
            whole = ArgMax <axis = 2, keepdims = 0> (x)
            ones = OneHot (whole, depth, off_on)
            j = Concat <axis = 2> (h, ones)
            y = MatMul (j, b)
        }"""
    return weighted(text, width, seed, 4)


@pytest.mark.parametrize("made", [backwards, tokens])
def test_what_stands_beside_other_features_grows(made: Callable[[int, int], onnx.ModelProto], tmp_path: Path) -> None:
    onnx.save(made(8, 0), tmp_path / "donor.onnx")
    grown = predict(made(16, 1), tmp_path / "out.onnx", donors=[tmp_path / "donor.onnx"])
    assert grown.inheritance is not None
    assert grown.inheritance.is_exact
    x = np.random.default_rng(5).normal(size=(2, 5, 6)).astype(np.float32)
    outputs = [
        onnxruntime.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for name in ("donor.onnx", "out.onnx")
    ]
    np.testing.assert_allclose(outputs[1], outputs[0], atol=2e-5)
