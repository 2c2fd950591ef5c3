"""Sliced decoding against decoding the largest tensor in whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from onnx_ghn.ghn import GHNConfig
from onnx_ghn.ghn.decoders import ConvDecoder, MLPDecoder, decoder_of, kernel_span

SHAPE = (6, 5, 7, 7)
CONFIGS = {
    "ghn2": GHNConfig.preset("ghn2", max_shape=SHAPE, num_classes=9, hid=8),
    "ghn3": GHNConfig.preset("ghn3", max_shape=SHAPE, num_classes=9, hid=8),
    "mlp": GHNConfig.preset("ghn2", max_shape=SHAPE, num_classes=9, hid=8, decoder="mlp"),
}


def _whole(decoder: torch.nn.Module, x: Tensor) -> Tensor:
    """(n, hid) -> (n, *SHAPE) by the published order of operations."""
    if isinstance(decoder, MLPDecoder):
        out: Tensor = decoder.mlp(x).view(-1, *SHAPE)
        return out
    h = decoder.fc(x).view(len(x), -1, *SHAPE[2:])
    for layer in (decoder.conv[0], decoder.conv[2]):
        weight = layer.weight if layer.weight.dim() == 4 else layer.weight[:, :, None, None]
        h = F.conv2d(h, weight, layer.bias)
        h = h.relu() if layer is decoder.conv[0] else h
    return h.view(len(x), *SHAPE)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("size", [(6, 5, 7, 7), (6, 1, 3, 3), (3, 5, 1, 1), (2, 2, 2, 4), (1, 3, 6, 7), (1, 1, 1, 5)])
def test_slices_equal_the_whole(kind: str, size: tuple[int, int, int, int]) -> None:
    torch.manual_seed(0)
    config = CONFIGS[kind]
    decoder = decoder_of(config)
    x = torch.randn(3, config.hid)
    out, in_, kh, kw = size
    starts = (0, 0) if kind != "ghn3" else (3 - kh // 2, 3 - kw // 2)
    expected = _whole(decoder, x)[:, :out, :in_, starts[0] : starts[0] + kh, starts[1] : starts[1] + kw]
    torch.testing.assert_close(decoder(x, out, in_, (kh, kw)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["ghn2", "ghn3"])
def test_class_weight(kind: str) -> None:
    torch.manual_seed(1)
    decoder = decoder_of(CONFIGS[kind])
    assert isinstance(decoder, ConvDecoder)
    x = torch.randn(2, 8)
    middle = 0 if kind == "ghn2" else 3
    decoded = _whole(decoder, x)[..., middle, middle].relu()  # (n, out, in)
    predictor = decoder.class_layer_predictor[1]
    expected = torch.einsum("co,noi->nci", predictor.matrix, decoded) + predictor.bias[:, None]
    torch.testing.assert_close(decoder.class_weight(x, 5), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(decoder.class_weight(x, 3), expected[..., :3], rtol=1e-5, atol=1e-6)


def test_class_weight_of_mlp_shares_the_first_layer() -> None:
    torch.manual_seed(2)
    decoder = decoder_of(CONFIGS["mlp"])
    assert isinstance(decoder, MLPDecoder)
    x = torch.randn(2, 8)
    hidden = decoder.mlp.fc[0](x).relu()
    expected = decoder.class_layer_predictor[1](hidden).view(2, 9, 6)
    torch.testing.assert_close(decoder.class_weight(x, 4), expected[..., :4])


@pytest.mark.parametrize(
    ("size", "largest", "where", "positions"),
    [
        (3, 11, "corner", [0, 1, 2]),
        (3, 11, "centre", [4, 5, 6]),
        (2, 11, "centre", [4, 5]),
        (1, 16, "centre", [8]),
        (7, 16, "centre", [5, 6, 7, 8, 9, 10, 11]),
        (4, 16, "centre", [6, 7, 8, 9]),
        (32, 4, "centre", [0, 1, 2, 3]),
        (32, 4, "corner", [0, 1, 2, 3]),
        (5, 5, "centre", [0, 1, 2, 3, 4]),
    ],
)
def test_kernel_span(size: int, largest: int, where: str, positions: list[int]) -> None:
    assert np.arange(largest)[kernel_span(size, largest, where)].tolist() == positions  # type: ignore[arg-type]
