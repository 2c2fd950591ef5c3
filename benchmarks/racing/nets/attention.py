"""Transformers: BERT-like encoders with a classifier, GPT-like and Llama-like language models, a vision transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Gpt", "Llama", "TextEncoder", "VisionTransformer"]


class Attention(nn.Module):
    """Scaled dot products of several heads; queries, keys and values by one matrix."""

    def __init__(self, width: int, n_heads: int, *, causal: bool) -> None:
        super().__init__()
        self.num_heads, self.causal = n_heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, d) -> (B, N, d)."""
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, d // self.num_heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)  # (B, heads, N, d / heads)
        answer: Tensor = self.proj(mixed.transpose(1, 2).reshape(b, n, d))
        return answer


class Block(nn.Module):
    """Attention and a perceptron, each behind a layer norm and beside a shortcut."""

    def __init__(self, width: int, n_heads: int, *, causal: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, n_heads, causal=causal)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, d) -> (B, N, d)."""
        x = x + self.attn(self.norm1(x))
        answer: Tensor = x + self.mlp(self.norm2(x))
        return answer


class _Embedded(nn.Module):
    """Tokens and their positions through blocks; embeddings of standard deviation 0.02, as GPT's and BERT's."""

    def __init__(self, tokens: int, length: int, width: int, n_layers: int, n_heads: int, *, causal: bool) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(tokens, width), nn.Embedding(length, width)
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, std=0.02)
        self.blocks = nn.Sequential(*(Block(width, n_heads, causal=causal) for _ in range(n_layers)))
        self.norm = nn.LayerNorm(width)

    def embedded(self, x: Tensor) -> Tensor:
        """(B, N) -> (B, N, d)."""
        places = torch.arange(x.shape[1], device=x.device)
        answer: Tensor = self.norm(self.blocks(self.tokens(x) + self.positions(places)))
        return answer


class TextEncoder(_Embedded):
    """A BERT-like encoder whose mean over all places is classified."""

    def __init__(self, tokens: int, length: int, n_classes: int, width: int, n_layers: int, n_heads: int) -> None:
        super().__init__(tokens, length, width, n_layers, n_heads, causal=False)
        self.head = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N) -> (B, classes)."""
        answer: Tensor = self.head(self.embedded(x).mean(1))
        return answer


class Gpt(_Embedded):
    """A GPT-like language model with an output layer of its own."""

    def __init__(self, tokens: int, length: int, width: int, n_layers: int, n_heads: int) -> None:
        super().__init__(tokens, length, width, n_layers, n_heads, causal=True)
        self.head = nn.Linear(width, tokens, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N) -> (B, N, tokens)."""
        answer: Tensor = self.head(self.embedded(x))
        return answer


class _RotaryAttention(nn.Module):
    """Causal, with matrices of their own and rotated queries and keys (Su et al. 2021), as Llama's."""

    def __init__(self, width: int, n_heads: int, length: int) -> None:
        super().__init__()
        self.num_heads = n_heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width, bias=False) for _ in range(4))
        half = width // n_heads // 2
        self.cos: Tensor
        self.sin: Tensor
        angles = torch.arange(length)[:, None] / 10_000 ** (torch.arange(half) / half)  # (N, half)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, d) -> (B, N, d)."""
        b, n, d = x.shape
        q, k, v = (
            layer(x).reshape(b, n, self.num_heads, -1).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = F.scaled_dot_product_attention(self._turned(q), self._turned(k), v, is_causal=True)
        answer: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(b, n, d))
        return answer

    def _turned(self, x: Tensor) -> Tensor:
        one, other = x.chunk(2, -1)  # (B, heads, N, half) each
        return torch.cat([one * self.cos - other * self.sin, one * self.sin + other * self.cos], -1)


class _LlamaBlock(nn.Module):
    def __init__(self, width: int, n_heads: int, length: int) -> None:
        super().__init__()
        hidden = 8 * width // 3 // 8 * 8
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-5), nn.RMSNorm(width, eps=1e-5)
        self.attn = _RotaryAttention(width, n_heads, length)
        self.gate_proj, self.up_proj = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, d) -> (B, N, d)."""
        x = x + self.attn(self.norm1(x))
        y = self.norm2(x)
        answer: Tensor = x + self.down_proj(F.silu(self.gate_proj(y)) * self.up_proj(y))
        return answer


class Llama(nn.Module):
    """A Llama-like language model."""

    def __init__(self, tokens: int, length: int, width: int, n_layers: int, n_heads: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(tokens, width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.blocks = nn.Sequential(*(_LlamaBlock(width, n_heads, length) for _ in range(n_layers)))
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.head = nn.Linear(width, tokens, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N) -> (B, N, tokens)."""
        answer: Tensor = self.head(self.norm(self.blocks(self.tokens(x))))
        return answer


class VisionTransformer(nn.Module):
    """Dosovitskiy et al. 2021, with the mean over all patches in the place of a class token."""

    def __init__(
        self, channels: int, size: int, n_classes: int, patch: int, width: int, n_layers: int, n_heads: int
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.pos_embedding = nn.Parameter(torch.empty(1, (size // patch) ** 2, width).normal_(std=0.02))
        self.blocks = nn.Sequential(*(Block(width, n_heads, causal=False) for _ in range(n_layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, classes)."""
        x = self.patches(x).flatten(2).transpose(1, 2) + self.pos_embedding  # (B, N, d)
        answer: Tensor = self.head(self.norm(self.blocks(x)).mean(1))
        return answer
