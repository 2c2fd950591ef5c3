"""The set of layers that DeepNets-1M networks consist of, which `definition.forward` asks for by name and size."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from onnx_ghn.deepnets1m.genotypes import Edge

__all__ = ["Cell", "Layers", "Outline", "Pair", "States"]

T = TypeVar("T")
Pair = tuple[int, int]
#: The outputs of the two cells before; None where all paths to one are cut.
States = tuple[T | None, T | None]


class Cell(NamedTuple):
    """One cell of a network."""

    number: int
    edges: tuple[Edge, ...]  # (operation, state), two for each step
    concat: tuple[int, ...]  # the states that leave the cell side by side
    channels: Pair  # of the cell's two inputs
    width: int  # channels of every state
    reduction: bool
    stride: int  # of operations on the cell's inputs
    halve: bool  # the first input has twice the height and width of the second

    @property
    def out_channels(self) -> int:
        """Channels of the cell's output."""
        return len(self.concat) * self.width


class Layers(abc.ABC, Generic[T]):
    """The layers that a network consists of, on values of type T.

    Names are those of the published modules; a layer's parameters are `<name>.weight` and `<name>.bias`. Feature maps
    are (B, C, H, W) and tokens are (B, N, C) where values are tensors.
    """

    # -- layers with parameters --------------------------------------------------------------------------

    @abc.abstractmethod
    def conv(self, name: str, x: T, c_in: int, c_out: int, kernel: Pair, stride: int | Pair, padding: int | Pair) -> T:
        """A convolution without bias."""

    @abc.abstractmethod
    def depthwise(self, name: str, x: T, channels: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> T:
        """A convolution of each channel by itself, without bias."""

    @abc.abstractmethod
    def relu_halving_convs(self, names: tuple[str, str], x: T, c_in: int, c_out: int) -> tuple[T, T]:
        """ReLU, then two 1 × 1 convolutions of stride 2; the second reads pixels one further down and to the right."""

    @abc.abstractmethod
    def linear(self, name: str, x: T, c_in: int, c_out: int, *, bias: bool = True, n_pixels: int = 1) -> T:
        """A linear layer. Of a flattened map it reads c_in channels of `n_pixels` pixels each."""

    @abc.abstractmethod
    def batch_norm(self, name: str, x: T, channels: int) -> T:
        """Batch normalisation of a feature map."""

    @abc.abstractmethod
    def layer_norm(self, name: str, x: T, features: int) -> T:
        """Layer normalisation of tokens."""

    @abc.abstractmethod
    def position_table(self, name: str, x: T, channels: int, side: int) -> T:
        """A feature map plus a table of side × side positions, `<name>.weight`."""

    # -- layers without ----------------------------------------------------------------------------------

    @abc.abstractmethod
    def max_pool(self, name: str, x: T, kernel: int, stride: int) -> T:
        """Max-pooling, padded by half a kernel."""

    @abc.abstractmethod
    def avg_pool(self, name: str, x: T, kernel: int, stride: int) -> T:
        """Average pooling, padded by half a kernel; what is padded does not count."""

    @abc.abstractmethod
    def strided(self, x: T, stride: int) -> T:
        """Every `stride`-th pixel (more than one) of a feature map, in both directions."""

    @abc.abstractmethod
    def relu(self, x: T) -> T:
        """ReLU."""

    @abc.abstractmethod
    def gelu(self, x: T) -> T:
        """GELU."""

    @abc.abstractmethod
    def dropout(self, name: str, x: T) -> T:
        """Dropout of one half."""

    @abc.abstractmethod
    def add(self, name: str, a: T, b: T) -> T:
        """The sum of two values."""

    @abc.abstractmethod
    def concat(self, name: str, values: Sequence[T | None]) -> T:
        """Channels side by side. None stands for zeros; at least one value is not None."""

    @abc.abstractmethod
    def tokens(self, x: T) -> T:
        """The pixels of a feature map as tokens."""

    @abc.abstractmethod
    def feature_map(self, tokens: T, like: T) -> T:
        """Tokens as a feature map of the size of `like`."""

    @abc.abstractmethod
    def attention(self, name: str, qkv: T, head_width: int) -> T:
        """Self-attention of `HEADS` heads from queries, keys and values, which lie side by side."""

    @abc.abstractmethod
    def squeeze(self, x: T) -> T:
        """(B, C, H, W) -> (B, C): the mean of each channel, from which channel attention computes its gate."""

    @abc.abstractmethod
    def gate(self, name: str, x: T, gate: T) -> T:
        """A feature map times Hardswish of a (B, C) gate."""

    @abc.abstractmethod
    def global_pool(self, x: T) -> T:
        """(B, C, H, W) -> (B, C): the global average pooling before the classifier."""

    @abc.abstractmethod
    def flatten(self, x: T) -> T:
        """(B, C, H, W) -> (B, C * H * W)."""

    # -- structure ---------------------------------------------------------------------------------------

    def part(self, name: str, x: T | None, run: Callable[[T], T], *, learns: bool = True) -> T | None:
        """The part of a network whose layers' names begin with `name`.

        Args:
            x: its input; None where all paths to it are cut.
            run: the part.
            learns: it has parameters.

        Returns:
            its output; None where it is cut off.
        """
        return None if x is None else run(x)

    def cell(self, cell: Cell, states: States[T], run: Callable[[States[T]], T | None]) -> T | None:
        """A cell, `run`, on its two inputs; None where all paths through it are cut."""
        return run(states)

    def drop_path(self, x: T) -> T:
        """The output of an operation, which training may leave out at random."""
        return x

    def published_order(self, name: str, parts: Sequence[str]) -> None:
        """Told before a part runs: the order of its children in the published module, where it is another."""


class Outline(Layers[T]):
    """Layers for those who ask for a network's structure alone: layers of which nothing is recorded pass values on."""

    def relu_halving_convs(self, names: tuple[str, str], x: T, c_in: int, c_out: int) -> tuple[T, T]:
        first, second = (self.conv(name, x, c_in, c_out, (1, 1), 2, 0) for name in names)
        return first, second

    def batch_norm(self, name: str, x: T, channels: int) -> T:
        return x

    def layer_norm(self, name: str, x: T, features: int) -> T:
        return x

    def position_table(self, name: str, x: T, channels: int, side: int) -> T:
        return x

    def max_pool(self, name: str, x: T, kernel: int, stride: int) -> T:
        return x

    avg_pool = max_pool

    def add(self, name: str, a: T, b: T) -> T:
        return a

    def concat(self, name: str, values: Sequence[T | None]) -> T:
        return next(value for value in values if value is not None)

    def attention(self, name: str, qkv: T, head_width: int) -> T:
        return qkv

    def gate(self, name: str, x: T, gate: T) -> T:
        return x

    def relu(self, x: T) -> T:
        return x

    gelu = tokens = squeeze = flatten = global_pool = relu

    def strided(self, x: T, stride: int) -> T:
        return x

    def dropout(self, name: str, x: T) -> T:
        return x

    def feature_map(self, tokens: T, like: T) -> T:
        return tokens
