"""Networks for pictures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["Autoencoder", "LeNet", "SpectrumNet", "UNet", "plain_vgg"]


class LeNet(nn.Sequential):
    """LeCun et al. 1998, with rectifiers, for 32 × 32."""

    def __init__(self, channels: int, n_classes: int) -> None:
        super().__init__(
            *(nn.Conv2d(channels, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, n_classes)),
        )


def plain_vgg(channels: int, n_classes: int, widths: Sequence[int | None], *, norm: bool) -> nn.Module:
    """3 × 3 convolutions one after the other; None halves the picture."""
    layers: list[nn.Module] = []
    for width in widths:
        if width is None:
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(channels, width, 3, 1, 1, bias=not norm), *([nn.BatchNorm2d(width)] if norm else [])]
        layers.append(nn.ReLU())
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, n_classes))


class SpectrumNet(nn.Sequential):
    """Four convolutions with batch norms for spectrograms."""

    def __init__(self, channels: int, n_classes: int, width: int) -> None:
        layers: list[nn.Module] = []
        for i in range(4):
            layers += [nn.Conv2d(channels, width << i, 3, 1, 1, bias=False), nn.BatchNorm2d(width << i), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
            channels = width << i
        super().__init__(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(channels, n_classes)
        )


class _Pair(nn.Sequential):
    def __init__(self, before: int, width: int) -> None:
        layers: list[nn.Module] = []
        for channels in (before, width):
            layers += [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        super().__init__(*layers)


class UNet(nn.Module):
    """Ronneberger et al. 2015, with batch norms and padded convolutions."""

    def __init__(self, channels: int, outputs: int, width: int, depth: int) -> None:
        super().__init__()
        widths = [width << i for i in range(depth + 1)]
        self.first = _Pair(channels, widths[0])
        self.down = nn.ModuleList(_Pair(a, b) for a, b in itertools.pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in itertools.pairwise(widths))
        self.join = nn.ModuleList(_Pair(2 * a, a) for a in widths[:-1])
        self.head = nn.Conv2d(widths[0], outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, outputs, H, W)."""
        x = self.first(x)
        skipped = []
        for down in self.down:
            skipped.append(x)
            x = down(nn.functional.max_pool2d(x, 2))
        for up, join, skip in zip(reversed(self.up), reversed(self.join), reversed(skipped), strict=True):
            x = join(torch.cat([skip, up(x)], 1))
        answer: Tensor = self.head(x)
        return answer


class Autoencoder(nn.Sequential):
    """Convolutions down to `code` numbers and transposed ones back, for 32 × 32."""

    def __init__(self, channels: int, width: int, code: int) -> None:
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        sizes = [channels, width, 2 * width, 4 * width]
        for a, b in itertools.pairwise(sizes):
            down += [nn.Conv2d(a, b, 3, 2, 1), nn.ReLU()]
        for b, a in zip(reversed(sizes[1:]), reversed(sizes[:-1]), strict=True):
            up += [nn.ConvTranspose2d(b, a, 4, 2, 1), nn.ReLU()]
        flat = 4 * width * 4 * 4
        middle = [nn.Flatten(), nn.Linear(flat, code), nn.Linear(code, flat), nn.ReLU()]
        super().__init__(*down, *middle, nn.Unflatten(1, (4 * width, 4, 4)), *up[:-1])
