"""Layers that compute with torch tensors: what `network` and `functional` have in common."""

from __future__ import annotations

import abc

from torch import Tensor
from torch.nn import functional as F

from onnx_ghn.deepnets1m.genotypes import HEADS
from onnx_ghn.deepnets1m.layer_set import Layers

__all__ = ["TensorLayers"]


class TensorLayers(Layers[Tensor]):
    """The layers without parameters; those with parameters are left to who has these."""

    def max_pool(self, name: str, x: Tensor, kernel: int, stride: int) -> Tensor:
        return F.max_pool2d(x, kernel, stride, kernel // 2)

    def strided(self, x: Tensor, stride: int) -> Tensor:
        return x[:, :, ::stride, ::stride]

    def relu(self, x: Tensor) -> Tensor:
        return F.relu(x)

    def gelu(self, x: Tensor) -> Tensor:
        return F.gelu(x)

    def add(self, name: str, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def tokens(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, N, C), N = H * W

    def feature_map(self, tokens: Tensor, like: Tensor) -> Tensor:
        return tokens.transpose(1, 2).reshape(like.shape)

    def attention(self, name: str, qkv: Tensor, head_width: int) -> Tensor:
        n = qkv.shape[1]
        q, k, v = qkv.reshape(-1, n, 3, HEADS, head_width).permute(2, 0, 3, 1, 4).unbind(0)  # (B, h, N, d) each
        y = self._attend(q, k, v, head_width)  # (B, h, N, d)
        return y.transpose(1, 2).reshape(-1, n, HEADS * head_width)  # (B, h, N, d) -> (B, N, C)

    @abc.abstractmethod
    def _attend(self, q: Tensor, k: Tensor, v: Tensor, head_width: int) -> Tensor:
        """softmax(q kᵀ / sqrt d) v of (B, h, N, d) queries, keys and values; d is `head_width`."""

    def gate(self, name: str, x: Tensor, gate: Tensor) -> Tensor:
        return x * F.hardswish(gate)[:, :, None, None]

    def flatten(self, x: Tensor) -> Tensor:
        return x.flatten(1)
