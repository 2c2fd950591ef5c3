"""A stack of linear layers with ReLU between: the message, decoder and baseline network of PPUDA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from torch import Tensor, nn

__all__ = ["MLP", "layer_at"]

_Layer = TypeVar("_Layer", bound=nn.Module)


def layer_at(stack: nn.Sequential | nn.ModuleList, index: int, kind: type[_Layer]) -> _Layer:
    """The layer at an index of a stack, with its type."""
    layer = stack[index]
    assert isinstance(layer, kind)
    return layer


class MLP(nn.Module):
    """Linear layers with ReLU between them (facebookresearch/ppuda, ppuda/ghn/mlp.py).

    Args:
        in_features: features of the input.
        hid: features after each linear layer, at least one.
        last_relu: whether a ReLU follows the last layer too. In messages and in the MLP baseline
            one does; in decoders none.
    """

    def __init__(self, in_features: int, hid: Sequence[int], last_relu: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out in zip([in_features, *hid[:-1]], hid, strict=True):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        if not last_relu:
            layers[-1] = nn.Identity()
        self.fc = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., hid[-1])."""
        out: Tensor = self.fc(x)
        return out

    def linear(self, index: int) -> nn.Linear:
        """One of the linear layers, counted from 0; from the last one if negative."""
        return layer_at(self.fc, 2 * index, nn.Linear)
