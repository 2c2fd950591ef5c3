"""Networks of torchvision and timm, also thin ones for small pictures."""

from __future__ import annotations

import functools
from typing import Any

import timm
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.regnet import BlockParams, RegNet

from onnx_ghn.vision import adjust_to_small_images

__all__ = [
    "grid_detector",
    "segmentation_net",
    "small",
    "thin_convnext",
    "thin_densenet",
    "thin_mobilenet_v2",
    "thin_mobilenet_v3",
    "thin_regnet",
    "thin_resnet",
    "timm_net",
    "torchvision_net",
]

_MOMENTUM = 0.1


def torchvision_net(name: str, n_classes: int, **options: object) -> nn.Module:
    """A classifier of torchvision, without auxiliary outputs."""
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True, **options}
    return _quick_norms(models.get_model(name, weights=None, num_classes=n_classes, **options))


def small(name: str, n_classes: int, **options: object) -> nn.Module:
    """A classifier of torchvision in its published form for pictures of 32 × 32."""
    return adjust_to_small_images(torchvision_net(name, n_classes, **options))


def timm_net(name: str, n_classes: int, size: int, channels: int = 3) -> nn.Module:
    """A classifier of timm; those that are made for one size of pictures are made for `size`."""
    make = functools.partial(timm.create_model, name, pretrained=False, num_classes=n_classes, in_chans=channels)
    return _quick_norms(make(img_size=size) if name.endswith("_224") else make())


def thin_resnet(n_classes: int, *, bottleneck: bool) -> nn.Module:
    """A ResNet for 32 × 32 with 16 to 128 channels, whose first convolution halves the picture."""
    block: Any
    block, layers = (Bottleneck, (1, 2, 2, 1)) if bottleneck else (BasicBlock, (2, 2, 2, 2))
    net: Any = ResNet(block, layers, num_classes=n_classes, channels=(16, 32, 64, 128), stem_width=16)
    net.conv1 = nn.Conv2d(3, net.conv1.out_channels, 3, 2, 1, bias=False)
    net.maxpool = nn.Identity()
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")  # as timm draws the others
    return _quick_norms(net)


def thin_mobilenet_v3(n_classes: int) -> nn.Module:
    """MobileNetV3-Small of half the width, with a first convolution that keeps the size."""
    net: Any = timm.create_model("mobilenetv3_small_050", pretrained=False, num_classes=n_classes, drop_rate=0.0)
    net.conv_stem.stride = (1, 1)
    return _quick_norms(net)


def thin_mobilenet_v2(n_classes: int) -> nn.Module:
    """MobileNetV2 of a quarter of the width for 32 × 32: of its five halvings, the last two are left out."""
    net = models.mobilenet_v2(num_classes=n_classes, width_mult=0.25)
    strided = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)]
    for layer in strided[-2:]:
        layer.stride = (1, 1)
    return _quick_norms(net)


def thin_densenet(n_classes: int) -> nn.Module:
    """A DenseNet for 32 × 32 of three blocks, whose first convolution halves the picture."""
    net = adjust_to_small_images(models.DenseNet(12, (4, 4, 4), 24, num_classes=n_classes))
    net.features.conv0.stride = (2, 2)
    return _quick_norms(net)


def thin_regnet(n_classes: int) -> nn.Module:
    """A RegNetY for 32 × 32 of six blocks, in groups of eight channels."""
    sizes = BlockParams.from_init_params(depth=6, w_0=24, w_a=24.0, w_m=2.5, group_width=8, se_ratio=0.25)
    return _quick_norms(adjust_to_small_images(RegNet(sizes, n_classes, stem_width=16)))


def thin_convnext(n_classes: int) -> nn.Module:
    """A ConvNeXt for 32 × 32 of six blocks, whose first convolution halves the picture."""
    sizes = [CNBlockConfig(32, 64, 2), CNBlockConfig(64, 128, 2), CNBlockConfig(128, None, 2)]
    net = ConvNeXt(sizes, num_classes=n_classes)
    net.features[0][0].stride = (2, 2)
    return _quick_norms(net)


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
        _quick_norms(models.get_model(name, weights=None, weights_backbone=None, num_classes=1, **options))
    )


def grid_detector(name: str) -> nn.Module:
    """A ResNet of torchvision down to a sixteenth of the picture, and two convolutions: (B, 5, H / 16, W / 16)."""
    body: Any = _quick_norms(models.get_model(name, weights=None))
    layers = [body.conv1, body.bn1, body.relu, body.maxpool, body.layer1, body.layer2, body.layer3]
    width = 256 if name in ("resnet18", "resnet34") else 1024
    return nn.Sequential(*layers, nn.Conv2d(width, 128, 3, 1, 1), nn.ReLU(), nn.Conv2d(128, 5, 1))


def _quick_norms(net: nn.Module) -> nn.Module:
    """Give running statistics torch's own momentum: at 0.01, as some have it, a short run is judged on old ones."""
    for layer in net.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.momentum is not None:
            layer.momentum = max(layer.momentum, _MOMENTUM)
    return net
