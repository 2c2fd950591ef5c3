"""Attention over the pixels of feature maps: many tokens with a few features a head."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["attend"]

_CHUNK_ELEMENTS = 1 << 23  # of attention matrices at a time: 16 MB in bfloat16, about what caches hold
_KEPT_ELEMENTS = 1 << 25  # of an operator's attention matrices, above which they are computed again backward
_ALIGNED = 32  # rows of a multiple of it: the softmax of 121 numbers takes twice as long as that of 128
_MASKED = -30_000.0  # added to the scores of keys that fill up a row


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / sqrt d) v.

    On CPUs, PyTorch's fused operator is slow in bfloat16, most of all backward (benchmarks/train_step.py); there, plain
    products a few heads at a time are used.

    Args:
        q, k, v: (..., N, d).

    Returns:
        (..., N, d).
    """
    if q.device.type != "cpu" or q.dtype is not torch.bfloat16:
        return F.scaled_dot_product_attention(q, k, v)
    shape, n = v.shape, q.shape[-2]
    q, k, v = (t.flatten(0, -3) for t in (q * (1 / math.sqrt(q.shape[-1])), k, v))
    missing = -n % _ALIGNED if n > _ALIGNED else 0
    if missing:
        # One more feature, 1 in queries, masks the keys that are added, without a pass over the scores.
        q = F.pad(q, (0, 1), value=1.0)
        k = torch.cat([F.pad(k, (0, 1)), F.pad(k.new_zeros(len(k), missing, shape[-1]), (0, 1), value=_MASKED)], dim=1)
        v = F.pad(v, (0, 0, 0, missing))
    result: Tensor = _Attention.apply(q, k, v)
    return result.view(shape)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(n, N, e), (n, M, e), (n, M, d) -> (n, N, d)."""
        out = v.new_empty(len(q), q.shape[1], v.shape[2])
        keeps = len(q) * q.shape[1] * k.shape[1] <= _KEPT_ELEMENTS
        kept = []
        for part in _chunks(q, k):
            att = _matrix(q[part], k[part])
            torch.bmm(att, v[part], out=out[part])  # (n, N, M) x (n, M, d) -> (n, N, d)
            if keeps:
                kept.append(att)
        ctx.save_for_backward(q, k, v, *kept)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        q, k, v, *kept = ctx.saved_tensors
        d_q, d_k, d_v = (torch.empty_like(t) for t in (q, k, v))
        grad = grad.contiguous()
        for i, part in enumerate(_chunks(q, k)):
            att, d_out = kept[i] if kept else _matrix(q[part], k[part]), grad[part]
            torch.bmm(att.transpose(1, 2), d_out, out=d_v[part])
            d_att = torch.bmm(d_out, v[part].transpose(1, 2))  # (n, N, M)
            d_scores = torch._softmax_backward_data(d_att, att, -1, att.dtype)
            torch.bmm(d_scores, k[part], out=d_q[part])
            torch.bmm(d_scores.transpose(1, 2), q[part], out=d_k[part])
        return d_q, d_k, d_v


def _matrix(q: Tensor, k: Tensor) -> Tensor:
    """(n, N, e) queries and (n, M, e) keys -> (n, N, M) attention."""
    return torch.bmm(q, k.transpose(1, 2)).softmax(dim=-1)


def _chunks(q: Tensor, k: Tensor) -> Iterator[slice]:
    size = max(1, _CHUNK_ELEMENTS // (q.shape[1] * k.shape[1]))
    return (slice(start, start + size) for start in range(0, q.shape[0], size))
