"""A torch network from an architecture, with the published names, shapes and initial weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onnx_ghn.deepnets1m.architecture import Architecture
from onnx_ghn.deepnets1m.definition import Blocks, features, forward
from onnx_ghn.deepnets1m.layer_set import Cell, Outline, Pair, States
from onnx_ghn.deepnets1m.tensor_layers import TensorLayers
from onnx_ghn.kernels.attention import attend
from onnx_ghn.kernels.depthwise import avg_pool2d, depthwise_conv2d

__all__ = ["Network", "Operation", "PositionEncoding"]


class Network(nn.Module):
    """The classifier of an architecture.

    Args:
        num_classes: of the classifier.
        large_images: 224 × 224 inputs instead of 32 × 32.
        auxiliary: a second classifier at two thirds of the depth; in training, `forward` gives both logits.
    """

    def __init__(
        self,
        architecture: Architecture,
        num_classes: int = 10,
        *,
        large_images: bool = False,
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.image_size = 224 if large_images else 32
        self.drop_path_prob = 0.0  # of leaving a branch out for a sample, in training
        self._large_images = large_images
        self._auxiliary_cell = 2 * architecture.n_cells // 3 if auxiliary else None

        def after_cell(cell: Cell) -> None:
            if cell.number == self._auxiliary_cell:
                self.auxiliary_head = _AuxiliaryHead(architecture, cell.out_channels, num_classes, large=large_images)

        forward(architecture, _BuildingLayers(self, after_cell), (), num_classes, large_images=large_images)

    def set_drop_path(self, probability: float) -> None:
        """Leave each branch of a cell out with this probability, for each sample, in training."""
        self.drop_path_prob = probability

    def fit_to(self, image_size: int) -> None:
        """Take images of another size, of at most 32 × 32, with new random weights of the layers that depend on it.

        These are a position table, and the first layer of a classifier without global pooling.
        """
        if self.architecture.genotype.is_vit:
            self.pos_enc = PositionEncoding(self.architecture.C, (image_size - 1) // 3 + 1)
        if not self.architecture.glob_avg:
            layer = _find(self, "classifier.0")
            assert isinstance(layer, nn.Linear)
            smaller = nn.Linear(layer.in_features // (32 // image_size) ** 2, layer.out_features)
            _find(self, "classifier").add_module("0", smaller)

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images -> (B, C, H', W'), the output of the last cell.

        Raises:
            GraphError: the network has no output.
        """
        layers = _ModuleLayers(self, self.drop_path_prob)
        return features(self.architecture, layers, images, large_images=self._large_images)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(B, 3, H, W) images -> (B, num_classes) logits; in training with an auxiliary classifier, both logits.

        Raises:
            GraphError: the network has no output.
        """
        second: list[Tensor] = []

        def after_cell(cell: Cell, output: Tensor) -> None:
            if cell.number == self._auxiliary_cell and self.training:
                second.append(self.auxiliary_head(output))

        layers = _ModuleLayers(self, self.drop_path_prob, after_cell)
        logits = forward(self.architecture, layers, images, large_images=self._large_images)
        return (logits, second[0]) if second else logits


class Operation(nn.Module):
    """An operation of a cell by itself (`definition.parse_operation` gives its kind and kernel)."""

    def __init__(self, kind: str, kernel: int, c_in: int, c_out: int, stride: int = 1, norm: str | None = None) -> None:
        super().__init__()
        self._norm = norm
        self._arguments = (kind, kernel, c_in, c_out, stride)
        Blocks(_BuildingLayers(self), norm).operation("layer", *self._arguments, ())

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride)."""
        return Blocks(_ModuleLayers(self), self._norm).operation("layer", *self._arguments, x)


# -- modules -------------------------------------------------------------------------------------------------


class _Block(nn.Sequential):
    """Modules under one name. What is computed with them is given with each call, since `definition` alone knows it."""

    def forward(self, x: Any, run: Callable[[Any], Any]) -> Any:  # type: ignore[override]
        """run(x): forward hooks see it, and exporters name what is in it."""
        return run(x)


