"""Inputs to run a model on: random ones in the shapes asked for, or those of a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.errors import OptionError
from onnx_ghn.input_files import read_inputs
from onnx_ghn.limits import gib, memory_bytes
from onnx_ghn.profiling.cache_inputs import cache_inputs
from onnx_ghn.profiling.lengths import typical_sizes
from onnx_ghn.profiling.random_arrays import check_type, drawn_bytes, random_array
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.sizing import candidate_shapes, check_shapes, described
from onnx_ghn.profiling.specs import InputSpec

__all__ = ["Array", "Feed", "Inputs", "candidate_feeds", "point_feeds", "point_inputs", "random_feed", "shapes_of"]

Feed = dict[str, Array]
Inputs = Mapping[str, tuple[str, tuple[int, ...]]]  # by name: numpy's name of the type, and shape


def candidate_feeds(
    specs: Sequence[InputSpec],
    *,
    batch: int | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    sizes: Mapping[str, int] | None = None,
    file: str | None = None,
    seed: int = 0,
) -> Iterator[tuple[Feed, tuple[str, ...]]]:
    """Feeds to try in turn until the model takes one, each with what was chosen here of its sizes.

    Args:
        batch, shapes, sizes: see `sizing.candidate_shapes`.
        file: arrays for all inputs, instead of random ones.

    Raises:
        OptionError: shapes, sizes or a file that do not fit the declarations, inputs of types that cannot be made up.
    """
    if file is not None:
        if batch is not None or shapes or sizes:
            raise OptionError(
                f"{file}: an input file has its own batch and shapes; leave `batch`, `shapes`, `size` and `lengths` out"
            )
        yield _from_file(specs, file), ()
        return
    for sized in candidate_shapes(specs, batch=batch, shapes=shapes, sizes=sizes):
        yield random_feed(specs, sized.shapes, seed), sized.chosen


def point_feeds(specs: Sequence[InputSpec], point: Point, settings: Settings) -> Iterator[tuple[Feed, tuple[str, ...]]]:
    """The feeds of a point; see `candidate_feeds`. Where lengths are drawn, their median; where a point has a context,
    one token behind a cache of so many."""
    context = _context_feed(specs, point, settings)
    if context is not None:
        return iter([(context, ())])
    shapes, sizes = _asked(specs, point, settings)
    return candidate_feeds(
        specs, batch=point.batch, shapes=shapes, sizes=sizes, file=settings.inputs, seed=settings.seed
    )


def point_inputs(specs: Sequence[InputSpec], point: Point, settings: Settings) -> Iterator[Inputs]:
    """Types and shapes of what `point_feeds` gives, of which nothing is drawn. Raises as it does."""
    context = _context_feed(specs, point, settings, drawn=False)
    if context is not None:
        yield {name: (str(array.dtype), array.shape) for name, array in context.items()}
        return
    if settings.inputs is not None:
        for feed, _ in point_feeds(specs, point, settings):
            yield {name: (str(array.dtype), array.shape) for name, array in feed.items()}
        return
    shapes, sizes = _asked(specs, point, settings)
    for sized in candidate_shapes(specs, batch=point.batch, shapes=shapes, sizes=sizes):
        _check_drawable(specs, sized.shapes)
        yield {spec.name: (spec.dtype, sized.shapes[spec.name]) for spec in specs}


def _context_feed(specs: Sequence[InputSpec], point: Point, settings: Settings, drawn: bool = True) -> Feed | None:
    """One token behind a cache, where the point has a context."""
    if point.context is None:
        return None
    cache = cache_inputs(specs)
    if cache is None:
        raise OptionError(
            f"`context` {point.context}: the model takes no tokens with a key-value cache; its inputs are "
            f"{described(specs)}"
        )
    check_shapes(specs, {}, dict(point.sizes))
    batch, sizes = point.batch or 1, dict(point.sizes)
    return cache.feed(point.context, 1, batch=batch, sizes=sizes, seed=settings.seed, drawn=drawn)


def _asked(
    specs: Sequence[InputSpec], point: Point, settings: Settings
) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """Shapes by input and sizes by symbol, as a point and the settings have them."""
    typical = typical_sizes(specs, settings)
    for name, size in point.sizes:
        if name in typical:
            raise OptionError(f"`size` {name}={size}: `lengths` draws the size of that symbol; leave one of them out")
    return {**settings.shapes, **dict(point.shapes)}, {**typical, **dict(point.sizes)}


def random_feed(specs: Sequence[InputSpec], sizes: Mapping[str, tuple[int, ...]], seed: int) -> Feed:
    """Random inputs: standard normal floats; integers below the rows of the table that they index, else 0 and 1."""
    _check_drawable(specs, sizes)
    rng = np.random.default_rng(seed)
    return {spec.name: random_array(rng, spec, sizes[spec.name]) for spec in specs}


def _check_drawable(specs: Sequence[InputSpec], sizes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse inputs that memory does not hold, or that numpy has no type for. Raises OptionError."""
    needed_bytes = sum(map(drawn_bytes, sizes.values()))
    if needed_bytes > memory_bytes() / 2:
        shapes = ", ".join(f"{name} {list(size)}" for name, size in sizes.items())
        raise OptionError(f"inputs {shapes} need {gib(needed_bytes)}, more than half of this machine's memory")
    for spec in specs:
        check_type(spec)


def shapes_of(feed: Feed) -> dict[str, tuple[int, ...]]:
    """Shapes of inputs, by name."""
    return {name: array.shape for name, array in feed.items()}


def _from_file(specs: Sequence[InputSpec], file: str) -> Feed:
    arrays = read_inputs(file, [spec.name for spec in specs], described(specs))
    feed: Feed = {}
    for spec in specs:
        array = arrays[spec.name]
        if not spec.admits(array.shape):
            raise OptionError(
                f"{file}: {spec.name!r} is of shape {list(array.shape)}; the model's inputs are {described(specs)}"
            )
        if spec.dtype == "string":
            feed[spec.name] = array.astype(object)
        elif not np.can_cast(array.dtype, np.dtype(spec.dtype), "same_kind"):
            raise OptionError(f"{file}: {spec.name!r} is {array.dtype}, the model's input is {spec.dtype}; convert it")
        else:
            # Not ascontiguousarray, which makes a vector of a scalar.
            feed[spec.name] = np.asarray(array, np.dtype(spec.dtype), order="C")
    return feed
