"""The layers of DeepNets-1M networks in torch, under the published names, which parameter names follow.

Facts from facebookresearch/ppuda, ppuda/deepnets1m/ops.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onnx_ghn.deepnets1m.genotypes import HEADS
from onnx_ghn.kernels.attention import attend
from onnx_ghn.kernels.depthwise import avg_pool2d, depthwise_conv2d

__all__ = ["PositionEncoding", "make_operation", "norm_layer", "preprocess"]


def norm_layer(norm: str | None, channels: int) -> nn.Module:
    """Batch norm, or nothing."""
    return nn.Identity() if norm is None else nn.BatchNorm2d(channels)


class Zero(nn.Module):
    """The `none` operation: a cell leaves it out of its sum."""


class Stride(nn.Module):
    """Every `stride`-th pixel."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x if self.stride == 1 else x[:, :, :: self.stride, :: self.stride]


class FactorizedReduce(nn.Module):
    """A skip that halves the resolution: two 1 × 1 convolutions of stride 2, one pixel apart, side by side."""

    def __init__(self, c_in: int, c_out: int, norm: str | None) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.conv_2 = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.bn = norm_layer(norm, c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)  # (B, C, H, W)
        halves = [self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])]  # (B, out/2, H/2, W/2) each
        return self.bn(torch.cat(halves, dim=1))


class _Sequence(nn.Module):
    """Layers under the name `op`, as the published modules have them."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.op = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


def relu_conv_bn(
    c_in: int, c_out: int, kernel: int, stride: int, norm: str | None, *, double: bool = False
) -> _Sequence:
    """ReLU, convolution (or a 1 × k and a k × 1 one), batch norm."""
    half = kernel // 2
    if double:
        convs = [
            nn.Conv2d(c_in, c_in, (1, kernel), stride=(1, stride), padding=(0, half), bias=False),
            nn.Conv2d(c_in, c_out, (kernel, 1), stride=(stride, 1), padding=(half, 0), bias=False),
        ]
    else:
        convs = [nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=half, bias=False)]
    return _Sequence(nn.ReLU(), *convs, norm_layer(norm, c_out))


def _trains(layer: nn.Module) -> bool:
    """Whether gradients matter more than which operators an exporter would see."""
    return layer.training and not torch.onnx.is_in_onnx_export()


class _Depthwise(nn.Conv2d):
    """A depthwise convolution, in training with the backward pass that is fast on CPUs."""

    def __init__(self, channels: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> None:
        super().__init__(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if not _trains(self):
            return super().forward(x)
        weight = self.weight
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(dtype), weight.to(dtype)
        return depthwise_conv2d(x, weight, self.stride[0], int(self.padding[0]), self.dilation[0])


class _AvgPool(nn.AvgPool2d):
    """Average pooling whose gradient is right on GPUs too: see `depthwise.avg_pool2d`."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cuda" or not _trains(self):
            return super().forward(x)
        return avg_pool2d(x, int(self.kernel_size), int(self.stride), int(self.padding))


def _dil_conv(c_in: int, c_out: int, kernel: int, stride: int, norm: str | None) -> _Sequence:
    depthwise = _Depthwise(c_in, kernel, stride, kernel - kernel % 2, 2)
    return _Sequence(nn.ReLU(), depthwise, nn.Conv2d(c_in, c_out, 1, bias=False), norm_layer(norm, c_out))


def _sep_conv(c_in: int, c_out: int, kernel: int, stride: int, norm: str | None) -> _Sequence:
    half = kernel // 2
    return _Sequence(
        nn.ReLU(),
        _Depthwise(c_in, kernel, stride, half),
        nn.Conv2d(c_in, c_in, 1, bias=False),
        norm_layer(norm, c_in),
        nn.ReLU(),
        _Depthwise(c_in, kernel, 1, half),
        nn.Conv2d(c_in, c_out, 1, bias=False),
        norm_layer(norm, c_out),
    )


class ChannelAttention(nn.Module):
    """Squeeze-and-excitation with a Hardswish gate."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = Stride(stride)
        self.fc1 = nn.Linear(channels, channels // 2)
        self.fc2 = nn.Linear(channels // 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = x.flatten(2).mean(dim=2)  # (B, C, H, W) -> (B, C)
        gate = F.hardswish(self.fc2(F.relu(self.fc1(squeezed))))  # (B, C)
        return self.stride(x * gate[:, :, None, None])


class _FeedForward(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(features, features), nn.GELU(), nn.Dropout(0.0), nn.Linear(features, features), nn.Dropout(0.0)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Transformer(nn.Module):
    """A pre-norm transformer block over the pixels of a feature map."""

    def __init__(self, features: int, stride: int) -> None:
        super().__init__()
        self.scale = (features // HEADS) ** -0.5
        self.inner = features // HEADS * HEADS
        self.to_qkv = nn.Linear(features, 3 * self.inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(self.inner, features), nn.Dropout(0.0))
        self.ln1 = nn.LayerNorm(features)
        self.ln2 = nn.LayerNorm(features)
        self.ff = _FeedForward(features)
        self.stride = Stride(stride)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, N, C), N = H * W
        qkv = self.to_qkv(self.ln1(x)).reshape(b, h * w, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (B, h, N, d) each
        y = attend(q, k, v) if _trains(self) else self._attend_in_steps(q, k, v)  # (B, h, N, d)
        y = y.transpose(1, 2).reshape(b, h * w, self.inner)  # (B, h, N, d) -> (B, N, C)
        x = self.to_out(y) + x
        x = self.ff(self.ln2(x)) + x
        return self.stride(x.transpose(1, 2).reshape(b, c, h, w))

    def _attend_in_steps(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """PyTorch's fused operator would hide the Softmax from who reads the exported graph."""
        return (q @ k.transpose(-2, -1) * self.scale).softmax(dim=-1) @ v  # (B, h, N, N) x (B, h, N, d)


class PositionEncoding(nn.Module):
    """A table added to the feature map."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, channels, side, side))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight


def preprocess(c_in: int, c_out: int, norm: str | None, *, halve: bool) -> nn.Module:
    """What brings an input of a cell to its width, and to half the size where the cell before was a reduction."""
    return FactorizedReduce(c_in, c_out, norm) if halve else relu_conv_bn(c_in, c_out, 1, 1, norm)


def make_operation(kind: str, kernel: int, c_in: int, c_out: int, stride: int, norm: str | None) -> nn.Module:
    """The module of an operation (`symbolic.parse_operation` gives kind and kernel)."""
    match kind:
        case "none":
            return Zero()
        case "skip_connect":
            return nn.Identity() if stride == 1 else FactorizedReduce(c_in, c_out, norm)
        case "avg_pool":
            return _AvgPool(kernel, stride=stride, padding=kernel // 2, count_include_pad=False)
        case "max_pool":
            return nn.MaxPool2d(kernel, stride=stride, padding=kernel // 2)
        case "conv" | "conv2":
            return relu_conv_bn(c_in, c_out, kernel, stride, norm, double=kind == "conv2")
        case "sep_conv":
            return _sep_conv(c_in, c_out, kernel, stride, norm)
        case "dil_conv":
            return _dil_conv(c_in, c_out, kernel, stride, norm)
        case "msa":
            return Transformer(c_in, stride)
        case "cse":
            return ChannelAttention(c_in, stride)
    raise ValueError(kind)
