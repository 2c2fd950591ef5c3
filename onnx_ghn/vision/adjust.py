"""Changes to torchvision's networks for small images."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

from torch import nn

__all__ = ["adjust_to_small_images"]

logger = logging.getLogger(__name__)

_Net = TypeVar("_Net", bound=nn.Module)


def adjust_to_small_images(net: _Net) -> _Net:
    """Change a torchvision network in place for images of 32 × 32, as published: its first layers shrink them less.

    - ResNet and DenseNet: the first convolution gets kernels of 3 × 3 (the centres of its own) and stride 1, and the
      max-pool after it is removed.
    - MobileNet: the first five blocks get stride 1.
    - VGG: the max-pools among the first ten layers are removed.
    - AlexNet: the first convolution gets stride 1, and the first max-pool is removed.
    - MNASNet and ConvNeXt: the first convolution gets stride 1.
    - ShuffleNet and GoogLeNet: the first max-pool is removed. (The published code also sets their first strides, but on
      a container, where this has no effect.)
    - EfficientNet and RegNet, which the published code does not change: the first convolution gets stride 1.

    Other networks are not changed, and a warning says so.
    """
    from torchvision import models

    parts: Any = net
    if isinstance(net, models.ResNet):
        _shrink_first(parts.conv1)
        parts.maxpool = nn.Identity()
    elif isinstance(net, models.DenseNet):
        _shrink_first(parts.features.conv0)
        parts.features.pool0 = nn.Identity()
    elif isinstance(net, models.MobileNetV2 | models.MobileNetV3):
        for block in parts.features[:5]:
            for layer in block.modules():
                if isinstance(layer, nn.Conv2d):
                    layer.stride = (1, 1)
    elif isinstance(net, models.VGG):
        for i, layer in enumerate(parts.features[:10]):
            if isinstance(layer, nn.MaxPool2d):
                parts.features[i] = nn.Identity()
    elif isinstance(net, models.AlexNet):
        parts.features[0].stride = (1, 1)
        parts.features[2] = nn.Identity()
    elif isinstance(net, models.MNASNet):
        parts.layers[0].stride = (1, 1)
    elif isinstance(net, models.ConvNeXt | models.EfficientNet):
        parts.features[0][0].stride = (1, 1)
    elif isinstance(net, models.RegNet):
        parts.stem[0].stride = (1, 1)
    elif isinstance(net, models.ShuffleNetV2):
        parts.maxpool = nn.Identity()
    elif isinstance(net, models.GoogLeNet):
        parts.maxpool1 = nn.Identity()
    else:
        logger.warning(
            "%s has no form for small images; unchanged, it may be less accurate on them", type(net).__name__
        )
    return net


def _shrink_first(convolution: nn.Conv2d) -> None:
    """Give a first convolution kernels of 3 × 3, the centres of its own, and stride 1."""
    row, column = ((size - 3) // 2 for size in convolution.kernel_size)
    centre = convolution.weight.data[:, :, row : row + 3, column : column + 3].clone()
    convolution.weight = nn.Parameter(centre, requires_grad=convolution.weight.requires_grad)
    convolution.kernel_size, convolution.padding, convolution.stride = (3, 3), (1, 1), (1, 1)
