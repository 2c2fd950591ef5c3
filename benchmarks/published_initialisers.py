"""Published data-dependent and structured initialisers, as their papers give them; in place, on torch modules."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["lsuv_", "mimetic_", "orthogonal_"]

_ROUNDS = 10
_TOLERANCE = 0.1


@torch.no_grad()
def orthogonal_(module: nn.Module, seed: int) -> None:
    """Saxe et al. 2014 (arXiv 1312.6120): orthogonal matrices, with gain √2 as a ReLU asks for; zero biases."""
    torch.manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(layer.weight, math.sqrt(2))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.MultiheadAttention):
            for part in layer.in_proj_weight.chunk(3):
                nn.init.orthogonal_(part)
            nn.init.zeros_(layer.in_proj_bias)


@torch.no_grad()
def lsuv_(module: nn.Module, images: Tensor, seed: int) -> None:
    """Mishkin & Matas 2016 (arXiv 1511.06422): orthonormal, then layer by layer scaled to outputs of variance 1.

    Args:
        images: a batch, (B, 3, H, W); layers are visited in the order in which it passes them.
    """
    orthogonal_(module, seed)
    order: list[nn.Module] = []
    seen: dict[nn.Module, Tensor] = {}

    def note(layer: nn.Module, inputs: object, output: Tensor) -> None:
        if layer not in seen:
            order.append(layer)
        seen[layer] = output

    layers = [layer for layer in module.modules() if type(layer) in (nn.Conv2d, nn.Linear)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    module.train()
    try:
        module(images)
        for layer in order:
            for _ in range(_ROUNDS):
                module(images)
                variance = float(seen[layer].float().var())
                if abs(variance - 1) < _TOLERANCE or variance == 0:
                    break
                layer.weight /= math.sqrt(variance)  # type: ignore[operator]
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def mimetic_(module: nn.Module, seed: int) -> int:
    """Trockman & Kolter 2023 (arXiv 2305.09828): attention weights whose products look as those of trained ones do.

    W_V W_proj ≈ 0.4 Z − 0.4 I and, head by head, W_Q W_Kᵀ ≈ 0.7 Z + 0.7 I, with Z normal of variance 1/d, each product
    factorised by its singular values; sinusoidal position embeddings. The rest as it was.

    Returns:
        how many attention layers there are.
    """
    generator = torch.Generator().manual_seed(seed)
    n = 0
    for layer in module.modules():
        found = _attention(layer)
        if found is None:
            continue
        n += 1
        query, key, value, out, heads = found
        d = len(query)
        k = d // heads

        def noise(d: int = d) -> Tensor:
            return torch.randn(d, d, generator=generator) / math.sqrt(d)

        u, s, vt = torch.linalg.svd(0.4 * noise() - 0.4 * torch.eye(d))
        value.copy_((u * s.sqrt()).T)
        out.copy_((s.sqrt()[:, None] * vt).T)
        for head in range(heads):
            u, s, vt = torch.linalg.svd(0.7 * noise() + 0.7 * torch.eye(d))
            rows = slice(head * k, (head + 1) * k)
            query[rows] = (u[:, :k] * s[:k].sqrt()).T
            key[rows] = s[:k].sqrt()[:, None] * vt[:k]
    for name, parameter in module.named_parameters():
        if name.endswith(("pos_embedding", "pos_embed", "positions.weight")):  # (1, n, d) or (n, d)
            parameter.copy_(_sinusoids(*parameter.shape[-2:]).expand_as(parameter))
    return n


def _attention(layer: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor, int] | None:
    """Query, key, value and output matrices, (d, d) each in y = x Wᵀ, and the number of heads, if it is attention."""
    heads = getattr(layer, "num_heads", 0)
    if isinstance(layer, nn.MultiheadAttention):
        return *layer.in_proj_weight.chunk(3), layer.out_proj.weight, heads  # type: ignore[return-value]
    if heads and isinstance(getattr(layer, "qkv", None), nn.Linear):  # timm
        return *layer.qkv.weight.chunk(3), layer.proj.weight, heads  # type: ignore[union-attr, operator]
    names = ("q_proj", "k_proj", "v_proj", "o_proj")  # Llama
    if heads and all(isinstance(getattr(layer, name, None), nn.Linear) for name in names):
        query, key, value, out = (getattr(layer, name).weight for name in names)
        if query.shape == key.shape:  # not several queries to one key
            return query, key, value, out, heads
    return None


def _sinusoids(n: int, d: int) -> Tensor:
    """(n, d): sines and cosines of falling frequencies, as in arXiv 1706.03762."""
    angle = torch.arange(n)[:, None] / 10_000 ** (torch.arange(0, d, 2) / d)[None]
    return torch.stack([angle.sin(), angle.cos()], dim=-1).reshape(n, d)
