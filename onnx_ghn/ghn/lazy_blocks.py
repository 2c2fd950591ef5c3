"""Predicted blocks that are decoded when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from onnx_ghn.ghn.array_layers import Floats
from onnx_ghn.ghn.targets import Target
from onnx_ghn.ghn.tiling import Block

__all__ = ["LazyBlocks"]


class LazyBlocks(Mapping[int, Block]):
    """Index of a parameter -> its `Block`. Which parameters there are is known before anything is computed.

    A network that keeps its own start, or inherits everything, asks for no block: then nothing passes through the GHN.

    Args:
        groups: targets that one product decodes.
        decode: the values of a group, stacked: (n, ...). What it raises, a look-up raises.
    """

    def __init__(self, groups: Sequence[list[Target]], decode: Callable[[list[Target]], Floats]) -> None:
        self._groups = groups
        self._decode = decode
        self._group_of = {target.parameter: number for number, group in enumerate(groups) for target in group}
        self._blocks: dict[int, Block] = {}

    def __getitem__(self, index: int) -> Block:
        if index not in self._blocks:
            group = self._groups[self._group_of[index]]
            for target, block in zip(group, self._decode(group), strict=True):
                if self._groups[self._group_of[target.parameter]] is group:  # a later group has the last word
                    needed = block[tuple(slice(size) for size in target.tiled)]
                    self._blocks[target.parameter] = Block(needed, target.tiled, target.shape)
        return self._blocks[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self._group_of)

    def __len__(self) -> int:
        return len(self._group_of)

    def __contains__(self, index: object) -> bool:
        return index in self._group_of
