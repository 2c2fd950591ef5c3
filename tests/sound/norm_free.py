"""Networks whose layers no norm keeps at a scale: what a GHN trained on normalised networks knows least."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

__all__ = ["NORM_FREE", "build"]


def _conv(n_in: int, n_out: int, kernel: int = 3, **options: int) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2, **options)  # type: ignore[arg-type]


class _Residual(nn.Module):
    """x + weight · branch(x)."""

    def __init__(self, branch: nn.Module, weight: float = 1.0) -> None:
        super().__init__()
        self.branch, self.weight = branch, weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.weight * self.branch(x)


class _UNet(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        sizes = [width, 2 * width, 4 * width]
        self.down = nn.ModuleList(
            nn.Sequential(_conv(n_in, n, 3), nn.ReLU(), _conv(n, n, 3), nn.ReLU())
            for n_in, n in zip([3, *sizes], sizes, strict=False)
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * n, n, 2, 2) for n in reversed(sizes[:-1]))
        self.join = nn.ModuleList(
            nn.Sequential(_conv(2 * n, n, 3), nn.ReLU(), _conv(n, n, 3), nn.ReLU()) for n in reversed(sizes[:-1])
        )
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = []
        for i, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2) if i else x)
            kept.append(x)
        for i, (up, join) in enumerate(zip(self.up, self.join, strict=True)):
            x = join(torch.cat([up(x), kept[-2 - i]], 1))
        return self.head(x)  # type: ignore[no-any-return]


class _Towers(nn.Module):
    """The two towers of RetinaNet over three levels, with the prior of its focal loss."""

    def __init__(self, width: int = 32, n_classes: int = 20, n_anchors: int = 9) -> None:
        super().__init__()
        stages = [nn.Sequential(_conv(3 if i == 0 else width, width, 3, stride=2), nn.ReLU()) for i in range(4)]
        self.stages = nn.ModuleList(stages)
        self.classes, self.boxes = (
            nn.Sequential(*[part for _ in range(4) for part in (_conv(width, width), nn.ReLU())], _conv(width, n))
            for n in (n_anchors * n_classes, n_anchors * 4)
        )
        for layer in [*self.classes, *self.boxes]:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.classes[-1].bias, -math.log(99))  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        logits = [self.classes(level).flatten(2) for level in levels[1:]]
        boxes = [self.boxes(level).flatten(2) for level in levels[1:]]
        return torch.cat(logits, 2), torch.cat(boxes, 2)


class _ScaledConv(nn.Conv2d):
    """Weight standardisation with a gain, as NF-ResNets have it (arXiv 2101.08692)."""

    def __init__(self, n_in: int, n_out: int, kernel: int = 3) -> None:
        super().__init__(n_in, n_out, kernel, padding=kernel // 2)
        self.gain = nn.Parameter(torch.ones(n_out, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fan_in = self.weight[0].numel()
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        variance = self.weight.var((1, 2, 3), keepdim=True, unbiased=False)
        weight = (self.weight - mean) * torch.rsqrt(variance * fan_in + 1e-4) * self.gain
        return nn.functional.conv2d(x, weight, self.bias, padding=self.padding)  # type: ignore[arg-type]


def super_resolution() -> nn.Module:
    blocks = [_Residual(nn.Sequential(_conv(32, 32), nn.ReLU(), _conv(32, 32))) for _ in range(16)]
    return nn.Sequential(_conv(3, 32), *blocks, _conv(32, 12), nn.PixelShuffle(2))


def deep_mlp() -> nn.Module:
    layers = [part for _ in range(24) for part in (nn.Linear(64, 64), nn.ReLU())]
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), *layers, nn.Linear(64, 10))


def vgg() -> nn.Module:
    layers: list[nn.Module] = []
    n_in = 3
    for n in (32, 32, 0, 64, 64, 0, 128, 128, 128, 0, 128, 128, 128, 0):
        layers += [nn.MaxPool2d(2)] if n == 0 else [_conv(n_in, n), nn.ReLU()]
        n_in = n or n_in
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 4, 128), nn.ReLU(), nn.Linear(128, 10))


def depthwise() -> nn.Module:
    block = [part for _ in range(10) for part in (_conv(32, 32, 5, groups=32), nn.ReLU(), _conv(32, 32, 1), nn.ReLU())]
    return nn.Sequential(_conv(3, 32), *block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def norm_free_resnet() -> nn.Module:
    blocks = [
        _Residual(nn.Sequential(nn.ReLU(), _ScaledConv(32, 32), nn.ReLU(), _ScaledConv(32, 32)), 0.2) for _ in range(8)
    ]
    return nn.Sequential(_ScaledConv(3, 32), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def reparametrised() -> nn.Module:
    """MobileOne as it is deployed: branches and norms merged into one convolution with a bias each."""
    layers: list[nn.Module] = [_conv(3, 24, stride=2), nn.ReLU()]
    for n_in, n_out, stride in ((24, 24, 1), (24, 48, 2), (48, 48, 1), (48, 48, 1), (48, 96, 2), (96, 96, 1)):
        layers += [_conv(n_in, n_in, 3, groups=n_in, stride=stride), nn.ReLU(), _conv(n_in, n_out, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10))


#: Constructor, shape of an input, whether the output is that of a classifier.
NORM_FREE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], bool]] = {
    "residual super-resolution": (super_resolution, (4, 3, 24, 24), False),
    "MLP of 26 layers": (deep_mlp, (16, 32), True),
    "VGG without norms": (vgg, (4, 3, 32, 32), True),
    "U-Net without norms": (_UNet, (4, 3, 32, 32), False),
    "depthwise blocks with biases alone": (depthwise, (4, 3, 24, 24), True),
    "NF-ResNet": (norm_free_resnet, (4, 3, 24, 24), True),
    "MobileOne, reparametrised": (reparametrised, (4, 3, 64, 64), True),
    "towers of RetinaNet": (_Towers, (4, 3, 64, 64), False),
}


def build(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A network with the weights that PyTorch draws, and an example input."""
    make, shape, _ = NORM_FREE[name]
    torch.manual_seed(0)
    return make().eval(), torch.zeros(shape)
