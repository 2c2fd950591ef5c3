"""Networks with attention as their authors begin them, deeper or wider than the others."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from racing.data.texts import CHARACTERS
from racing.entrant import ATTENTION, Entrant
from racing.nets import attention, packages
from racing.suites.small import entrants_of

__all__ = ["entrants"]


def entrants() -> list[Entrant]:
    """Seven networks with attention."""
    listed: list[tuple[str, str, int, Callable[[], nn.Module]]] = [
        ("GPT-2, 8 layers", "shakespeare-64", 300, lambda: _gpt2(attention.Gpt(CHARACTERS, 64, 64, 8, 4), 8)),
        ("BERT, 8 layers, news", "ag-news", 150, lambda: _normal(attention.TextEncoder(5000, 40, 4, 64, 8, 4))),
        ("Llama, 8 layers", "shakespeare-64", 300, lambda: _normal(attention.Llama(CHARACTERS, 64, 64, 8, 4))),
        ("GPT, 192 channels", "shakespeare-64", 300, lambda: attention.Gpt(CHARACTERS, 64, 192, 4, 6)),
        ("Llama, 192 channels", "shakespeare-64", 300, lambda: _normal(attention.Llama(CHARACTERS, 64, 192, 4, 6))),
        ("ViT of timm, 8 layers", "tiny-imagenet-20", 200, _timm_vit),
        ("ViT of torchvision", "imagenette-32", 200, _torchvision_vit),
    ]
    return entrants_of(
        "attention", [(name, ATTENTION, task, "adamw", steps, build) for name, task, steps, build in listed]
    )


@torch.no_grad()
def _normal(net: nn.Module) -> nn.Module:
    """Normal matrices and zero biases, as BERT's and Llama's: what 0.02 is at their 768 channels, at any width."""
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.02 * math.sqrt(768 / layer.in_features))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return net


@torch.no_grad()
def _gpt2(net: nn.Module, n_layers: int) -> nn.Module:
    """The same, with what a block adds divided by √(2 · layers), as GPT-2's."""
    for name, weight in _normal(net).named_parameters():
        if name.endswith(("attn.proj.weight", "mlp.2.weight")):
            weight /= math.sqrt(2 * n_layers)
    return net


def _timm_vit() -> nn.Module:
    import timm

    options = {"patch_size": 4, "embed_dim": 64, "depth": 8, "num_heads": 4}
    return packages.quick_norms(timm.create_model("vit_tiny_patch16_224", num_classes=20, img_size=32, **options))


def _torchvision_vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 4, 6, 4, 64, 128, num_classes=10)
