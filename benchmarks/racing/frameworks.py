"""What Keras and Flax would draw for the same layers; in place, from torch's random state."""

from __future__ import annotations

import math

import torch
from torch import nn

__all__ = ["flax_", "keras_"]

_CONVOLUTION = nn.modules.conv._ConvNd
_TRUNCATED = 0.87962566103423978  # the deviation of a normal distribution cut off at two deviations


@torch.no_grad()
def keras_(module: nn.Module) -> None:
    """Glorot's uniform weights, orthogonal ones between states, embeddings within ±0.05, zero biases.

    The biases of an LSTM's forget gate are one.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | _CONVOLUTION):
            nn.init.xavier_uniform_(layer.weight)
        elif isinstance(layer, nn.Embedding):
            nn.init.uniform_(layer.weight, -0.05, 0.05)
        elif isinstance(layer, nn.RNNBase):
            for name, tensor in layer.named_parameters():
                if name.startswith("weight_ih"):
                    nn.init.xavier_uniform_(tensor)  # all gates are one matrix in Keras too
                elif name.startswith("weight_hh"):
                    nn.init.orthogonal_(tensor)
        _zero_biases(layer)
        if isinstance(layer, nn.LSTM):
            for name, tensor in layer.named_parameters():
                if name.startswith("bias_ih"):
                    tensor[layer.hidden_size : 2 * layer.hidden_size] = 1  # gates: input, forget, cell, output


@torch.no_grad()
def flax_(module: nn.Module) -> None:
    """LeCun's truncated normal weights, orthogonal ones between states, embeddings of variance 1 / d, zero biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | _CONVOLUTION):
            fan_in = layer.weight[0].numel()  # of (out, in / groups, …)
            if isinstance(layer, nn.modules.conv._ConvTransposeNd):
                fan_in = layer.weight[:, 0].numel()
            _truncated_(layer.weight, 1 / math.sqrt(fan_in))
        elif isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.embedding_dim))
        elif isinstance(layer, nn.RNNBase):
            for name, tensor in layer.named_parameters():
                if name.startswith("weight_ih"):
                    _truncated_(tensor, 1 / math.sqrt(tensor.shape[1]))
                elif name.startswith("weight_hh"):
                    for gate in tensor.chunk(len(tensor) // layer.hidden_size):  # each is a matrix of its own in Flax
                        nn.init.orthogonal_(gate)
        _zero_biases(layer)


def _truncated_(tensor: torch.Tensor, std: float) -> None:
    """Cut off at two deviations and widened to `std`."""
    wide = std / _TRUNCATED
    nn.init.trunc_normal_(tensor, std=wide, a=-2 * wide, b=2 * wide)


def _zero_biases(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear | _CONVOLUTION | nn.RNNBase):
        for name, tensor in layer.named_parameters(recurse=False):
            if name.startswith("bias"):
                nn.init.zeros_(tensor)
