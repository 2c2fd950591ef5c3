"""Networks of torchvision and timm as they are published."""

from __future__ import annotations

import functools
from typing import Any

import timm
from torch import Tensor, nn
from torchvision import models

from onnx_ghn.vision import adjust_to_small_images

__all__ = [
    "grid_detector",
    "quick_norms",
    "segmentation_net",
    "small",
    "timm_net",
    "torchvision_net",
]

_MOMENTUM = 0.1


def torchvision_net(name: str, n_classes: int, **options: object) -> nn.Module:
    """A classifier of torchvision, without auxiliary outputs."""
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True, **options}
    return quick_norms(models.get_model(name, weights=None, num_classes=n_classes, **options))


def small(name: str, n_classes: int, **options: object) -> nn.Module:
    """A classifier of torchvision in its published form for pictures of 32 × 32."""
    return adjust_to_small_images(torchvision_net(name, n_classes, **options))


def timm_net(name: str, n_classes: int, size: int, channels: int = 3) -> nn.Module:
    """A classifier of timm; those that are made for one size of pictures are made for `size`."""
    make = functools.partial(timm.create_model, name, pretrained=False, num_classes=n_classes, in_chans=channels)
    return quick_norms(make(img_size=size) if timm.get_pretrained_cfg(name).fixed_input_size else make())


class _OutputOnly(nn.Module):
    """A segmentation network of torchvision that gives its map and nothing else."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1, H, W)."""
        answer: Tensor = self.net(x)["out"]
        return answer


def segmentation_net(name: str) -> nn.Module:
    """A network of torchvision with one output channel, all of whose weights are drawn."""
    options: dict[str, object] = {} if name.startswith("lraspp") else {"aux_loss": False}
    return _OutputOnly(
        quick_norms(models.get_model(name, weights=None, weights_backbone=None, num_classes=1, **options))
    )


def grid_detector(name: str) -> nn.Module:
    """A ResNet of torchvision down to a sixteenth of the picture, and two convolutions: (B, 5, H / 16, W / 16)."""
    body: Any = quick_norms(models.get_model(name, weights=None))
    layers = [body.conv1, body.bn1, body.relu, body.maxpool, body.layer1, body.layer2, body.layer3]
    width = 256 if name in ("resnet18", "resnet34") else 1024
    return nn.Sequential(*layers, nn.Conv2d(width, 128, 3, 1, 1), nn.ReLU(), nn.Conv2d(128, 5, 1))


def quick_norms(net: nn.Module) -> nn.Module:
    """Give running statistics torch's own momentum: at 0.01, as some have it, a short run is judged on old ones."""
    for layer in net.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.momentum is not None:
            layer.momentum = max(layer.momentum, _MOMENTUM)
    return net
