"""How a model takes images: channels before height and width, or behind them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from onnx_ghn.errors import OptionError

__all__ = ["ImageInput", "image_input"]

_RANK = 4


@dataclasses.dataclass(frozen=True)
class ImageInput:
    """The one input of a classifier of RGB images. `batch`, `height` and `width` are None where they are free."""

    name: str
    channels_last: bool
    batch: int | None
    height: int | None
    width: int | None

    def in_layout(self, images: Any) -> Any:
        """(B, 3, H, W) images in the model's order of axes (a torch tensor, a view)."""
        return images.permute(0, 2, 3, 1) if self.channels_last else images  # (B, H, W, 3)


def image_input(inputs: Iterable[tuple[str, Sequence[Any]]]) -> ImageInput:
    """The input of images among a model's inputs.

    Args:
        inputs: name and shape of each; sizes that are no integers are free.

    Raises:
        OptionError: there are others, or it is not of RGB images.
    """
    found = [(name, tuple(size if isinstance(size, int) else None for size in shape)) for name, shape in inputs]
    told = ", ".join(
        f"{name} ({' × '.join('?' if size is None else str(size) for size in shape)})" for name, shape in found
    )
    if len(found) != 1 or len(found[0][1]) != _RANK:
        raise OptionError(f"the model's inputs are {told or 'none'}; it must be a classifier with one input, of images")
    name, (batch, second, third, last) = found[0]
    if second == 3 or (second is None and last != 3):
        return ImageInput(name, False, batch, third, last)
    if last == 3:
        return ImageInput(name, True, batch, second, third)
    raise OptionError(f"the model's input is {told}; RGB images are N × 3 × H × W or N × H × W × 3")
