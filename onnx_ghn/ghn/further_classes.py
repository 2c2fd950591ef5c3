"""A GHN of more classes than it was trained on, with all that it learned."""

from __future__ import annotations

import dataclasses

import torch

from onnx_ghn.errors import OptionError
from onnx_ghn.ghn.decoders import ConvDecoder
from onnx_ghn.ghn.initialise import new_ghn
from onnx_ghn.ghn.network import GHN
from onnx_ghn.ghn.shape_indices import ShapeIndices, seen_channels

__all__ = ["with_classes"]


@torch.no_grad()
def with_classes(ghn: GHN, num_classes: int, seed: int = 0) -> GHN:
    """A copy that decodes classification layers of `num_classes` rows; the rows that it has stay the first of them.

    The number of classes is also one of the channel counts that the shape embedding knows, so that the table of these
    gets a row more or less: each count takes the row that it had, or that of the nearest count.

    Args:
        ghn: with the convolutional decoder.
        num_classes: at least as many as it has.
        seed: of the new rows, which are drawn as those of a new GHN are.

    Raises:
        OptionError: fewer classes, or the decoder mlp, whose one matrix gives all rows.
    """
    config = ghn.config
    if num_classes < config.num_classes:
        raise OptionError(f"`num_classes` {num_classes}: the GHN has {config.num_classes}; give it that many at least")
    if not isinstance(ghn.decoder, ConvDecoder):
        raise OptionError(f"`num_classes` {num_classes}: only GHNs with the decoder conv take further classes")
    grown = new_ghn(dataclasses.replace(config, num_classes=num_classes), seed)
    first = config.first_classes or (config.num_classes if num_classes > config.num_classes else 0)
    grown.config = dataclasses.replace(config, num_classes=num_classes, first_classes=first)
    own = ghn.state_dict()
    for name, values in grown.state_dict().items():
        if name == "shape_enc.embed_channel.weight":
            values.copy_(own[name][_channel_rows(config.num_classes, num_classes, config.max_shape[3])])
        elif name.startswith(("decoder.class_layer_predictor.", "bias_class.")):
            values[: config.num_classes] = own[name]  # (classes, …)
        else:
            values.copy_(own[name])
    return grown.to(ghn.device).train(ghn.training)


def _channel_rows(before: int, after: int, max_kernel: int) -> list[int]:
    """For each row of the channel table with `after` classes, the row that its count has with `before`."""
    old = ShapeIndices(before, max_kernel)
    rows = old.of([(int(count),) for count in seen_channels(after)])[:, 0]
    return [*map(int, rows), old.n_channel_rows - 1]  # the last row is for nodes without a shape
