"""A GHN that takes further classes: what it knew stays, row by row."""

from __future__ import annotations

import pytest
import torch

from onnx_ghn.errors import OptionError
from onnx_ghn.ghn import GHN, GHNConfig, new_ghn
from onnx_ghn.ghn.further_classes import with_classes

CONFIG = GHNConfig.preset("ghn3", hid=16, heads=4, layers=1, max_shape=(16, 16, 7, 7), num_classes=10)


def channel_row(ghn: GHN, count: int) -> torch.Tensor:
    """The row of the shape embedding that a vector of so many channels gets first."""
    index = int(ghn.shape_enc.indices([(count,)])[0, 0])
    return ghn.shape_enc.embed_channel.weight[index]


@torch.no_grad()
def test_rows_of_classes_and_counts_stay_and_new_ones_join() -> None:
    before = new_ghn(CONFIG, seed=3)
    after = with_classes(before, 210, seed=5)
    assert (after.config.num_classes, after.config.first_classes) == (210, 10)
    assert [n for n in range(300) if after.config.knows_classes(n)] == [10, 210]
    assert [n for n in range(300) if before.config.knows_classes(n)] == [10]
    assert with_classes(after, 220).config.first_classes == 10
    embeddings = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    rows, more = (ghn.decoder.class_weight(embeddings, 12) for ghn in (before, after))
    assert more.shape == (2, 210, 12)
    torch.testing.assert_close(more[:, :10], rows, rtol=0, atol=1e-6)
    assert float(more[:, 10:].std()) > 0
    for count in (1, 3, 8, 24, 64, 80, 512, 4096, 8192):  # every one with a row of its own in both
        torch.testing.assert_close(channel_row(after, count), channel_row(before, count), rtol=0, atol=0)
    torch.testing.assert_close(channel_row(after, 210), channel_row(before, 208), rtol=0, atol=0)
    dummies = (ghn.shape_enc.embed_channel.weight[-1] for ghn in (before, after))
    torch.testing.assert_close(next(dummies), next(dummies), rtol=0, atol=0)
    own, grown = dict(before.named_parameters()), dict(after.named_parameters())
    assert {
        name for name in own if own[name].shape != grown[name].shape or not torch.equal(own[name], grown[name])
    } == {
        "shape_enc.embed_channel.weight",  # a row for 210 in place of the one for 10
        "decoder.class_layer_predictor.1.weight",
        "decoder.class_layer_predictor.1.bias",
        "bias_class.1.weight",
        "bias_class.1.bias",
    }


def test_as_many_classes_change_nothing() -> None:
    before = new_ghn(CONFIG, seed=3)
    after = with_classes(before, 10)
    assert all(torch.equal(p, after.state_dict()[name]) for name, p in before.state_dict().items())


def test_what_cannot_grow_is_refused() -> None:
    with pytest.raises(OptionError, match="`num_classes` 9: the GHN has 10"):
        with_classes(new_ghn(CONFIG), 9)
    ghn1 = new_ghn(GHNConfig.preset("ghn1", decoder="mlp", hid=8, max_shape=(8, 8, 3, 3), num_classes=10))
    with pytest.raises(OptionError, match="only GHNs with the decoder conv"):
        with_classes(ghn1, 20)
