"""The three networks in PyTorch: convolutions, a text network with a tied embedding, an LSTM."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from compatibility_runs.built import CLASSES, HIDDEN, IMAGE, STATE, TOKENS, WIDTH, WORDS, Built

__all__ = ["Conv", "Recurrent", "Tied", "build", "built"]


class Conv(nn.Sequential):
    """Two convolutions with batch norm, pooling, a linear layer."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, WIDTH, 3, 2, padding=1),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(WIDTH, CLASSES),
        )


class Tied(nn.Module):
    """Tokens, one head of attention, two linear layers, and the embedding once more as the head."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.wide, self.narrow = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, words)."""
        x = self.words(tokens)
        y = self.norm1(x)
        scores = self.query(y) @ self.key(y).transpose(1, 2) / WIDTH**0.5  # (B, T, d) x (B, d, T) -> (B, T, T)
        x = x + scores.softmax(-1) @ self.value(y)
        x = x + self.narrow(functional.gelu(self.wide(self.norm2(x))))
        return functional.linear(x, self.words.weight)


class Recurrent(nn.Module):
    """Tokens, an LSTM, a linear layer on its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.rnn = nn.LSTM(WIDTH, STATE, batch_first=True)
        self.head = nn.Linear(STATE, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, classes)."""
        return self.head(self.rnn(self.words(tokens))[0][:, -1])


def build(network: str, seed: int = 0) -> Built:
    """One of the three, freshly initialised."""
    torch.manual_seed(seed)
    model = {"conv": Conv, "tied": Tied, "lstm": Recurrent}[network]()
    return built(model, IMAGE if network == "conv" else TOKENS, embedding="words.weight" if network == "tied" else "")


def built(model: nn.Module, *inputs: np.ndarray, embedding: str = "") -> Built:
    """What is known of a module. PyTorch stores matrices as outputs × inputs."""
    model.eval()
    given = [torch.from_numpy(value) for value in inputs]

    def call() -> np.ndarray:
        with torch.no_grad():
            return model(*given).numpy()

    parameters = dict(model.named_parameters())
    return Built(
        model,
        list(inputs),
        call,
        sum(parameter.numel() for parameter in parameters.values() if parameter.requires_grad),
        {name: np.array(p.detach().numpy()) for name, p in parameters.items() if p.dim() > 1},
        embedding,
    )
