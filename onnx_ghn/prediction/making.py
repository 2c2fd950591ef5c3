"""How the new values of a tensor are made, one tensor at a time, whenever they are asked for."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from onnx_ghn.arrays import Array
from onnx_ghn.errors import OptionError
from onnx_ghn.graph import Parameter
from onnx_ghn.graph.tables import are_sound
from onnx_ghn.prediction.draws import Draws
from onnx_ghn.prediction.fallback import standard_init
from onnx_ghn.prediction.options import Post, PredictOptions
from onnx_ghn.prediction.postprocess import separate_copies
from onnx_ghn.prediction.quantization import Quantization
from onnx_ghn.prediction.singular_vectors import leading_vectors
from onnx_ghn.prediction.stored_zeros import zeros_of

if TYPE_CHECKING:
    from onnx_ghn.ghn import Block
    from onnx_ghn.inheritance.transfer import Rest
    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["TWIN_NOISE", "Maker", "Source"]

TWIN_NOISE = 0.1  # of a tensor's spread: that of `post` noise

Make = Callable[[], Array]
Source = Literal["ghn", "standard", "own", "donor"]


@dataclasses.dataclass(frozen=True, eq=False)
class Maker:
    """How to make the values of one tensor."""

    source: Source  # the GHN, the standard initialisation of its role, what the model stores now, or a donor
    parameter: Parameter
    index: int | None  # of the parameter among those that the GHN decodes
    stored: StoredTensor  # what the model stores now
    quantization: Quantization | None = None  # where it is stored as integers, or quantised in the file
    factor: float = 1.0  # by which all elements are multiplied
    post: Post = "none"  # how copies are told apart, unless the options say how
    is_twin: bool = False  # what the GHN decodes is equal to what it decodes for another tensor beside it
    original: Maker | None = None  # of the tensor that this one repeats
    transposed: bool = False  # against the original
    magnitude: Maker | None = None  # of the weight whose norms it holds
    decomposed: Maker | None = None  # of the weight of which it holds a singular vector
    given: Make | None = None  # what a donor gives
    blend: float = 0.0  # how far that goes towards what the GHN decodes
    zero: int | None = None  # elements that store this number, zeros of a mask or of pruning, stay as they are
    rest: Maker | None = None  # of the rows that the donor has not
    rest_rows: Rest | None = None  # which these are
    draws: Draws | None = None  # what was drawn for one of the makers that share it

    @property
    def names(self) -> tuple[str, ...]:
        """The stored names of what it makes: the tensor, and its scale where it is quantised."""
        return (self.stored.name,) if self.quantization is None else (self.stored.name, self.quantization.scale.name)

    def tensors(self, blocks: Mapping[int, Block], options: PredictOptions) -> dict[str, Make]:
        """Functions by stored name, each giving an array of the stored shape: the tensor itself and, where it is
        quantised, its scale.

        Args:
            blocks: what the GHN decoded, by the index of the parameter.
        """
        make = self._divided(self._held("standard", functools.partial(_standard, self.parameter, options.seed)))
        if self.source == "own":
            make = self.stored.numpy if self.quantization is None else functools.partial(_floats, self)
        elif self.source == "ghn":
            assert self.index is not None
            make = self._decoded(blocks[self.index], options)
        elif self.source == "donor":
            assert self.given is not None
            make = self.given
            if self.blend and self.index is not None:
                make = functools.partial(_blended, make, self._decoded(blocks[self.index], options), self.blend)
            if self.rest is not None and self.rest_rows is not None:
                make = functools.partial(
                    _with_rest, make, self.rest.tensors(blocks, options)[self.stored.name], self.rest_rows
                )
        if self.original is not None:
            (make,) = self.original.tensors(blocks, options).values()
            return {self.stored.name: functools.partial(_repeated, make, self)}
        if self.magnitude is not None:
            make = functools.partial(_norms, self.magnitude.tensors(blocks, options)[self.magnitude.stored.name], self)
        if self.decomposed is not None:
            make = functools.partial(
                _singular, self.decomposed.tensors(blocks, options)[self.decomposed.stored.name], self.parameter
            )
        if self.factor != 1:
            make = functools.partial(_scaled, make, self.factor)
        if self.parameter.kept:
            make = functools.partial(_with_kept_elements, make, self.stored, self.parameter)
        if self.zero is not None:
            make = functools.partial(_with_zeros, make, self.stored, self.zero)
        if self.quantization is not None:
            return self.quantization.tensors(make)
        make = functools.partial(_typed, make, self.stored.dtype.numpy())
        return {self.stored.name: functools.partial(_within, make, self) if self.source == "donor" else make}

    def following(self, change: Callable[[Maker], Maker]) -> Maker:
        """This maker with others in the place of those whose values it repeats or is computed from."""
        original, magnitude, decomposed = (
            None if each is None else change(each) for each in (self.original, self.magnitude, self.decomposed)
        )
        return dataclasses.replace(self, original=original, magnitude=magnitude, decomposed=decomposed)

    def sharing(self, draws: Draws) -> Maker:
        """This maker, and those that it reads, drawing each tensor once where `draws` has room for it."""
        rest = None if self.rest is None else self.rest.sharing(draws)
        return dataclasses.replace(self.following(lambda other: other.sharing(draws)), rest=rest, draws=draws)

    @property
    def is_plainly_standard(self) -> bool:
        """Whether the tensor holds what its standard initialisation draws, element for element."""
        return (
            self.source == "standard"
            and self.original is None
            and self.magnitude is None
            and self.decomposed is None
            and self.quantization is None
            and self.factor == self.parameter.multiplier == 1
            and not self.parameter.kept
            and self.zero is None
        )

    @property
    def decodes(self) -> bool:
        """Whether it asks for a block of the GHN, be it for another tensor that it repeats or completes."""
        if self.original is not None:
            return self.original.decodes
        others = (self.rest, self.magnitude, self.decomposed)
        blended = self.source == "donor" and bool(self.blend) and self.index is not None
        return self.source == "ghn" or blended or any(other.decodes for other in others if other is not None)

    def separates(self, options: PredictOptions) -> Post:
        """How it tells copies apart."""
        return self.post if options.post == "none" else options.post

    def _held(self, how: str, make: Make) -> Make:
        return make if self.draws is None else functools.partial(self.draws.take, (self.parameter.name, how), make)

    def _divided(self, make: Make) -> Make:
        """What makes the weight that the operator is to read, as one that the model multiplies by a number before."""
        multiplier = self.parameter.multiplier
        return make if multiplier == 1 else functools.partial(_scaled, make, 1 / multiplier)

    def _decoded(self, block: Block, options: PredictOptions) -> Make:
        return self._divided(self._as_read(block, options))

    def _as_read(self, block: Block, options: PredictOptions) -> Make:
        if block.is_tiled and (post := self.separates(options)) != "none":
            return self._held(post, functools.partial(_separated, block, self.parameter, post, options))
        if self.is_twin:
            return self._held("twin", functools.partial(_told_apart, block, self.parameter, options.seed))
        # Quantised tensors need the float values; any other type is taken on while the block is small.
        dtype = np.float32 if self.quantization is not None else self.stored.dtype.numpy()
        block = dataclasses.replace(block, values=block.values.astype(dtype))
        block.values.flags.writeable = False  # a tensor that is not tiled is a view of it: what a caller does stays his
        return functools.partial(_as_stored, block, self.parameter)


def _floats(maker: Maker) -> Array:
    assert maker.quantization is not None
    return maker.quantization.floats(maker.stored.numpy())


def _standard(parameter: Parameter, seed: int) -> Array:
    values = standard_init(parameter, seed)
    assert values is not None  # a tensor without a standard keeps its values
    return values


def _told_apart(block: Block, parameter: Parameter, seed: int) -> Array:
    values = separate_copies(block.array(), parameter.name, "noise", TWIN_NOISE, seed)
    return parameter.layout.from_canonical(values)


def _within(make: Make, maker: Maker) -> Array:
    """What is inherited, unless the type that the file stores has no such values. Raises OptionError."""
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, which is told below
        array = make()
    if not are_sound(array, maker.parameter.role):
        raise OptionError(
            f"parameter {maker.stored.name!r}: inherited weights are larger than {maker.stored.dtype.name} can hold: "
            "leave it out with `exclude`"
        )
    return array


def _blended(make: Make, other: Make, share: float) -> Array:
    blended: Array = (1 - share) * make() + share * other().astype(np.float32)
    return blended


def _with_rest(make: Make, other: Make, rest: Rest) -> Array:
    return rest.filled(make(), other())


def _repeated(make: Make, maker: Maker) -> Array:
    """What the original holds, as it is or transposed, with as many axes of length 1 in front as are stored."""
    values = make()
    matrix = values.reshape(values.shape[-2:])
    return (matrix.T if maker.transposed else matrix).reshape(maker.stored.shape)


def _norms(make: Make, maker: Maker) -> Array:
    """The norms of a weight, over the axes that have length 1 in the tensor that holds them."""
    values, shape = make().astype(np.float64), maker.parameter.shape
    axes = tuple(axis for axis, dim in enumerate(shape) if dim == 1 and values.shape[axis] > 1)
    norms: Array = np.sqrt((values**2).sum(axis=axes, keepdims=True)).astype(np.float32)
    return norms


def _singular(make: Make, parameter: Parameter) -> Array:
    """The left or the right singular vector of a weight, in the shape of the tensor that holds it."""
    assert parameter.singular is not None
    matrix = parameter.singular.layout.to_canonical(make().astype(np.float64)).astype(np.float64)
    vector: Array = leading_vectors(matrix)[parameter.singular.axis].astype(np.float32)
    return vector.reshape(parameter.shape)


def _scaled(make: Make, factor: float) -> Array:
    values = make()
    scaled: Array = (values.astype(np.float32) * np.float32(factor)).astype(values.dtype)
    return scaled


def _as_stored(block: Block, parameter: Parameter) -> Array:
    """Where a layout only orders the axes, the small block is put in order: what it is repeated to is then written as
    it lies in memory.
    """
    layout, rank = parameter.layout, len(block.shape)
    is_whole = block.tiled == (*block.shape, *[1] * (len(block.tiled) - rank))  # a matrix may be decoded as a kernel
    if is_whole and [kind for kind, _ in layout.steps] == ["transpose"]:
        order = np.argsort(layout.steps[0][1])
        shape = tuple(block.shape[axis] for axis in order)
        values = block.values.reshape(block.values.shape[:rank]).transpose(order)
        return dataclasses.replace(block, values=values, tiled=shape, shape=shape).array()
    return layout.from_canonical(block.array())


def _separated(block: Block, parameter: Parameter, post: Post, options: PredictOptions) -> Array:
    # Where a map of channels is flattened, the decoded axes are not those of the weight: no copies are known.
    n_different = block.values.shape[1] if len(block.shape) > 1 and block.tiled[:2] == block.shape[:2] else 0
    strength = options.strength_of(post)
    values = separate_copies(block.array(), parameter.name, post, strength, options.seed, n_different)
    return parameter.layout.from_canonical(values)


def _with_kept_elements(make: Make, stored: StoredTensor, parameter: Parameter) -> Array:
    """With the elements that the exported model does not train as they were in the model that was read."""
    values = np.array(make(), order="C")
    old, flat = stored.tensor.numpy().reshape(-1), values.reshape(-1)
    for first, stop in parameter.kept:
        flat[first:stop] = old[first:stop]
    return values


def _with_zeros(make: Make, stored: StoredTensor, zero: int) -> Array:
    """With zeros where there are some in the model that was read."""
    values = np.array(make(), order="C")
    values[zeros_of(stored, zero)] = 0
    return values


def _typed(make: Make, dtype: npt.DTypeLike) -> Array:
    return np.asarray(make()).astype(dtype, copy=False)
