"""The forward pass of a DeepNets-1M network on given tensors, without building modules.

Training a GHN evaluates a fresh architecture every few hundred milliseconds; building its modules would cost as much as
running them on a small batch. Same arithmetic as `network.Network`, whose tests compare the two.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from onnx_ghn.deepnets1m.architecture import Architecture
from onnx_ghn.deepnets1m.genotypes import HEADS
from onnx_ghn.deepnets1m.symbolic import parse_operation
from onnx_ghn.errors import GraphError
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
    return _Run(architecture, tensors, large_images, dropout).logits(images)


class _Run:
    def __init__(self, arch: Architecture, tensors: Mapping[str, Tensor], large: bool, dropout: bool) -> None:
        self.arch = arch
        self.tensors = tensors
        self.large = large
        self.dropout = dropout
        self.vit = arch.genotype.is_vit
        # Layers that have tensors: "cells.3.preprocess0", "cells.3._ops.1". What a GHN leaves out leads nowhere.
        self.layers = {".".join(name.split(".")[: 4 if "._ops." in name else 3]) for name in tensors}

    # -- layers ------------------------------------------------------------------------------------------

    def conv(self, name: str, x: Tensor, stride: int | tuple[int, int], padding: int | tuple[int, int]) -> Tensor:
        return conv2d(x, self.tensors[f"{name}.weight"].to(x.dtype), None, stride, padding)

    def depthwise(self, name: str, x: Tensor, stride: int, padding: int, dilation: int = 1) -> Tensor:
        return depthwise_conv2d(x, self.tensors[f"{name}.weight"].to(x.dtype), stride, padding, dilation)

    def batch_norm(self, name: str, x: Tensor) -> Tensor:
        if self.arch.norm is None:
            return x
        # Scale and shift stay in float32: mixed types are what the CPU and CUDA kernels take.
        return F.batch_norm(x, None, None, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"], training=True)

    def linear(self, name: str, x: Tensor, *, bias: bool = True) -> Tensor:
        shift = self.tensors[f"{name}.bias"].to(x.dtype) if bias else None
        return F.linear(x, self.tensors[f"{name}.weight"].to(x.dtype), shift)

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        scale, shift = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return F.layer_norm(x, x.shape[-1:], scale.to(x.dtype), shift.to(x.dtype))

    def relu_conv_bn(self, name: str, x: Tensor, kernel: int = 1, stride: int = 1, double: bool = False) -> Tensor:
        x, half = F.relu(x), kernel // 2
        if double:
            x = self.conv(f"{name}.op.1", x, (1, stride), (0, half))
            return self.batch_norm(f"{name}.op.3", self.conv(f"{name}.op.2", x, (stride, 1), (half, 0)))
        return self.batch_norm(f"{name}.op.2", self.conv(f"{name}.op.1", x, stride, half))

    def factorized_reduce(self, name: str, x: Tensor) -> Tensor:
        # As 1 × 1 convolutions of stride 2, but pixels that neither reads are left out before: four times as fast.
        parts = [_strided(x, 2), _strided(x[:, :, 1:, 1:], 2)]
        parts = [F.relu(part.contiguous(memory_format=memory_format(x))) for part in parts]
        halves = [self.conv(f"{name}.conv_{i}", part, 1, 0) for i, part in enumerate(parts, start=1)]
        return self.batch_norm(f"{name}.bn", torch.cat(halves, dim=1))

    def operation(self, name: str, kind: str, kernel: int, x: Tensor, stride: int) -> Tensor:
        half = kernel // 2
        match kind:
            case "skip_connect":
                return x if stride == 1 else self.factorized_reduce(name, x)
            case "max_pool":
                return F.max_pool2d(x, kernel, stride, half)
            case "avg_pool":
                return avg_pool2d(x, kernel, stride, half)
            case "conv" | "conv2":
                return self.relu_conv_bn(name, x, kernel, stride, double=kind == "conv2")
            case "dil_conv":
                padding = kernel - kernel % 2
                x = self.depthwise(f"{name}.op.1", F.relu(x), stride, padding, dilation=2)
                return self.batch_norm(f"{name}.op.3", self.conv(f"{name}.op.2", x, 1, 0))
            case "sep_conv":
                x = self.depthwise(f"{name}.op.1", F.relu(x), stride, half)
                x = F.relu(self.batch_norm(f"{name}.op.3", self.conv(f"{name}.op.2", x, 1, 0)))
                x = self.depthwise(f"{name}.op.5", x, 1, half)
                return self.batch_norm(f"{name}.op.7", self.conv(f"{name}.op.6", x, 1, 0))
            case "msa":
                return _strided(self.attention(name, x), stride)
            case "cse":
                squeezed = x.mean(dim=(2, 3))  # (B, C)
                gate = F.hardswish(self.linear(f"{name}.fc2", F.relu(self.linear(f"{name}.fc1", squeezed))))
                return _strided(x * gate[:, :, None, None], stride)
        raise GraphError(f"no operation {kind!r}")

    def attention(self, name: str, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, N, C)
        qkv = self.linear(f"{name}.to_qkv", self.layer_norm(f"{name}.ln1", x), bias=False)
        q, k, v = qkv.reshape(b, h * w, 3, HEADS, -1).permute(2, 0, 3, 1, 4).unbind(0)  # (B, h, N, d) each
        y = attend(q, k, v).transpose(1, 2).reshape(b, h * w, -1)  # (B, N, C)
        x = self.linear(f"{name}.to_out.0", y) + x
        y = F.gelu(self.linear(f"{name}.ff.net.0", self.layer_norm(f"{name}.ln2", x)))
        x = self.linear(f"{name}.ff.net.3", y) + x
        return x.transpose(1, 2).reshape(b, c, h, w)

    # -- network -----------------------------------------------------------------------------------------

    def stem(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        arch, half = self.arch, self.arch.ks // 2
        if self.vit:
            kernel = 16 if self.large else 3
            x = self.conv("stem0", x, kernel, int(kernel < 4))
            table = self.tensors["pos_enc.weight"]
            if table.shape[-2:] != x.shape[-2:]:  # images of another size than the table was made for
                table = F.interpolate(table, x.shape[-2:], mode="bilinear", align_corners=False)
            x = x + table.to(x.dtype)
            return x, x
        if arch.stem_type == 0:
            x = self.batch_norm("stem.1", self.conv("stem.0", x, 4 if self.large else 1, half))
            if arch.stem_pool:
                x = F.max_pool2d(x, 3, 2, 1)
            return x, x
        stride = 2 if self.large else 1
        x = F.relu(self.batch_norm("stem0.1", self.conv("stem0.0", x, stride, half)))
        x = self.batch_norm("stem0.4", self.conv("stem0.3", x, stride, 1))
        if "stem1.1.weight" not in self.tensors:
            return x, None
        return x, self.batch_norm("stem1.2", self.conv("stem1.1", F.relu(x), 2, 1))

    def cell(
        self, number: int, s0: Tensor | None, s1: Tensor | None, reduction: bool, reduction_prev: bool
    ) -> Tensor | None:
        arch, name, halve = self.arch, f"cells.{number}", reduction_prev and not self.vit
        if arch.preproc:
            first, second = f"{name}.preprocess0", f"{name}.preprocess1"
            if s0 is not None:
                preprocess = self.factorized_reduce if halve else self.relu_conv_bn
                s0 = preprocess(first, s0) if first in self.layers else None
            if s1 is not None:
                s1 = self.relu_conv_bn(second, s1) if second in self.layers else None
        elif halve and s0 is not None:
            s0 = _strided(s0, 2)
        edges = arch.genotype.reduce if reduction else arch.genotype.normal
        concat = arch.genotype.reduce_concat if reduction else arch.genotype.normal_concat
        states = [s0, s1]
        for step in range(len(edges) // 2):
            total: Tensor | None = None
            for i in (2 * step, 2 * step + 1):
                operation, state = edges[i]
                kind, kernel = parse_operation(operation)
                given = states[state]
                if kind == "none" or given is None:
                    continue
                stride = 2 if reduction and state < 2 and not self.vit else 1
                layer = f"{name}._ops.{i}"
                free = kind in ("max_pool", "avg_pool") or (kind == "skip_connect" and stride == 1)
                if not free and layer not in self.layers:
                    continue
                value = self.operation(layer, kind, kernel, given, stride)
                total = value if total is None else total + value
            states.append(total)
        kept = [states[i] for i in concat]
        present = next((value for value in kept if value is not None), None)
        if present is None or len(kept) == 1:
            return present
        return torch.cat([torch.zeros_like(present) if value is None else value for value in kept], dim=1)

    def logits(self, images: Tensor) -> Tensor:
        arch = self.arch
        s0: Tensor | None
        s1: Tensor | None
        s0, s1 = self.stem(images)
        reduction_prev = arch.stem_type == 1
        for number in range(arch.n_cells):
            reduction = arch.is_reduction(number)
            s0, s1 = s1, self.cell(number, s0, s1, reduction, reduction_prev)
            reduction_prev = reduction
        if s1 is None:
            raise GraphError("the network has no output: `none` operations cut every path to it")
        x = s1.mean(dim=(2, 3)) if arch.glob_avg else s1.flatten(1)  # (B, C) or (B, C * H * W)
        for layer in range(arch.fc_layers):
            x = self.linear(f"classifier.{3 * layer}", x)
            if layer < arch.fc_layers - 1:
                x = F.dropout(F.relu(x), 0.5, training=self.dropout)
        return x.float()


def _strided(x: Tensor, stride: int) -> Tensor:
    return x if stride == 1 else x[:, :, ::stride, ::stride]
