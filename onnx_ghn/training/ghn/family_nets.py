"""Small random networks of torchvision's families and of tutorials: what users bring, and DeepNets-1M hardly has.

Their graphs come from ONNX files, as those of users do. None is a network that torchvision has a name for.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.densenet import DenseNet
from torchvision.models.efficientnet import EfficientNet, MBConvConfig
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3
from torchvision.models.regnet import BlockParams, RegNet
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from onnx_ghn.errors import OptionError
from onnx_ghn.graph import build_graph
from onnx_ghn.graph.layout import Layout
from onnx_ghn.graph.model import ComputationGraph
from onnx_ghn.kernels.convolution import conv2d
from onnx_ghn.kernels.depthwise import depthwise_conv2d
from onnx_ghn.torch_export import distinct_weights, module_to_onnx
from onnx_ghn.vision import adjust_to_small_images

__all__ = ["FAMILIES", "FamilyNet", "FamilyPool"]

_DRAWS = 100  # before a limit is said to fit no network


@dataclasses.dataclass(frozen=True, eq=False)
class FamilyNet:
    """A module whose decoded weights are nowhere (on the meta device), and its graph."""

    family: str
    module: nn.Module
    graph: ComputationGraph

    def logits(self, tensors: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """The network on given tensors, batch norms using the statistics of the batch.

        Args:
            tensors: those that the graph decodes, by parameter name, of canonical shape.
            images: (B, 3, H, W), in the type to compute in (bfloat16 or float32).

        Returns:
            (B, num_classes) logits in float32.
        """
        layouts = {parameter.name: parameter.layout for parameter in self.graph.parameters}
        stored = {name: _stored(tensor, layouts[name]) for name, tensor in tensors.items()}
        rest = ((name, tensor) for name, tensor in self.module.named_parameters() if name not in stored)
        stored |= {name: tensor.to(images.device) for name, tensor in rest}
        with torch.autocast(images.device.type, torch.bfloat16, enabled=images.dtype is torch.bfloat16):
            logits: Tensor = torch.func.functional_call(self.module, stored, (images,))
        return logits.float()


class FamilyPool:
    """Networks by number, from the seed alone; each is built when it is first asked for.

    Args:
        num_classes: of the classifiers.
        image_size: pixels a side.
        seed: of all draws.
        size: how many networks there are.
        max_params: networks of more trainable elements are drawn again.
    """

    def __init__(
        self, num_classes: int, image_size: int, seed: int, *, size: int = 200, max_params: int = 5_000_000
    ) -> None:
        self.num_classes, self.image_size, self.seed = num_classes, image_size, seed
        self.size, self.max_params = size, max_params
        self._nets: dict[int, FamilyNet] = {}

    def __getitem__(self, index: int) -> FamilyNet:
        if index not in self._nets:
            self._nets[index] = self._build(index)
        return self._nets[index]

    def _build(self, index: int) -> FamilyNet:
        rng = np.random.default_rng([self.seed, index])
        family = list(FAMILIES)[index % len(FAMILIES)]
        with torch.random.fork_rng(devices=[]):  # what a step draws must not depend on what is built in it
            for _ in range(_DRAWS):
                module = FAMILIES[family](rng, self.num_classes, self.image_size)
                if sum(p.numel() for p in module.parameters()) <= self.max_params:
                    break
            else:
                raise OptionError(
                    f"no {family} of {self.max_params:,} elements or fewer could be drawn: allow larger ones"
                )
            with distinct_weights(module):
                model = module_to_onnx(module, (torch.zeros(2, 3, self.image_size, self.image_size),))
        graph = build_graph(model)
        decoded = {graph.parameters[i].name for i in graph.decoded_parameters()}
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.track_running_stats = False
                layer.running_mean = layer.running_var = layer.num_batches_tracked = None
            elif isinstance(layer, nn.Conv2d):
                depthwise = layer.groups == layer.in_channels == layer.out_channels > 1
                layer.__class__ = _Depthwise if depthwise else _Convolution
        for name, parameter in list(module.named_parameters()):
            if name in decoded:
                owner = module.get_submodule(name.rpartition(".")[0])
                setattr(owner, name.rpartition(".")[2], nn.Parameter(parameter.detach().to("meta")))
        return FamilyNet(family, module.train().requires_grad_(False), graph)


class _Convolution(nn.Conv2d):
    """By `deepnets1m.convolution`, on GPUs without a plan."""

    def forward(self, x: Tensor) -> Tensor:
        geometry = self.stride, self.padding, self.dilation, self.groups
        return conv2d(x, self.weight, self.bias, *geometry)


class _Depthwise(nn.Conv2d):
    """By the faster backward pass of `deepnets1m.depthwise`."""

    def forward(self, x: Tensor) -> Tensor:
        stride, padding, dilation = self.stride[0], int(self.padding[0]), self.dilation[0]
        y = depthwise_conv2d(x, self.weight.to(x.dtype), stride, padding, dilation)
        return y if self.bias is None else y + self.bias.to(x.dtype)[:, None, None]


def _stored(tensor: Tensor, layout: Layout) -> Tensor:
    """`Layout.from_canonical`, differentiable: by where it takes each element from."""
    if not layout.steps:
        return tensor
    where = layout.from_canonical(np.arange(tensor.numel()))
    return tensor.flatten()[torch.from_numpy(np.ascontiguousarray(where)).to(tensor.device)]


def _int(rng: np.random.Generator, low: int, high: int) -> int:
    """From low to high, both among them."""
    return int(rng.integers(low, high + 1))


def _widths(rng: np.random.Generator, first: int, n: int, grows: tuple[float, float], multiple: int) -> list[int]:
    """n widths that grow from `first` on, each a multiple of some number."""
    widths = [float(first)]
    for _ in range(n - 1):
        widths.append(widths[-1] * rng.uniform(*grows))
    return [max(multiple, round(width / multiple) * multiple) for width in widths]


def _for_small_images(net: nn.Module) -> nn.Module:
    return adjust_to_small_images(net)


def _resnet(rng: np.random.Generator, classes: int, size: int) -> nn.Module:
    layers = [_int(rng, 1, 2) for _ in range(4)]
    if min(layers) == 2:  # ResNet-18
        layers[_int(rng, 0, 3)] = 1
    if rng.random() < 0.5:
        return _three_stages(ResNet(Bottleneck, layers, classes))
    net = ResNet(BasicBlock, layers, classes)
    return _for_small_images(net) if rng.random() < 0.5 else _three_stages(net)


def _three_stages(net: ResNet) -> nn.Module:
    """Without the last stage, which has three quarters of the weights."""
    net.fc = nn.Linear(net.layer4[0].conv1.in_channels, net.fc.out_features)
    net.layer4 = nn.Sequential()
    return _for_small_images(net)


def _resnext(rng: np.random.Generator, classes: int, size: int) -> nn.Module:
    groups, width = [(2, 32), (4, 16), (8, 8), (16, 4), (16, 8), (32, 4)][_int(rng, 0, 5)]
    layers = [_int(rng, 1, 2) for _ in range(4)]
    return _three_stages(ResNet(Bottleneck, layers, classes, groups=groups, width_per_group=width))


def _densenet(rng: np.random.Generator, classes: int, size: int) -> nn.Module:
    blocks = tuple(_int(rng, 2, 7) for _ in range(_int(rng, 3, 4)))
    growth = 4 * _int(rng, 3, 8)
    return _for_small_images(DenseNet(growth, blocks, 16 * _int(rng, 1, 4), num_classes=classes))


def _mobilenet_v2(rng: np.random.Generator, classes: int, size: int) -> nn.Module:
    n = _int(rng, 4, 7)
    widths = _widths(rng, 8 * _int(rng, 2, 3), n, (1.1, 1.7), 8)
    strides = [1, *(_int(rng, 1, 2) for _ in range(n - 1))]
    settings = [
        [_int(rng, 1, 6), width, _int(rng, 1, 3), stride] for width, stride in zip(widths, strides, strict=True)
    ]
    net = models.MobileNetV2(classes, float(rng.choice([0.5, 0.75, 1.0])), settings, dropout=0.0)
    return _for_small_images(net)


def _mobilenet_v3(rng: np.random.Generator, classes: int, size: int) -> nn.Module:
    n = _int(rng, 4, 9)
    widths = _widths(rng, 16, n + 1, (1.0, 1.5), 8)
    blocks = [
        InvertedResidualConfig(
            before, int(rng.choice([3, 5])), 8 * round(before * rng.uniform(1, 6) / 8), after, bool(rng.random() < 0.5),
            "HS" if rng.random() < 0.5 else "RE", _int(rng, 1, 2) if i > 1 else 1, 1, 1.0,
        )
        for i, (before, after) in enumerate(itertools.pairwise(widths))
    ]  # fmt: skip
    return _for_small_images(MobileNetV3(blocks, 128 * _int(rng, 1, 4), classes, dropout=0.0))


def _efficientnet(rng: np.random.Generator, classes: int, size: int) -> nn.Module:
    n = _int(rng, 4, 7)
    widths = _widths(rng, 16, n + 1, (1.0, 1.7), 8)
    blocks = [
        MBConvConfig(
            _int(rng, 1, 6), int(rng.choice([3, 5])), _int(rng, 1, 2) if i > 1 else 1, before, after, _int(rng, 1, 3)
        )
        for i, (before, after) in enumerate(itertools.pairwise(widths))
    ]
    net = EfficientNet(blocks, dropout=0.0, stochastic_depth_prob=0.0, num_classes=classes)
    return _for_small_images(net)


def _mnasnet(rng: np.random.Generator, classes: int, size: int) -> nn.Module:
    return _for_small_images(models.MNASNet(float(rng.uniform(0.25, 0.95)), classes, dropout=0.0))


def _shufflenet(rng: np.random.Generator, classes: int, size: int) -> nn.Module:
    widths = _widths(rng, 8 * _int(rng, 5, 16), 3, (1.7, 2.1), 8)
    repeats = [_int(rng, 2, 4), _int(rng, 2, 6), _int(rng, 2, 4)]
    last = 64 * _int(rng, 4, 12)
    return _for_small_images(models.ShuffleNetV2(repeats, [24, *widths, last], classes))


def _regnet(rng: np.random.Generator, classes: int, size: int) -> nn.Module:
    parameters = BlockParams.from_init_params(
        depth=_int(rng, 6, 12),
        w_0=8 * _int(rng, 2, 6),
        w_a=float(rng.uniform(12, 36)),
        w_m=float(rng.uniform(1.8, 2.6)),
        group_width=8 * _int(rng, 1, 3),
        se_ratio=0.25 if rng.random() < 0.5 else None,
    )
    return _for_small_images(RegNet(parameters, classes, stem_width=8 * _int(rng, 2, 4)))


def _convnext(rng: np.random.Generator, classes: int, size: int) -> nn.Module:
    n = _int(rng, 3, 4)
    widths = _widths(rng, 8 * _int(rng, 4, 8), n, (1.4, 2.0), 8)
    blocks = [
        CNBlockConfig(width, after, _int(rng, 1, 3)) for width, after in zip(widths, [*widths[1:], None], strict=True)
    ]
    return _for_small_images(models.ConvNeXt(blocks, stochastic_depth_prob=0.0, num_classes=classes))


def _vit(rng: np.random.Generator, classes: int, size: int) -> nn.Module:
    heads = _int(rng, 2, 6)
    width = heads * 8 * _int(rng, 2, 4)
    patch = size // int(rng.choice([4, 8]))
    net: nn.Module = models.VisionTransformer(
        size, patch, _int(rng, 2, 6), heads, width, width * _int(rng, 2, 4), num_classes=classes
    )
    return net


def _vgg(rng: np.random.Generator, classes: int, size: int) -> nn.Module:
    """Convolutions and pools one after the other, with batch norms or without, then global pooling."""
    normed, layers, before = rng.random() < 0.5, list[nn.Module](), 3
    for width in _widths(rng, 16 * _int(rng, 2, 4), _int(rng, 3, 4), (1.3, 2.0), 8):
        for _ in range(_int(rng, 1, 2)):
            layers.append(nn.Conv2d(before, width, 3, padding=1, bias=not normed))
            layers += [nn.BatchNorm2d(width)] * normed + [nn.ReLU()]
            before = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers[:-1], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


def _cnn(rng: np.random.Generator, classes: int, size: int) -> nn.Module:
    """What tutorials build: one or two convolutions and a pool, again and again, a flattened map, linear layers."""
    activation = [nn.ReLU, nn.ReLU, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh][_int(rng, 0, 7)]
    normed, padded, kernel = rng.random() < 0.5, rng.random() < 0.7, int(rng.choice([3, 3, 5]))
    layers, before, side = list[nn.Module](), 3, size
    for width in _widths(rng, int(rng.choice([6, 8, 16, 24, 32, 48, 64])), _int(rng, 2, 3), (1.2, 2.7), 2):
        for _ in range(_int(rng, 1, 2)):
            padding = kernel // 2 if padded or side < 2 * kernel else 0
            side += 2 * padding - kernel + 1
            layers.append(nn.Conv2d(before, width, kernel, padding=padding, bias=not normed))
            layers += [nn.BatchNorm2d(width)] * normed + [activation()]
            before = width
        layers.append(nn.MaxPool2d(2))
        side //= 2
    before *= side * side
    layers.append(nn.Flatten())
    for _ in range(_int(rng, 0, 2)):
        width = 8 * _int(rng, 4, 32)
        layers += [nn.Linear(before, width), activation()]
        before = width
    return nn.Sequential(*layers, nn.Linear(before, classes))


#: Random draw, number of classes and pixels a side to a network, by family.
FAMILIES: dict[str, Callable[[np.random.Generator, int, int], nn.Module]] = {
    "ResNet": _resnet,
    "ResNeXt": _resnext,
    "DenseNet": _densenet,
    "MobileNetV2": _mobilenet_v2,
    "MobileNetV3": _mobilenet_v3,
    "EfficientNet": _efficientnet,
    "MNASNet": _mnasnet,
    "ShuffleNetV2": _shufflenet,
    "RegNet": _regnet,
    "ConvNeXt": _convnext,
    "ViT": _vit,
    "VGG": _vgg,
    "CNN": _cnn,
}
