"""Networks for words one after the other, waves and time series, without attention."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["M5", "InceptionTime", "RecurrentSeries", "RecurrentText", "ResNet1d", "TextCnn"]

Cell = Literal["LSTM", "GRU"]


class TextCnn(nn.Module):
    """Kim 2014: windows of three, four and five words, the strongest answer of each filter."""

    def __init__(self, tokens: int, n_classes: int, width: int, filters: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(tokens, width)
        self.windows = nn.ModuleList(nn.Conv1d(width, filters, size) for size in (3, 4, 5))
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(3 * filters, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N) -> (B, classes)."""
        y = self.tokens(x).transpose(1, 2)  # (B, width, N)
        found = [torch.relu(window(y)).amax(2) for window in self.windows]
        answer: Tensor = self.head(self.dropout(torch.cat(found, 1)))
        return answer


def _cells(kind: Cell, inputs: int, width: int, n_layers: int) -> nn.LSTM | nn.GRU:
    make = nn.LSTM if kind == "LSTM" else nn.GRU
    return make(inputs, width, n_layers, batch_first=True, bidirectional=True)


class RecurrentText(nn.Module):
    """Words through recurrent layers in both directions; the strongest answers over time are classified."""

    def __init__(self, tokens: int, n_classes: int, kind: Cell, width: int, n_layers: int = 1) -> None:
        super().__init__()
        self.tokens = nn.Embedding(tokens, width)
        self.cells, self.head = _cells(kind, width, width, n_layers), nn.Linear(2 * width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N) -> (B, classes)."""
        answer: Tensor = self.head(self.cells(self.tokens(x))[0].amax(1))
        return answer


class RecurrentSeries(nn.Module):
    """The same for numbers, (B, channels, N)."""

    def __init__(self, channels: int, n_classes: int, kind: Cell, width: int, n_layers: int = 1) -> None:
        super().__init__()
        self.cells, self.head = _cells(kind, channels, width, n_layers), nn.Linear(2 * width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, N) -> (B, classes)."""
        answer: Tensor = self.head(self.cells(x.transpose(1, 2))[0].amax(1))
        return answer


class M5(nn.Sequential):
    """Dai et al. 2017, for waves at 8 kHz."""

    def __init__(self, n_classes: int, width: int) -> None:
        layers: list[nn.Module] = []
        before = 1
        for i, (kernel, stride) in enumerate(((80, 4), (3, 1), (3, 1), (3, 1))):
            after = width << max(0, i - 1)
            layers += [nn.Conv1d(before, after, kernel, stride, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
            layers.append(nn.MaxPool1d(4))
            before = after
        super().__init__(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(before, n_classes))


class _Residual1d(nn.Module):
    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, kernel in ((before, 7), (width, 5), (width, 3)):
            layers += [nn.Conv1d(channels, width, kernel, padding=kernel // 2, bias=False), nn.BatchNorm1d(width)]
            layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers[:-1])
        same = before == width
        self.shortcut = (
            nn.BatchNorm1d(width)
            if same
            else nn.Sequential(nn.Conv1d(before, width, 1, bias=False), nn.BatchNorm1d(width))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, N) -> (B, width, N)."""
        return torch.relu(self.layers(x) + self.shortcut(x))


class ResNet1d(nn.Sequential):
    """Wang et al. 2017, for time series."""

    def __init__(self, channels: int, n_classes: int, width: int) -> None:
        blocks = _Residual1d(channels, width), _Residual1d(width, 2 * width), _Residual1d(2 * width, 2 * width)
        super().__init__(*blocks, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(2 * width, n_classes))


class _Inception(nn.Module):
    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.narrow = nn.Conv1d(before, width, 1, bias=False)
        self.kernels = nn.ModuleList(nn.Conv1d(width, width, k, padding=k // 2, bias=False) for k in (9, 19, 39))
        self.pooled = nn.Sequential(nn.MaxPool1d(3, 1, 1), nn.Conv1d(before, width, 1, bias=False))
        self.norm = nn.BatchNorm1d(4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, N) -> (B, 4 width, N)."""
        narrow = self.narrow(x)
        return torch.relu(self.norm(torch.cat([*(kernel(narrow) for kernel in self.kernels), self.pooled(x)], 1)))


class InceptionTime(nn.Module):
    """Ismail Fawaz et al. 2020: modules of three kernel lengths, a shortcut over every three of them."""

    def __init__(self, channels: int, n_classes: int, width: int, depth: int = 6) -> None:
        super().__init__()
        inputs = [channels, *[4 * width] * (depth - 1)]
        self.modules_ = nn.ModuleList(_Inception(before, width) for before in inputs)
        self.shortcuts = nn.ModuleList(
            nn.Sequential(nn.Conv1d(before, 4 * width, 1, bias=False), nn.BatchNorm1d(4 * width))
            for before in inputs[::3]
        )
        self.head = nn.Linear(4 * width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, N) -> (B, classes)."""
        kept = x
        for i, module in enumerate(self.modules_):
            x = module(x)
            if i % 3 == 2:
                x = torch.relu(x + self.shortcuts[i // 3](kept))
                kept = x
        answer: Tensor = self.head(x.mean(2))
        return answer
