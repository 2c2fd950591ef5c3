"""Small networks of torch for the tests of inheritance, and the pair of outputs that a test compares."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from torch import nn

from onnx_ghn.graph.builder import read_graph
from onnx_ghn.inheritance.donor import open_donor
from onnx_ghn.inheritance.inheriting import Inheritance, inherit
from onnx_ghn.onnx_io import inject, write_model
from onnx_ghn.passes import open_model
from onnx_ghn.torch_export import module_to_onnx


def trained(module: nn.Module, seed: int = 0) -> nn.Module:
    """A module whose norms, biases and statistics are those of no fresh one."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if not tensor.dtype.is_floating_point or tensor.numel() < 2 or "inv_freq" in name:
                continue
            if tensor.ndim > 1:
                if not tensor.any():
                    tensor.copy_(torch.randn(tensor.shape, generator=draw) * 0.1)
            elif "var" in name:
                tensor.copy_(torch.rand(tensor.shape, generator=draw) + 0.5)
            elif "weight" in name:
                tensor.copy_(torch.rand(tensor.shape, generator=draw) * 0.5 + 0.75)
            else:
                tensor.copy_(torch.randn(tensor.shape, generator=draw) * 0.1)
    return module.eval()


def exported(module: nn.Module, *example: torch.Tensor) -> onnx.ModelProto:
    return module_to_onnx(module.eval(), example)


def run(model: onnx.ModelProto | str, example: Sequence[torch.Tensor]) -> np.ndarray:
    given = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(given, providers=["CPUExecutionProvider"])
    feed = {value.name: tensor.numpy() for value, tensor in zip(session.get_inputs(), example, strict=True)}
    output: np.ndarray = session.run(None, feed)[0]
    return output


@dataclasses.dataclass
class Grown:
    """What came of a pair: the recipient's outputs with the donor's weights, and the donor's."""

    inheritance: Inheritance
    outputs: np.ndarray
    donor: np.ndarray
    names: set[str]

    @property
    def error(self) -> float:
        """The largest difference, as a share of the donor's largest output: rounding grows with the outputs."""
        assert self.scale > 0
        return float(np.abs(self.outputs - self.donor).max()) / self.scale

    @property
    def scale(self) -> float:
        return float(np.abs(self.donor).max())


def grow(
    tmp_path: Any, recipient: nn.Module, donor: nn.Module, *example: torch.Tensor, fresh: bool = True, **options: Any
) -> Grown:
    """Let one module inherit from another, both as ONNX, and run both files.

    Args:
        fresh: give the donor first what training would change.
    """
    theirs = exported(trained(donor) if fresh else donor, *example)
    opened = open_model(exported(recipient, *example))
    graph, flat = read_graph(opened.model, opened.stored, "onnx")
    found = inherit(opened, flat, graph, [open_donor(theirs)], **options)
    tensors = {name: _typed(tensor.values) for name, tensor in found.tensors.items()}
    inject(opened.model, tensors, opened.stored)
    write_model(opened.model, tmp_path / "grown.onnx", force=True)
    return Grown(
        found,
        run(str(tmp_path / "grown.onnx"), example),
        run(theirs, example),
        {parameter.name for parameter in graph.parameters},
    )


