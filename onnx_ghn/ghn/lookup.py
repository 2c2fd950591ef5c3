"""A lookup table that is quick to build where its values are read from a checkpoint."""

from __future__ import annotations

from torch import nn

__all__ = ["LookupTable"]


class LookupTable(nn.Embedding):
    """`torch.nn.Embedding` that draws no values on the meta device.

    Drawing normal values there is done by torch's Python reference implementation, which imports torch's compiler
    first: two seconds for values that do not exist.
    """

    def reset_parameters(self) -> None:
        """Draw the values, of shape (rows, width), unless there is nowhere to keep them."""
        if not self.weight.is_meta:
            super().reset_parameters()
