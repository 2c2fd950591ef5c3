"""From a node embedding to a tensor: only the part of the largest tensor that a target needs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from onnx_ghn.ghn.config import GHNConfig
from onnx_ghn.ghn.kernel_spans import kernel_span
from onnx_ghn.ghn.mlp import MLP, layer_at

__all__ = ["ConvDecoder", "DecoderBlocks", "MLPDecoder", "decoder_of"]


class _Pointwise(nn.Module):
    """A linear layer's weights, stored as (out, in) or, in PPUDA, as a 1×1 convolution's (out, in, 1, 1)."""

    def __init__(self, n_in: int, n_out: int, as_conv: bool) -> None:
        super().__init__()
        layer: nn.Conv2d | nn.Linear = nn.Conv2d(n_in, n_out, 1) if as_conv else nn.Linear(n_in, n_out)
        self.weight, self.bias = layer.weight, layer.bias

    def _load_from_state_dict(self, state_dict: dict[str, object], prefix: str, *args: object) -> None:
        # GHN-2 files come with either shape (ghn3/nn.py, `from_pretrained`, squeezes them).
        stored = state_dict.get(prefix + "weight")
        if isinstance(stored, Tensor) and stored.shape[:2] == self.weight.shape[:2] and stored[0, 0].numel() == 1:
            state_dict[prefix + "weight"] = stored.reshape(self.weight.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)

    @property
    def matrix(self) -> Tensor:
        """(out, in)."""
        return self.weight.flatten(1)


class _BlocksContext(FunctionCtx):
    """What the forward pass of `_Blocks` leaves for the backward pass."""

    blocks: Sequence[tuple[slice, ...]]
    shape: torch.Size


class _Blocks(torch.autograd.Function):
    """Blocks of a tensor whose gradients are added up in one tensor: autograd would fill one with zeros for each."""

    @staticmethod
    def forward(ctx: _BlocksContext, tensor: Tensor, blocks: Sequence[tuple[slice, ...]]) -> tuple[Tensor, ...]:
        ctx.blocks = blocks
        ctx.shape = tensor.shape
        return tuple(tensor[block].clone(memory_format=torch.contiguous_format) for block in blocks)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: _BlocksContext, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].new_zeros(ctx.shape)
        for block, gradient in zip(ctx.blocks, gradients, strict=True):
            total[block] += gradient
        return total, None


@dataclasses.dataclass(frozen=True)
class DecoderBlocks:
    """The blocks of a decoder's two large matrices that a batch of targets needs."""

    of_kernel: dict[tuple[int, int], Tensor]  # (kh, kw, 4 hid, hid)
    of_channels: dict[tuple[int, int], Tensor]  # (out, in, 8 hid)


