"""torchvision's networks for small images."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

from torch import nn

__all__ = ["adjust_to_small_images"]

logger = logging.getLogger(__name__)

_Net = TypeVar("_Net", bound=nn.Module)


def adjust_to_small_images(net: _Net) -> _Net:
    """Change a torchvision network in place to take 32 × 32 images, as published: its first layers shrink them less.

    ResNet and DenseNet: the first convolution 3 × 3 (the centre of its kernels) with stride 1, no max-pool after it.
    MobileNet: stride 1 in the first five blocks. VGG: no max-pools among the first ten layers. AlexNet: stride 1 and no
    max-pool at first. MNASNet, ConvNeXt: stride 1 in the first convolution. ShuffleNet, GoogLeNet: no first max-pool
    (the published code means to set their first strides too, but sets them on a container, where they do nothing).
    EfficientNet and RegNet, which the published code leaves as they are: stride 1 in the first convolution.

    Other networks are left as they are, with a warning.
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
            "%s has no form for small images: left as it is, it may be less accurate on them", type(net).__name__
        )
    return net


def _shrink_first(convolution: Any) -> None:
    """A first convolution with 3 × 3 kernels, the centres of what it had, and stride 1."""
    top, left = ((size - 3) // 2 for size in convolution.kernel_size)
    centre = convolution.weight.data[:, :, top : top + 3, left : left + 3].clone()
    convolution.weight = nn.Parameter(centre, requires_grad=convolution.weight.requires_grad)
    convolution.kernel_size, convolution.padding, convolution.stride = (3, 3), (1, 1), (1, 1)
