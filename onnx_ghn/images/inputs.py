"""The image input of a model, whose channels come before height and width, or after them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from onnx_ghn.errors import OptionError

if TYPE_CHECKING:
    import torch

__all__ = ["ImageInput", "image_input"]

_RANK = 4


@dataclasses.dataclass(frozen=True)
class ImageInput:
    """The only input of a classifier of RGB images. `batch`, `height` and `width` are None where they are free."""

    name: str
    channels_last: bool
    batch: int | None
    height: int | None
    width: int | None

    def in_layout(self, images: torch.Tensor) -> torch.Tensor:
        """A view of (B, 3, H, W) images in the model's order of axes."""
        return images.permute(0, 2, 3, 1) if self.channels_last else images  # (B, H, W, 3)


def image_input(inputs: Iterable[tuple[str, Sequence[object]]]) -> ImageInput:
    """Find the image input of a model.

    Args:
        inputs: the name and shape of each input. Sizes that are no integers are free.

    Raises:
        OptionError: the model has more inputs or none, or its input is not of RGB images.
    """
    shapes = [(name, [size if isinstance(size, int) else None for size in shape]) for name, shape in inputs]
    described = ", ".join(
        f"{name} ({' × '.join('?' if size is None else str(size) for size in shape)})" for name, shape in shapes
    )
    if len(shapes) != 1 or len(shapes[0][1]) != _RANK:
        raise OptionError(
            f"the model's inputs are {described or 'none'}; it must be a classifier with one input, of images"
        )
    name, (batch, second, third, last) = shapes[0]
    if second == 3 or (second is None and last != 3):
        return ImageInput(name, False, batch, third, last)
    if last == 3:
        return ImageInput(name, True, batch, second, third)
    raise OptionError(f"the model's input is {described}; RGB images are N × 3 × H × W or N × H × W × 3")
