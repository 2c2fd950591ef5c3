"""A module of everything that an export has to keep, and what tests ask of modules."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn


class Small(nn.Module):
    """Convolution, batch norm, attention, LSTM, a tied head, a frozen layer, a buffer, and a head of training."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.frozen = nn.Conv2d(8, 8, 1).requires_grad_(False)
        self.attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.rnn = nn.LSTM(8, 6, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, 5)
        self.auxiliary = nn.Linear(8, 5)
        self.register_buffer("table", torch.rand(1, 16, 8))
        self.drop = nn.Dropout(0.5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(image)))
        x = self.frozen(x).flatten(2).transpose(1, 2) + self.table
        y = self.rnn(self.attention(x))[0]
        result = self.head(self.drop(y.mean(1)))
        return result + self.auxiliary(x.mean(1)) if self.training else result


IMAGE = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def small(seed: int = 0) -> Small:
    torch.manual_seed(seed)
    module = Small()
    module.norm.running_mean.uniform_(-1, 1)
    module.norm.running_var.uniform_(0.5, 2)
    return module


def run(path: Path, *inputs: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})[0]


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(module.state_dict())


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)