class _Depthwise(nn.Conv2d):
    """A depthwise convolution, in training with the backward pass that is fast on CPUs."""

    def __init__(self, channels: int, kernel: int, stride: int, padding: int, dilation: int) -> None:
        super().__init__(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if not _trains(self):
            return super().forward(x)
        weight = self.weight
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(dtype), weight.to(dtype)
        return depthwise_conv2d(x, weight, self.stride[0], int(self.padding[0]), self.dilation[0])


class PositionEncoding(nn.Module):
    """A table added to the feature map."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, channels, side, side))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return x + self.weight


class _AuxiliaryHead(nn.Module):
    """A classifier of features 8 × 8 (14 × 14 for large images) that training adds to the loss, as published."""

    def __init__(self, architecture: Architecture, channels: int, num_classes: int, *, large: bool) -> None:
        super().__init__()
        norm, vit = architecture.norm, architecture.genotype.is_vit
        self.pools = vit and not large
        # A transformer's map is pooled to 8 × 8 whatever stem is drawn with it.
        small_maps = not vit and (architecture.stem_type == 1 or architecture.stem_pool)
        side = 2 if small_maps and not large else 5
        layers = [
            nn.ReLU(),
            nn.AvgPool2d(side, stride=2 if large else min(side, 3), count_include_pad=False),  # -> 2 × 2
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
        ]
        if not large:  # there the published head has none
            layers.append(nn.BatchNorm2d(768) if norm else nn.Identity())
        self.features = nn.Sequential(*layers, nn.ReLU())
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_classes)."""
        if self.pools:
            x = F.adaptive_avg_pool2d(x, 8)
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits


def _trains(layer: nn.Module) -> bool:
    """Whether gradients matter more than which operators an exporter would see."""
    return layer.training and not torch.onnx.is_in_onnx_export()


def _find(root: nn.Module, name: str) -> nn.Module:
    """`root.get_submodule(name)`, in a tenth of the time."""
    found: nn.Module | None = root
    for part in name.split("."):
        found = found._modules[part] if found is not None else None
    assert found is not None
    return found


# -- sets of layers --------------------------------------------------------------------------------------------

_Built = tuple[()]
"""What modules that are being made give to each other."""


class _BuildingLayers(Outline[_Built]):
    """Registers the modules of layers in `root`, with torch's random weights, in the order of the definition."""

    def __init__(self, root: nn.Module, after_cell: Callable[[Cell], None] | None = None) -> None:
        self.root = root
        self.after_cell = after_cell

    def register(self, name: str, module: nn.Module) -> _Built:
        owner, _, last = name.rpartition(".")
        self.block(owner).add_module(last, module)
        return ()

    def block(self, name: str) -> nn.Module:
        """What is registered under a name; first an empty block, where nothing is."""
        found = self.root
        for part in name.split(".") if name else ():
            if part not in found._modules:
                found.add_module(part, _Block())
            found = _find(found, part)
        return found

    def part(self, name: str, x: _Built | None, run: Callable[[_Built], _Built], *, learns: bool = True) -> _Built:
        self.block(name)
        return run(())  # what is cut off has modules too

    def cell(self, cell: Cell, states: States[_Built], run: Callable[[States[_Built]], _Built | None]) -> _Built:
        self.block(f"cells.{cell.number}")
        run(states)
        if self.after_cell is not None:
            self.after_cell(cell)
        return ()

    def published_order(self, name: str, parts: Sequence[str]) -> None:
        for part in parts:
            self.block(f"{name}.{part}")

    def conv(
        self, name: str, x: _Built, c_in: int, c_out: int, kernel: Pair, stride: int | Pair, padding: int | Pair
    ) -> _Built:
        return self.register(name, nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False))

    def depthwise(
        self, name: str, x: _Built, channels: int, kernel: int, stride: int, padding: int, dilation: int = 1
    ) -> _Built:
        return self.register(name, _Depthwise(channels, kernel, stride, padding, dilation))

    def linear(self, name: str, x: _Built, c_in: int, c_out: int, *, bias: bool = True, n_pixels: int = 1) -> _Built:
        return self.register(name, nn.Linear(c_in * n_pixels, c_out, bias))

    def batch_norm(self, name: str, x: _Built, channels: int) -> _Built:
        return self.register(name, nn.BatchNorm2d(channels))

    def layer_norm(self, name: str, x: _Built, features: int) -> _Built:
        return self.register(name, nn.LayerNorm(features))

    def position_table(self, name: str, x: _Built, channels: int, side: int) -> _Built:
        return self.register(name, PositionEncoding(channels, side))

    def dropout(self, name: str, x: _Built) -> _Built:
        return self.register(name, nn.Dropout(0.5))


