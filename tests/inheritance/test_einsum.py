"""Attention whose products are written as Einsum, as Flax's linen and Keras write it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from growing_nets import grow
from torch import nn

X = torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(0))


class Attention(nn.Module):
    """Blocks of attention over 7 positions.

    Args:
        form: "linen" multiplies queries with keys, "keras" keys with queries, "monai" scales scores, not queries,
            "matmul" uses no Einsum.
    """

    def __init__(self, form: str, heads: int, width: int, depth: int = 2) -> None:
        super().__init__()
        self.form, self.heads, self.width = form, heads, width
        inner = heads * width
        self.norms = nn.ModuleList(nn.LayerNorm(12) for _ in range(depth))
        self.queries, self.keys, self.values = (
            nn.ModuleList(nn.Linear(12, inner) for _ in range(depth)) for _ in range(3)
        )
        self.outs = nn.ModuleList(nn.Linear(inner, 12) for _ in range(depth))
        self.head = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for norm, *layers, out in zip(self.norms, self.queries, self.keys, self.values, self.outs, strict=True):
            y = norm(x)
            q, k, v = (layer(y).reshape(2, 7, self.heads, self.width) for layer in layers)
            q = q if self.form == "monai" else q * self.width**-0.5
            if self.form == "matmul":
                scores = q.permute(0, 2, 1, 3) @ k.permute(0, 2, 3, 1)
                y = (scores.softmax(-1) @ v.permute(0, 2, 1, 3)).permute(0, 2, 1, 3)
            elif self.form == "linen":
                scores = torch.einsum("...qhd,...khd->...hqk", q, k)
                y = torch.einsum("...hqk,...khd->...qhd", scores.softmax(-1), v)
            elif self.form == "monai":
                scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * self.width**-0.5
                y = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v)
            else:
                scores = torch.einsum("aecd,abcd->acbe", k, q)
                y = torch.einsum("acbe,aecd->abcd", scores.softmax(-1), v)
            x = x + out(y.reshape(2, 7, self.heads * self.width))
        return self.head(x.mean(1))


FORMS = ("linen", "keras", "monai", "matmul")


@pytest.mark.parametrize("form", FORMS[:3])
@pytest.mark.parametrize(("heads", "width", "depth"), [(4, 4, 2), (2, 8, 2), (2, 4, 4)])
def test_growth_keeps_outputs(tmp_path: Path, form: str, heads: int, width: int, depth: int) -> None:
    """More heads, wider heads, whose scores are divided by another number, and more blocks."""
    torch.manual_seed(0)
    grown = grow(tmp_path, Attention(form, heads, width, depth), Attention(form, 2, 4), X)
    assert grown.error <= 1e-5
    assert grown.inheritance.is_exact


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("other", FORMS)
def test_the_form_of_the_products_does_not_count(tmp_path: Path, form: str, other: str) -> None:
    torch.manual_seed(0)
    grown = grow(tmp_path, Attention(form, 2, 8), Attention(other, 2, 4), X)
    assert grown.error <= 1e-5
    assert grown.names == set(grown.inheritance.tensors)
