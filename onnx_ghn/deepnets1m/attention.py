"""Attention over the pixels of feature maps: thousands of tokens with a few features a head."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["attend"]

_CHUNK_ELEMENTS = 1 << 23  # of attention matrices at a time: 16 MB in bfloat16, about what caches hold


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / sqrt d) v.

    On CPUs, PyTorch's fused operator is slow in bfloat16, most of all backward (benchmarks/train_step.py); there, plain
    products a few heads at a time are used, with attention matrices computed again in the backward pass.

    Args:
        q, k, v: (..., N, d).

    Returns:
        (..., N, d).
    """
    if q.device.type != "cpu" or q.dtype is not torch.bfloat16:
        return F.scaled_dot_product_attention(q, k, v)
    result: Tensor = _Attention.apply(*(t.flatten(0, -3) for t in (q, k, v)))
    return result.view(v.shape)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v)
        out = torch.empty_like(v)
        for part in _chunks(q):
            torch.bmm(_matrix(q[part], k[part]), v[part], out=out[part])  # (n, N, N) x (n, N, d) -> (n, N, d)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        q, k, v = ctx.saved_tensors
        d_q, d_k, d_v = (torch.empty_like(t) for t in (q, k, v))
        scale = 1 / math.sqrt(q.shape[-1])
        for part in _chunks(q):
            att, d_out = _matrix(q[part], k[part]), grad[part]
            torch.bmm(att.transpose(1, 2), d_out, out=d_v[part])
            d_att = torch.bmm(d_out, v[part].transpose(1, 2))  # (n, N, N)
            d_scores = torch._softmax_backward_data(d_att, att, -1, att.dtype)
            torch.bmm(d_scores, k[part], out=d_q[part])
            torch.bmm(d_scores.transpose(1, 2), q[part], out=d_k[part])
        return d_q.mul_(scale), d_k.mul_(scale), d_v


def _matrix(q: Tensor, k: Tensor) -> Tensor:
    """(n, N, d) queries and keys -> (n, N, N) attention."""
    return torch.bmm(q * (1 / math.sqrt(q.shape[-1])), k.transpose(1, 2)).softmax(dim=-1)


def _chunks(q: Tensor) -> Iterator[slice]:
    size = max(1, _CHUNK_ELEMENTS // (q.shape[1] * q.shape[1]))
    return (slice(start, start + size) for start in range(0, q.shape[0], size))
