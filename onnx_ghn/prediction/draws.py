"""What random numbers make is held for the next time that it is asked for, while there is room.

A prediction asks for each tensor up to three times: for its scale, for the trial run and for the file. Drawing millions
of random numbers takes longer than everything else that is done with them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from onnx_ghn.arrays import Array

__all__ = ["Draws"]

_HELD_BYTES = 64 * 2**20  # the weights of a ResNet-18; what goes beyond is drawn anew


class Draws:
    """Arrays by key. The first ones stay until the limit is reached: tensors are asked for in one order, again and
    again, so that giving up the oldest would keep none.

    Args:
        limit_bytes: how much is held at most.
    """

    def __init__(self, limit_bytes: int = _HELD_BYTES) -> None:
        self._room_bytes = limit_bytes
        self._held: dict[Hashable, Array] = {}

    def take(self, key: Hashable, draw: Callable[[], Array]) -> Array:
        """What `draw` gives, or gave before under this key; it cannot be written to where it is held."""
        held = self._held.get(key)
        if held is not None:
            return held
        array = draw()
        if array.nbytes <= self._room_bytes:
            self._room_bytes -= array.nbytes
            array.flags.writeable = False
            self._held[key] = array
        return array