def _typed(make: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
    return lambda: make().astype(np.float32)


class RMSNorm(nn.Module):
    """With `offset` 1, the scale is 1 + weight, as Gemma has it."""

    def __init__(self, width: int, eps: float = 1e-6, offset: float = 0.0) -> None:
        super().__init__()
        self.weight, self.eps, self.offset = nn.Parameter(torch.ones(width)), eps, offset

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (
            x
            * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
            * (self.weight + self.offset if self.offset else self.weight)
        )


class GroupedAttention(nn.Module):
    """Rotary attention whose keys and values are shared by several queries."""

    def __init__(self, width: int, heads: int, shared: int, each: int, norms: bool) -> None:
        super().__init__()
        self.heads, self.shared, self.each = heads, shared, each
        self.q, self.k, self.v = (nn.Linear(width, n * each, bias=False) for n in (heads, shared, shared))
        self.o = nn.Linear(heads * each, width, bias=False)
        self.norms = nn.ModuleList([RMSNorm(each), RMSNorm(each)]) if norms else None

    def rotate(self, x: torch.Tensor) -> torch.Tensor:
        half = self.each // 2
        speeds = 10000 ** (-torch.arange(half) / half)
        angles = (torch.arange(x.shape[2])[:, None] * speeds).repeat(1, 2)  # (N, each)
        return x * angles.cos() + torch.cat([-x[..., half:], x[..., :half]], -1) * angles.sin()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        q = self.q(x).view(batch, length, self.heads, self.each)
        k = self.k(x).view(batch, length, self.shared, self.each)
        if self.norms is not None:
            q, k = self.norms[0](q), self.norms[1](k)
        q, k = self.rotate(q.transpose(1, 2)), self.rotate(k.transpose(1, 2))
        v = self.v(x).view(batch, length, self.shared, self.each).transpose(1, 2)
        shape = (batch, self.shared, self.heads // self.shared, length, self.each)
        k, v = (y[:, :, None].expand(shape).reshape(batch, self.heads, length, self.each) for y in (k, v))
        mask = torch.triu(torch.full((length, length), -1e9), 1)
        attention = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(self.each) + mask, -1)  # (B, h, N, N)
        return self.o((attention @ v).transpose(1, 2).reshape(batch, length, -1))


class DecoderBlock(nn.Module):
    def __init__(self, width: int, heads: int, shared: int, each: int, hidden: int, norms: bool) -> None:
        super().__init__()
        self.first, self.second = RMSNorm(width), RMSNorm(width)
        self.attention = GroupedAttention(width, heads, shared, each, norms)
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.first(x))
        y = self.second(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Decoder(nn.Module):
    """A small language model as Llama, Gemma and Qwen are."""

    def __init__(
        self,
        width: int = 32,
        heads: int = 4,
        shared: int = 2,
        each: int = 8,
        hidden: int = 64,
        depth: int = 2,
        tied: bool = False,
        norms: bool = False,
        scaled: bool = False,
    ) -> None:
        super().__init__()
        self.table = nn.Embedding(50, width)
        self.blocks = nn.ModuleList([DecoderBlock(width, heads, shared, each, hidden, norms) for _ in range(depth)])
        self.factor = math.sqrt(width) if scaled else 1.0
        self.norm, self.head = RMSNorm(width, offset=float(scaled)), nn.Linear(width, 50, bias=False)
        if tied:
            self.head.weight = self.table.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.table(tokens) * self.factor if self.factor != 1 else self.table(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Encoder(nn.Module):
    """A small BERT: a norm behind each sum."""

    def __init__(self, width: int = 32, heads: int = 4, hidden: int = 64, depth: int = 2, eps: float = 1e-12) -> None:
        super().__init__()
        self.heads = heads
        self.table, self.places = nn.Embedding(50, width), nn.Parameter(torch.randn(1, 12, width) * 0.1)
        self.norm = nn.LayerNorm(width, eps)

        def linears(n_in: int, n_out: int) -> nn.ModuleList:
            return nn.ModuleList([nn.Linear(n_in, n_out) for _ in range(depth)])

        self.q, self.k, self.v, self.o = (linears(width, width) for _ in range(4))
        self.up, self.down = linears(width, hidden), linears(hidden, width)
        self.first, self.second = (nn.ModuleList([nn.LayerNorm(width, eps) for _ in range(depth)]) for _ in range(2))
        self.head = nn.Linear(width, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.table(tokens) + self.places)
        batch, length, width = x.shape
        for i in range(len(self.q)):
            q, k, v = (
                layer(x).view(batch, length, self.heads, width // self.heads).transpose(1, 2)
                for layer in (self.q[i], self.k[i], self.v[i])
            )
            attention = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(width // self.heads), -1)
            x = self.first[i](x + self.o[i]((attention @ v).transpose(1, 2).reshape(batch, length, width)))
            x = self.second[i](x + self.down[i](F.gelu(self.up[i](x))))
        return self.head(x[:, 0])


class Recurrent(nn.Module):
    def __init__(self, hidden: int = 8, kind: type[nn.RNNBase] = nn.LSTM, both: bool = False) -> None:
        super().__init__()
        self.layers = kind(5, hidden, batch_first=True, num_layers=2, bidirectional=both)
        self.head = nn.Linear(hidden * (2 if both else 1), 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x)[0][:, -1])


class Plain(nn.Module):
    """Convolutions, norms and activations in a row."""

    def __init__(
        self,
        width: int,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        kernel: int = 3,
        groups: int = 1,
        depth: int = 2,
        channels: int = 3,
        classes: int = 4,
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1)]
        for _ in range(depth):
            layers += [norm(width), activation()]
            layers.append(nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=groups))
        self.layers = nn.Sequential(*layers, norm(width), activation())
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x).mean((2, 3)))
