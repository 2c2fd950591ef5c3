"""The forward pass of a DeepNets-1M network on given tensors, without building modules.

Training a GHN evaluates a fresh architecture every few hundred milliseconds; building its modules would cost as much as
running them on a small batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from onnx_ghn.deepnets1m.architecture import Architecture
from onnx_ghn.deepnets1m.definition import forward
from onnx_ghn.deepnets1m.layer_set import Pair
from onnx_ghn.deepnets1m.tensor_layers import TensorLayers
from onnx_ghn.kernels.attention import attend
from onnx_ghn.kernels.convolution import conv2d
from onnx_ghn.kernels.depthwise import avg_pool2d, depthwise_conv2d, memory_format

__all__ = ["run_network"]


def run_network(
    architecture: Architecture,
    tensors: Mapping[str, Tensor],
    images: Tensor,
    *,
    large_images: bool = False,
    dropout: bool = False,
) -> Tensor:
    """Logits of a network whose parameters are `tensors`, batch norms using the statistics of the batch.

    Args:
        tensors: by the network's parameter names; layers that are cut off need none.
        images: (B, 3, H, W), in the type to compute in (bfloat16 or float32) and the memory format to keep.
        dropout: of the classifier, as in training.

    Returns:
        (B, num_classes) logits in float32.

    Raises:
        GraphError: the network has no output.
    """
    return forward(architecture, _GivenLayers(tensors, dropout), images, large_images=large_images).float()


def _part_of(name: str) -> str:
    """The part of the network that a parameter belongs to: cells.3.preprocess0, cells.3._ops.1, stem1."""
    depth = 1 if not name.startswith("cells.") else 4 if "._ops." in name else 3
    return ".".join(name.split(".")[:depth])


class _GivenLayers(TensorLayers):
    def __init__(self, tensors: Mapping[str, Tensor], dropout: bool) -> None:
        self.tensors = tensors
        self.is_dropout = dropout
        self.parts = {_part_of(name) for name in tensors}

    def part(
        self, name: str, x: Tensor | None, run: Callable[[Tensor], Tensor], *, learns: bool = True
    ) -> Tensor | None:
        # A part without tensors leads nowhere: a GHN predicts none for it.
        return None if x is None or (learns and name not in self.parts) else run(x)

    def conv(
        self, name: str, x: Tensor, c_in: int, c_out: int, kernel: Pair, stride: int | Pair, padding: int | Pair
    ) -> Tensor:
        return conv2d(x, self.tensors[f"{name}.weight"].to(x.dtype), None, stride, padding)

    def depthwise(
        self, name: str, x: Tensor, channels: int, kernel: int, stride: int, padding: int, dilation: int = 1
    ) -> Tensor:
        return depthwise_conv2d(x, self.tensors[f"{name}.weight"].to(x.dtype), stride, padding, dilation)

    def relu_halving_convs(self, names: tuple[str, str], x: Tensor, c_in: int, c_out: int) -> tuple[Tensor, Tensor]:
        # Pixels that neither convolution reads are left out before: four times as fast as convolutions of stride 2.
        keep = memory_format(x)
        parts = [x[:, :, ::2, ::2], x[:, :, 1::2, 1::2]]
        parts = [F.relu(part.contiguous(memory_format=keep)) for part in parts]
        first, second = (
            self.conv(name, part, c_in, c_out, (1, 1), 1, 0) for name, part in zip(names, parts, strict=True)
        )
        return first, second

    def linear(self, name: str, x: Tensor, c_in: int, c_out: int, *, bias: bool = True, n_pixels: int = 1) -> Tensor:
        shift = self.tensors[f"{name}.bias"].to(x.dtype) if bias else None
        return F.linear(x, self.tensors[f"{name}.weight"].to(x.dtype), shift)

    def batch_norm(self, name: str, x: Tensor, channels: int) -> Tensor:
        # Scale and shift stay in float32: mixed types are what the CPU and CUDA kernels take.
        return F.batch_norm(x, None, None, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"], training=True)

    def layer_norm(self, name: str, x: Tensor, features: int) -> Tensor:
        scale, shift = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return F.layer_norm(x, x.shape[-1:], scale.to(x.dtype), shift.to(x.dtype))

    def position_table(self, name: str, x: Tensor, channels: int, side: int) -> Tensor:
        table = self.tensors[f"{name}.weight"]
        if table.shape[-2:] != x.shape[-2:]:  # images of another size than the table was made for
            table = F.interpolate(table, x.shape[-2:], mode="bilinear", align_corners=False)
        return x + table.to(x.dtype)

    def avg_pool(self, name: str, x: Tensor, kernel: int, stride: int) -> Tensor:
        return avg_pool2d(x, kernel, stride, kernel // 2)

    def dropout(self, name: str, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, training=self.is_dropout)

    def concat(self, name: str, values: Sequence[Tensor | None]) -> Tensor:
        present = next(value for value in values if value is not None)
        return torch.cat([torch.zeros_like(present) if value is None else value for value in values], dim=1)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, head_width: int) -> Tensor:
        return attend(q, k, v)

    def squeeze(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))

    def global_pool(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))