class ConvDecoder(nn.Module):
    """A linear layer to every kernel position, then two pointwise layers to out × in values at each.

    Sources: facebookresearch/ppuda, ppuda/ghn/decoder.py, `ConvDecoder` (Knyazev et al. 2021, section 3.1);
    SamsungSAILMontreal/ghn3, ghn3/nn.py, `ConvDecoder3`. Slices of what the published code decodes in
    whole; the values are the same, since kernel positions and output values do not see each other.

    Args:
        config: uses hid, max_shape, num_classes, kernel_slice and (for the stored shapes) hypernet.
    """

    def __init__(self, config: GHNConfig) -> None:
        super().__init__()
        n_out, n_in, side, _ = self.max_shape = config.max_shape
        self._where = config.kernel_slice
        self._wide = 4 * config.hid
        as_conv = config.hypernet != "graphormer"
        self.fc = nn.Sequential(nn.Linear(config.hid, self._wide * side * side), nn.ReLU())
        self.conv = nn.Sequential(
            _Pointwise(self._wide, 8 * config.hid, as_conv),
            nn.ReLU(),
            _Pointwise(8 * config.hid, n_out * n_in, as_conv),
            nn.Identity(),
        )
        self.class_layer_predictor = nn.Sequential(nn.ReLU(), _Pointwise(n_out, config.num_classes, as_conv))

    def _span(self, kernel: tuple[int, int]) -> tuple[slice, slice]:
        rows, columns = (kernel_span(size, self.max_shape[2], self._where) for size in kernel)
        return rows, columns

    def _by_position(self) -> Tensor:
        """The first layer's weights as (side, side, 4 hid, hid)."""
        side = self.max_shape[2]
        return layer_at(self.fc, 0, nn.Linear).weight.view(self._wide, side, side, -1).permute(1, 2, 0, 3)

    def _by_channels(self) -> Tensor:
        """The last layer's weights as (out, in, 8 hid)."""
        return layer_at(self.conv, 2, _Pointwise).matrix.view(*self.max_shape[:2], -1)

    def blocks(self, sizes: Iterable[tuple[int, int, int, int]]) -> DecoderBlocks:
        """What decoding tensors of these sizes (out × in × kh × kw) takes, for training: see `_Blocks`."""
        sizes = list(sizes)
        channels = sorted({(out, in_) for out, in_, _, _ in sizes})
        kernels = sorted({(kh, kw) for _, _, kh, kw in sizes})
        of_kernel = _Blocks.apply(self._by_position(), [self._span(kernel) for kernel in kernels])
        of_channels = _Blocks.apply(self._by_channels(), [(slice(out), slice(in_)) for out, in_ in channels])
        return DecoderBlocks(dict(zip(kernels, of_kernel, strict=True)), dict(zip(channels, of_channels, strict=True)))

    def forward(
        self, x: Tensor, out: int, in_: int, kernel: tuple[int, int], blocks: DecoderBlocks | None = None
    ) -> Tensor:
        """Decode the first `out` × `in_` channels of kernels of one size.

        Args:
            x: (n, hid) embeddings.
            out, in_, kernel: sizes, none above max_shape's.
            blocks: `blocks()` of these sizes among others.

        Returns:
            (n, out, in_, kh, kw).
        """
        n, hid = x.shape
        side, (kh, kw) = self.max_shape[2], kernel
        rows, columns = self._span(kernel)
        # Positions first, so that what follows is one product over (n * positions) rows.
        weight = self._by_position()[rows, columns] if blocks is None else blocks.of_kernel[kernel]
        bias = layer_at(self.fc, 0, nn.Linear).bias.view(self._wide, side, side)[:, rows, columns].permute(1, 2, 0)
        h = F.relu(F.linear(x, weight.reshape(-1, hid), bias.flatten()))  # (n, hid) -> (n, kh * kw * 4 hid)
        middle, last = layer_at(self.conv, 0, _Pointwise), layer_at(self.conv, 2, _Pointwise)
        h = F.relu(F.linear(h.view(n * kh * kw, self._wide), middle.matrix, middle.bias))
        # (max out * max in, 8 hid) -> (out * in_, 8 hid)
        weight = self._by_channels()[:out, :in_] if blocks is None else blocks.of_channels[out, in_]
        assert last.bias is not None
        bias = last.bias.view(*self.max_shape[:2])[:out, :in_].flatten()
        values = F.linear(h, weight.flatten(0, 1), bias)  # (n * kh * kw, out * in_)
        if kh * kw > 1:
            values = values.view(n, kh * kw, -1).transpose(1, 2).contiguous()
        return values.view(n, out, in_, kh, kw)

    def class_weight(self, x: Tensor, in_: int, blocks: DecoderBlocks | None = None) -> Tensor:
        """(n, hid) embeddings of classification layers -> (n, num_classes, in_), in_ at most max_shape's."""
        decoded = self(x, self.max_shape[0], in_, (1, 1), blocks)[..., 0, 0]  # (n, out, in_)
        predictor = layer_at(self.class_layer_predictor, 1, _Pointwise)
        return F.linear(F.relu(decoded).transpose(1, 2), predictor.matrix, predictor.bias).transpose(1, 2)


class MLPDecoder(nn.Module):
    """One hidden layer, then every value of the largest tensor.

    Source: facebookresearch/ppuda, ppuda/ghn/decoder.py, `MLPDecoder`.

    Args:
        config: uses hid, max_shape, num_classes and kernel_slice.
    """

    def __init__(self, config: GHNConfig) -> None:
        super().__init__()
        self.max_shape = config.max_shape
        self._where = config.kernel_slice
        self._num_classes = config.num_classes
        self.mlp = MLP(config.hid, (2 * config.hid, math.prod(config.max_shape)), last_relu=False)
        # As published, as many inputs as max_shape has *outputs*.
        self.class_layer_predictor = nn.Sequential(
            nn.ReLU(), nn.Linear(2 * config.hid, config.num_classes * config.max_shape[0])
        )

    def blocks(self, sizes: Iterable[tuple[int, int, int, int]]) -> DecoderBlocks | None:
        """None: unlike `ConvDecoder`, it has one large matrix, and few graphs are decoded by it."""
        return None

    def forward(
        self, x: Tensor, out: int, in_: int, kernel: tuple[int, int], blocks: DecoderBlocks | None = None
    ) -> Tensor:
        """As `ConvDecoder.forward`; `blocks` is ignored."""
        side, last = self.max_shape[2], self.mlp.linear(1)
        spans = (kernel_span(kernel[0], side, self._where), kernel_span(kernel[1], side, self._where))
        weight = last.weight.view(*self.max_shape, -1)[:out, :in_, spans[0], spans[1]]
        bias = last.bias.view(self.max_shape)[:out, :in_, spans[0], spans[1]]
        values = F.linear(F.relu(self.mlp.linear(0)(x)), weight.flatten(0, 3), bias.flatten())
        return values.view(len(x), out, in_, *kernel)

    def class_weight(self, x: Tensor, in_: int, blocks: DecoderBlocks | None = None) -> Tensor:
        """As `ConvDecoder.class_weight`; past max_shape's outputs the inputs repeat."""
        values: Tensor = self.class_layer_predictor(self.mlp.linear(0)(x))
        return values.view(len(x), self._num_classes, self.max_shape[0])[:, :, :in_]


def decoder_of(config: GHNConfig) -> ConvDecoder | MLPDecoder:
    """The decoder that a config asks for."""
    return ConvDecoder(config) if config.decoder == "conv" else MLPDecoder(config)
