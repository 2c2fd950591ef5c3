"""Operators that training computes differently from inference, for the converter onnx2fx.

ONNX files are exported for inference: their BatchNormalization normalises by stored statistics, their Dropout does
nothing. The file to be trained has them renamed into a domain of our own, for which these are the torch modules.
"""

from __future__ import annotations

from typing import Any

import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from onnx_ghn.json_types import Json

__all__ = ["BY_BATCH", "BY_GIVEN", "DOMAIN", "FROZEN_ATTRIBUTE", "register_operators"]

DOMAIN = "onnx_ghn.finetuning"
FROZEN_ATTRIBUTE = "onnx_ghn_frozen"  # of a batch norm whose statistics stay as they are
BY_BATCH = "NormalizationByBatch"  # of a batch norm that has no statistics but those of what it is given
BY_GIVEN = "NormalizationByGiven"  # of one whose statistics are computed, which gradients pass through

_MOMENTUM, _EPSILON = 0.9, 1e-5  # ONNX's defaults
_RATIO = 0.5


class BatchNormalization(nn.Module):
    """ONNX BatchNormalization: by the batch's statistics in training, which also move the stored ones.

    Args:
        momentum: the share that stored statistics keep at each step, as ONNX counts it (torch: what they lose).
        frozen: normalise by the stored statistics in training too, and leave them as they are.
    """

    def __init__(self, momentum: float, epsilon: float, frozen: bool) -> None:
        super().__init__()
        self.momentum, self.epsilon, self.frozen = momentum, epsilon, frozen

    def forward(self, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """(N, C, ...) -> (N, C, ...). `mean` and `variance` are changed in place."""
        training = self.training and not self.frozen
        return F.batch_norm(x, mean, variance, scale, bias, training, 1 - self.momentum, self.epsilon)


class NormalizationByBatch(nn.Module):
    """ONNX BatchNormalization in its training form, of which nothing keeps the statistics: it standardises kernels."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        """(N, C, ...) -> (N, C, ...)."""
        return F.batch_norm(x, None, None, scale, bias, training=True, eps=self.epsilon)


class NormalizationByGiven(nn.Module):
    """ONNX BatchNormalization by statistics that the model computes; torch has no gradient for those of its own."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """(N, C, ...) -> (N, C, ...)."""
        shape = (1, -1, *(1,) * (x.dim() - 2))
        factor = scale * torch.rsqrt(variance + self.epsilon)  # (C)
        return (x - mean.reshape(shape)) * factor.reshape(shape) + bias.reshape(shape)


class Dropout(nn.Module):
    """ONNX Dropout with the file's ratio, in training only."""

    def __init__(self, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape."""
        return F.dropout(x, self.ratio, self.training)


def register_operators() -> None:
    """Tell onnx2fx of the operators of `DOMAIN`; doing so again changes nothing."""
    import onnx2fx

    onnx2fx.register_op("BatchNormalization", _batch_normalization, domain=DOMAIN)
    onnx2fx.register_op(BY_BATCH, _by_batch, domain=DOMAIN)
    onnx2fx.register_op(BY_GIVEN, _by_given, domain=DOMAIN)
    onnx2fx.register_op("Dropout", _dropout, domain=DOMAIN)


def _batch_normalization(builder: Any, node: onnx.NodeProto) -> torch.fx.Node:
    given = _attributes(node)
    layer = BatchNormalization(
        given.get("momentum", _MOMENTUM), given.get("epsilon", _EPSILON), bool(given.get(FROZEN_ATTRIBUTE, 0))
    )
    return _call(builder, "batch_normalization", layer, list(node.input))


def _by_batch(builder: Any, node: onnx.NodeProto) -> torch.fx.Node:
    layer = NormalizationByBatch(_attributes(node).get("epsilon", _EPSILON))
    return _call(builder, "normalization_by_batch", layer, list(node.input))


def _by_given(builder: Any, node: onnx.NodeProto) -> torch.fx.Node:
    layer = NormalizationByGiven(_attributes(node).get("epsilon", _EPSILON))
    return _call(builder, "normalization_by_given", layer, list(node.input))


def _dropout(builder: Any, node: onnx.NodeProto) -> torch.fx.Node:
    ratio = float(_attributes(node).get("ratio", _RATIO))
    if len(node.input) > 1 and node.input[1]:  # from opset 12 on it is an input
        stored = {tensor.name: tensor for tensor in builder.model.graph.initializer}
        ratio = float(numpy_helper.to_array(stored[node.input[1]]))
    return _call(builder, "dropout", Dropout(ratio), [node.input[0]])


def _attributes(node: onnx.NodeProto) -> Json:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _call(builder: Any, name: str, layer: nn.Module, inputs: list[str]) -> torch.fx.Node:
    home = builder.register_submodule(name, layer)
    node: torch.fx.Node = builder.call_module(home, args=tuple(builder.get_value(value) for value in inputs))
    return node
