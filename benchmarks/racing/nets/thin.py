"""Thin networks of the published families, for pictures of 32 × 32."""

from __future__ import annotations

import functools
from typing import Any

import timm
from timm.layers import GroupNorm
from timm.models.convmixer import ConvMixer
from timm.models.mlp_mixer import MlpMixer
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.efficientnet import EfficientNet, MBConvConfig
from torchvision.models.regnet import BlockParams, RegNet
from torchvision.models.swin_transformer import SwinTransformer

from onnx_ghn.vision import adjust_to_small_images
from racing.nets.packages import quick_norms

__all__ = [
    "thin_convmixer",
    "thin_convnext",
    "thin_densenet",
    "thin_detector",
    "thin_efficientnet",
    "thin_group_norm_resnet",
    "thin_mixer",
    "thin_mobilenet_v2",
    "thin_mobilenet_v3",
    "thin_regnet",
    "thin_resnet",
    "thin_resnext",
    "thin_swin",
]


def thin_resnet(n_classes: int, *, bottleneck: bool, channels: int = 3, **options: object) -> nn.Module:
    """A ResNet for 32 × 32 with 16 to 128 channels, whose first convolution halves the picture.

    Args:
        options: others of timm's ResNet.
    """
    block: Any
    block, layers = (Bottleneck, (1, 2, 2, 1)) if bottleneck else (BasicBlock, (2, 2, 2, 2))
    net: Any = ResNet(block, layers, num_classes=n_classes, channels=(16, 32, 64, 128), stem_width=16, **options)
    net.conv1 = nn.Conv2d(channels, net.conv1.out_channels, 3, 2, 1, bias=False)
    net.maxpool = nn.Identity()
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")  # as timm draws the others
    return quick_norms(net)


def thin_mobilenet_v3(n_classes: int) -> nn.Module:
    """MobileNetV3-Small of half the width, with a first convolution that keeps the size."""
    net: Any = timm.create_model("mobilenetv3_small_050", pretrained=False, num_classes=n_classes, drop_rate=0.0)
    net.conv_stem.stride = (1, 1)
    return quick_norms(net)


def thin_mobilenet_v2(n_classes: int, channels: int = 3) -> nn.Module:
    """MobileNetV2 of a quarter of the width for 32 × 32: of its five halvings, the last two are left out."""
    net: Any = models.mobilenet_v2(num_classes=n_classes, width_mult=0.25)
    if channels != 3:
        net.features[0][0] = nn.Conv2d(channels, net.features[0][0].out_channels, 3, 2, 1, bias=False)
    strided = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)]
    for layer in strided[-2:]:
        layer.stride = (1, 1)
    return quick_norms(net)


def thin_densenet(n_classes: int) -> nn.Module:
    """A DenseNet for 32 × 32 of three blocks, whose first convolution halves the picture."""
    net = adjust_to_small_images(models.DenseNet(12, (4, 4, 4), 24, num_classes=n_classes))
    net.features.conv0.stride = (2, 2)
    return quick_norms(net)


def thin_regnet(n_classes: int) -> nn.Module:
    """A RegNetY for 32 × 32 of six blocks, in groups of eight channels."""
    sizes = BlockParams.from_init_params(depth=6, w_0=24, w_a=24.0, w_m=2.5, group_width=8, se_ratio=0.25)
    return quick_norms(adjust_to_small_images(RegNet(sizes, n_classes, stem_width=16)))


def thin_convnext(n_classes: int) -> nn.Module:
    """A ConvNeXt for 32 × 32 of six blocks, whose first convolution halves the picture."""
    sizes = [CNBlockConfig(32, 64, 2), CNBlockConfig(64, 128, 2), CNBlockConfig(128, None, 2)]
    net = ConvNeXt(sizes, num_classes=n_classes)
    net.features[0][0].stride = (2, 2)
    return quick_norms(net)


def thin_resnext(n_classes: int) -> nn.Module:
    """The ResNet of bottlenecks with eight groups."""
    return thin_resnet(n_classes, bottleneck=True, cardinality=8, base_width=16)


def thin_group_norm_resnet(n_classes: int) -> nn.Module:
    """The ResNet of basic blocks with group norms, eight groups each."""
    return thin_resnet(n_classes, bottleneck=False, norm_layer=functools.partial(GroupNorm, num_groups=8))


def thin_efficientnet(n_classes: int) -> nn.Module:
    """An EfficientNet of seven blocks, whose first convolution halves the picture."""
    sizes = [  # expansion, kernel, stride, channels in and out, layers, multipliers of width and depth
        MBConvConfig(1, 3, 1, 32, 16, 1, 0.5, 1.0),
        MBConvConfig(6, 3, 1, 16, 24, 2, 0.5, 1.0),
        MBConvConfig(6, 5, 2, 24, 40, 2, 0.5, 1.0),
        MBConvConfig(6, 3, 2, 40, 80, 2, 0.5, 1.0),
    ]
    return quick_norms(EfficientNet(sizes, dropout=0.0, num_classes=n_classes, last_channel=160))


def thin_convmixer(n_classes: int) -> nn.Module:
    """A ConvMixer of four blocks with patches of 2 × 2."""
    return quick_norms(ConvMixer(dim=64, depth=4, kernel_size=5, patch_size=2, num_classes=n_classes))


def thin_swin(n_classes: int) -> nn.Module:
    """A Swin transformer of three stages, windows of 4 × 4 and patches of 2 × 2."""
    return SwinTransformer([2, 2], 32, [2, 2, 2], [2, 4, 8], [4, 4], num_classes=n_classes)


def thin_mixer(n_classes: int, channels: int) -> nn.Module:
    """An MLP-Mixer of four blocks with patches of 4 × 4."""
    return MlpMixer(num_classes=n_classes, img_size=32, in_chans=channels, patch_size=4, num_blocks=4, embed_dim=64)


def thin_detector(outputs: int) -> nn.Module:
    """The ResNet of basic blocks and two convolutions: (B, 3, H, W) -> (B, outputs, H / 16, W / 16)."""
    net: Any = thin_resnet(1, bottleneck=False)
    layers = [net.conv1, net.bn1, net.act1, net.layer1, net.layer2, net.layer3, net.layer4]
    return nn.Sequential(*layers, nn.Conv2d(128, 64, 3, 1, 1), nn.ReLU(), nn.Conv2d(64, outputs, 1))
