"""torchvision's and timm's families of image classifiers, at sizes that ask for a GPU."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import nn

from racing.entrant import ATTENTION, PERCEPTRON, TWO_D, Entrant, Optimizer
from racing.nets import attention, packages

__all__ = ["entrants"]

_TORCHVISION: tuple[tuple[str, Optimizer], ...] = (
    ("resnet18", "sgd"), ("resnet50", "sgd"), ("mobilenet_v2", "sgd"), ("mobilenet_v3_large", "sgd"),
    ("efficientnet_b0", "sgd"), ("regnet_y_400mf", "sgd"), ("shufflenet_v2_x1_0", "sgd"), ("googlenet", "sgd"),
    ("densenet121", "sgd"), ("vgg11_bn", "sgd"), ("convnext_tiny", "adamw"), ("swin_t", "adamw"),
)  # fmt: skip
_TIMM: tuple[tuple[str, Optimizer, str], ...] = (
    ("resnext50_32x4d", "sgd", TWO_D), ("seresnet50", "sgd", TWO_D), ("ghostnet_100", "sgd", TWO_D),
    ("repvgg_a0", "sgd", TWO_D), ("efficientnetv2_rw_t", "sgd", TWO_D), ("mobileone_s0", "sgd", TWO_D),
    ("convmixer_768_32", "adamw", TWO_D), ("convnext_atto", "adamw", TWO_D), ("poolformer_s12", "adamw", TWO_D),
    ("edgenext_x_small", "adamw", ATTENTION), ("resmlp_12_224", "adamw", PERCEPTRON),
    ("mixer_s16_224", "adamw", PERCEPTRON), ("vit_tiny_patch16_224", "adamw", ATTENTION),
    ("xcit_nano_12_p16_224", "adamw", ATTENTION),
)  # fmt: skip
_ONLY_LARGE = ("swin_t", "googlenet")  # which have no form for pictures of 32 × 32


def entrants() -> list[Entrant]:
    """At 128 pixels and at 32 from torchvision, at 64 from timm."""
    found = []
    for name, optimizer in _TORCHVISION:
        kind = ATTENTION if name == "swin_t" else TWO_D
        large = functools.partial(packages.torchvision_net, name, 10)
        found.append(_on("imagenette-128", name, kind, optimizer, 300, large))
        if name not in _ONLY_LARGE:
            small = functools.partial(packages.small, name, 200)
            found.append(_on("tiny-imagenet-200", name, kind, optimizer, 600, small))
    for name, optimizer, kind in _TIMM:
        build = functools.partial(packages.timm_net, name, 10, 64)
        found.append(_on("imagenette-64", name, kind, optimizer, 300, build))
    vit = functools.partial(attention.VisionTransformer, 3, 64, 10, 8, 192, 9, 3)
    return [*found, _on("imagenette-64", "vit 192 × 9", ATTENTION, "adamw", 300, vit)]


def _on(task: str, name: str, kind: str, optimizer: Optimizer, steps: int, build: Callable[[], nn.Module]) -> Entrant:
    return Entrant(f"{name} on {task}", kind, task, ("images",), optimizer, steps, build)