class _ModuleLayers(TensorLayers):
    """Calls the modules that `_BuildingLayers` registered in `root`."""

    def __init__(
        self,
        root: nn.Module,
        drop_path_prob: float = 0.0,
        after_cell: Callable[[Cell, Tensor], None] | None = None,
    ) -> None:
        self.root = root
        self.drop_path_prob = drop_path_prob if root.training else 0.0
        self.after_cell = after_cell

    def call(self, name: str, *inputs: Any) -> Tensor:
        output: Tensor = _find(self.root, name)(*inputs)
        return output

    def part(
        self, name: str, x: Tensor | None, run: Callable[[Tensor], Tensor], *, learns: bool = True
    ) -> Tensor | None:
        return None if x is None else self.call(name, x, run)

    def cell(self, cell: Cell, states: States[Tensor], run: Callable[[States[Tensor]], Tensor | None]) -> Tensor | None:
        output: Tensor | None = _find(self.root, f"cells.{cell.number}")(states, run)
        if output is not None and self.after_cell is not None:
            self.after_cell(cell, output)
        return output

    def drop_path(self, x: Tensor) -> Tensor:
        """(B, C, H, W) with whole samples zeroed at random, the others scaled up (Larsson et al. 2017)."""
        if self.drop_path_prob == 0:
            return x
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop_path_prob
        return x * kept.to(x.dtype) / (1 - self.drop_path_prob)

    def conv(
        self, name: str, x: Tensor, c_in: int, c_out: int, kernel: Pair, stride: int | Pair, padding: int | Pair
    ) -> Tensor:
        return self.call(name, x)

    def depthwise(
        self, name: str, x: Tensor, channels: int, kernel: int, stride: int, padding: int, dilation: int = 1
    ) -> Tensor:
        return self.call(name, x)

    def relu_halving_convs(self, names: tuple[str, str], x: Tensor, c_in: int, c_out: int) -> tuple[Tensor, Tensor]:
        x = F.relu(x)
        return self.call(names[0], x), self.call(names[1], x[:, :, 1:, 1:])

    def linear(self, name: str, x: Tensor, c_in: int, c_out: int, *, bias: bool = True, n_pixels: int = 1) -> Tensor:
        return self.call(name, x)

    def batch_norm(self, name: str, x: Tensor, channels: int) -> Tensor:
        return self.call(name, x)

    def layer_norm(self, name: str, x: Tensor, features: int) -> Tensor:
        return self.call(name, x)

    def position_table(self, name: str, x: Tensor, channels: int, side: int) -> Tensor:
        return self.call(name, x)

    def dropout(self, name: str, x: Tensor) -> Tensor:
        return self.call(name, x)

    def avg_pool(self, name: str, x: Tensor, kernel: int, stride: int) -> Tensor:
        if x.device.type == "cuda" and _trains(self.root):  # torch's gradient may be wrong there
            return avg_pool2d(x, kernel, stride, kernel // 2)
        return F.avg_pool2d(x, kernel, stride, kernel // 2, count_include_pad=False)

    def concat(self, name: str, values: Sequence[Tensor | None]) -> Tensor:
        present = next(value for value in values if value is not None)
        return torch.cat([present * 0 if value is None else value for value in values], dim=1)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, head_width: int) -> Tensor:
        if _trains(self.root):
            return attend(q, k, v)
        # PyTorch's fused operator would hide the Softmax from who reads the exported graph.
        scale: float = head_width**-0.5
        return (q @ k.transpose(-2, -1) * scale).softmax(dim=-1) @ v  # (B, h, N, N) x (B, h, N, d)

    def squeeze(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(dim=2)

    def global_pool(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3), keepdim=True).flatten(1)
