"""The way between a stored tensor and its canonical form, as steps that can be undone."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Layout"]

_Kind = Literal["reshape", "transpose", "inflate"]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Steps from the stored tensor to the canonical one.

    - ("reshape", shape): to that shape.
    - ("transpose", perm): axes permuted as in numpy.transpose.
    - ("inflate", (depth,)): the leading axis, of that length, is dropped; on the way back its content is
      repeated along it (a 3-D kernel from a 2-D one, as in I3D, Carreira & Zisserman 2017).

    Attributes:
        stored: shape of the tensor in the file.
    """

    stored: tuple[int, ...]
    steps: tuple[tuple[_Kind, tuple[int, ...]], ...] = ()

    def _shapes(self) -> list[tuple[int, ...]]:
        """The shape before each step, and after the last."""
        shapes = [self.stored]
        for kind, arg in self.steps:
            before = shapes[-1]
            if kind == "reshape":
                shapes.append(arg)
            elif kind == "transpose":
                shapes.append(tuple(before[axis] for axis in arg))
            else:
                shapes.append(before[1:])
        return shapes

    @property
    def canonical(self) -> tuple[int, ...]:
        """Canonical shape."""
        return self._shapes()[-1]

    @property
    def inflation(self) -> int:
        """How many times the canonical tensor is repeated in the stored one."""
        return math.prod(arg[0] for kind, arg in self.steps if kind == "inflate")

    def stored_axis(self, axis: int) -> int | None:
        """The axis of the stored tensor that an axis of the canonical one is; None where it is none of them alone."""
        before = self._shapes()
        for (kind, arg), shape in zip(reversed(self.steps), reversed(before[:-1]), strict=True):
            if kind == "transpose":
                axis = arg[axis]
            elif kind == "inflate":
                axis += 1
            else:
                ahead, size = math.prod(arg[:axis]), arg[axis]
                same = [i for i, dim in enumerate(shape) if dim == size and math.prod(shape[:i]) == ahead]
                if not same:
                    return None
                axis = same[0]
        return axis

    def reshape(self, shape: tuple[int, ...]) -> Layout:
        """This layout followed by a reshape. Raises ValueError where the element counts differ."""
        current = self.canonical
        if math.prod(shape) != math.prod(current):
            raise ValueError(f"cannot reshape {current} to {shape}")
        if shape == current:
            return self
        # Of reshapes in a row the last alone matters.
        kept = self.steps[:-1] if self.steps and self.steps[-1][0] == "reshape" else self.steps
        before = dataclasses.replace(self, steps=kept)
        return before if shape == before.canonical else dataclasses.replace(self, steps=(*kept, ("reshape", shape)))

    def transpose(self, perm: tuple[int, ...]) -> Layout:
        """This layout followed by a permutation of axes. Raises ValueError where perm is no permutation."""
        if sorted(perm) != list(range(len(self.canonical))):
            raise ValueError(f"{perm} does not permute the axes of {self.canonical}")
        if perm == tuple(range(len(perm))):
            return self
        # Two permutations in a row are one: a chain of them stays as short as a single one.
        if self.steps and self.steps[-1][0] == "transpose":
            before = self.steps[-1][1]
            both = tuple(before[axis] for axis in perm)
            kept = self.steps[:-1]
            return dataclasses.replace(
                self, steps=kept if both == tuple(range(len(both))) else (*kept, ("transpose", both))
            )
        return dataclasses.replace(self, steps=(*self.steps, ("transpose", perm)))

    def inflate(self) -> Layout:
        """This layout followed by dropping the leading axis (see the class)."""
        return dataclasses.replace(self, steps=(*self.steps, ("inflate", (self.canonical[0],))))

    def to_canonical(self, stored: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """The canonical array of a stored one; an inflated axis is averaged."""
        array = stored.reshape(self.stored)
        for kind, arg in self.steps:
            if kind == "reshape":
                array = array.reshape(arg)
            elif kind == "transpose":
                array = array.transpose(arg)
            else:
                array = array.mean(axis=0)
        return array

    def from_canonical(self, canonical: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """The array to store, of shape `stored`, for a canonical one (a view where numpy can give one)."""
        array = canonical.reshape(self.canonical)
        before = self._shapes()
        for (kind, arg), shape in zip(reversed(self.steps), reversed(before[:-1]), strict=True):
            if kind == "reshape":
                array = array.reshape(shape)
            elif kind == "transpose":
                array = array.transpose(np.argsort(arg))
            else:
                array = np.broadcast_to(array, shape)
        return array
