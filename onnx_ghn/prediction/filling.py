"""What decisions store: functions that make each tensor, and the same decisions with standard weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from onnx_ghn.arrays import Array
from onnx_ghn.prediction.making import Maker
from onnx_ghn.prediction.options import PredictOptions
from onnx_ghn.prediction.plan import Decision

if TYPE_CHECKING:
    from onnx_ghn.ghn import Block

__all__ = ["as_standard", "tensors_of"]


def tensors_of(
    decisions: Sequence[Decision], blocks: Mapping[int, Block], options: PredictOptions
) -> dict[str, Callable[[], Array]]:
    """By stored name, a function that gives an array of the stored shape and type.

    Args:
        blocks: what the GHN decoded, by the index of the parameter.
    """
    makers = [decision.maker for decision in decisions if decision.maker is not None]
    made = {name: make for maker in makers for name, make in maker.tensors(blocks, options).items()}
    biases: dict[str, Callable[[], Array]] = {}
    for maker in makers:
        quantization = maker.quantization
        if quantization is not None and quantization.bias is not None:
            biases |= quantization.bias.tensors(quantization.stored.name, quantization.scale, made)
    return made | biases


def as_standard(decision: Decision) -> Decision:
    """The decision, were the tensor to get the standard initialisation of its role."""
    if decision.maker is None:
        return decision
    return dataclasses.replace(decision, maker=_standard(decision.maker))


def _standard(maker: Maker) -> Maker:
    """A maker of standard weights; what repeats a tensor, or holds its norms, follows it."""
    return dataclasses.replace(maker.following(_standard), source="standard")
