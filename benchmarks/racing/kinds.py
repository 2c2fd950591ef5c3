"""Kinds of tensors, for starts that take only one kind from the GHN."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor, nn

__all__ = ["KINDS"]

Names = list[str]
_SPATIAL = range(2, 8)  # pixels in each direction

_NORMS = (
    nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.instancenorm._InstanceNorm,
)  # fmt: skip
_LINEAR_OR_CONV = (nn.Linear, nn.modules.conv._ConvNd)


def _parameters(module: nn.Module) -> Iterator[tuple[str, nn.Module, str, Tensor]]:
    """The full name, the layer, its own name for it and the values, in the order of the module."""
    for prefix, layer in module.named_modules():
        for name, tensor in layer.named_parameters(recurse=False):
            yield f"{prefix}.{name}" if prefix else name, layer, name, tensor


def _where(wanted: Callable[[nn.Module, str, Tensor], bool]) -> Callable[[nn.Module], Names]:
    return lambda module: [full for full, layer, name, tensor in _parameters(module) if wanted(layer, name, tensor)]


def _is_2d(layer: nn.Module, name: str) -> bool:
    return isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and name == "weight"


def _is_spatial(layer: nn.Module, name: str, tensor: Tensor) -> bool:
    return _is_2d(layer, name) and all(size in _SPATIAL for size in tensor.shape[2:])


def _is_pointwise(layer: nn.Module, name: str, tensor: Tensor) -> bool:
    return isinstance(layer, nn.modules.conv._ConvNd) and name == "weight" and set(tensor.shape[2:]) == {1}


def _is_depthwise(layer: nn.Module, name: str) -> bool:
    return isinstance(layer, nn.Conv2d) and name == "weight" and layer.groups == layer.in_channels > 1


def _layer_at(which: int) -> Callable[[nn.Module], Names]:
    """Weight and bias of the first (0) or last (-1) layer that multiplies."""

    def found(module: nn.Module) -> Names:
        layers = [layer for layer in module.modules() if isinstance(layer, _LINEAR_OR_CONV)]
        chosen = layers[which] if layers else None
        return [full for full, layer, _, _ in _parameters(module) if layer is chosen]

    return found


#: From a kind's name to the names of a module's parameters that are of it. Weights alone, where biases are not said.
KINDS: dict[str, Callable[[nn.Module], Names]] = {
    "conv2d": _where(lambda layer, name, tensor: _is_2d(layer, name)),
    "conv2d-spatial": _where(_is_spatial),
    "depthwise": _where(lambda layer, name, tensor: _is_depthwise(layer, name)),
    "pointwise": _where(_is_pointwise),
    "conv1d": _where(lambda layer, name, tensor: isinstance(layer, nn.Conv1d) and name == "weight"),
    "linear": _where(
        lambda layer, name, tensor: (isinstance(layer, nn.Linear) and name == "weight") or name == "in_proj_weight"
    ),
    "recurrent": _where(lambda layer, name, tensor: isinstance(layer, nn.RNNBase) and name.startswith("weight")),
    "position": lambda module: [full for full, _, _, _ in _parameters(module) if "pos" in full],  # as nets name them
    "embedding": _where(lambda layer, name, tensor: isinstance(layer, nn.Embedding)),
    "norm": _where(lambda layer, name, tensor: isinstance(layer, _NORMS)),  # scales and shifts
    "bias": _where(lambda layer, name, tensor: "bias" in name and not isinstance(layer, _NORMS)),
    "first": _layer_at(0),  # with its bias
    "head": _layer_at(-1),  # with its bias
}
