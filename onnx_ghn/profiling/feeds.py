"""Inputs to run a model on: random ones in the shapes asked for, or those of a file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.errors import OptionError
from onnx_ghn.free_dimensions import free_size, n_attempts
from onnx_ghn.input_files import read_inputs
from onnx_ghn.limits import gib, memory_bytes
from onnx_ghn.profiling.specs import InputSpec

__all__ = ["Array", "Feed", "candidate_feeds", "check_shapes", "random_feed"]

Feed = dict[str, Array]
# Sizes of free dimensions after the batch, by rank, in the order in which they are tried if `shapes` names none.
_FREE_DIMS: dict[int, tuple[int, ...]] = {2: (64, 16), 3: (64, 1024, 16000, 16), 4: (224, 64, 32, 299), 5: (16, 32, 64)}


def check_shapes(specs: Sequence[InputSpec], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse shapes for inputs that the model lacks, and shapes whose rank is not the declared one."""
    ranks = {spec.name: len(spec.dims) for spec in specs}
    for name, shape in shapes.items():
        if name not in ranks:
            raise OptionError(f"`shapes`: the model has no input {name!r}; its inputs are {_described(specs)}")
        if len(shape) != ranks[name]:
            raise OptionError(
                f"`shapes`: {'×'.join(map(str, shape))} has {len(shape)} dimensions, input {name!r} has {ranks[name]}: "
                f"{_described(specs)}"
            )


def candidate_feeds(
    specs: Sequence[InputSpec],
    *,
    batch: int | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    file: str | None = None,
    seed: int = 0,
) -> Iterator[tuple[Feed, bool]]:
    """Feeds to try in turn until the model takes one, each with whether a free dimension was chosen here.

    There are several because a model may accept only some sizes of the dimensions that `shapes` and the declarations
    leave free (a classifier behind a flatten takes one image size only).

    Args:
        batch: the first dimension of every input whose first dimension is free; where none is, of all inputs that
            agree on one. The default is 1.

    Raises:
        OptionError: shapes or a file that do not fit the declarations, inputs of types that cannot be made up.
    """
    check_shapes(specs, shapes or {})
    if file is not None:
        if batch is not None or shapes:
            raise OptionError(f"{file}: an input file has its own batch and shapes; leave `batch` and `shapes` out")
        yield _from_file(specs, file), False
        return
    shapes = shapes or {}
    free = [spec for spec in specs if spec.name not in shapes and None in spec.dims[1:]]
    attempts = n_attempts({len(spec.dims) for spec in free}, _FREE_DIMS)
    batched = _batched(specs, shapes) if batch is not None else frozenset()
    if batch not in (None, 1) and not batched:
        raise OptionError(f"`batch` {batch}: no input has a batch dimension; its inputs are {_described(specs)}")
    for attempt in range(attempts):
        sizes = {spec.name: _sized(spec, attempt, shapes) for spec in specs}
        for name in batched:
            sizes[name] = (batch or 1, *sizes[name][1:])
        yield random_feed(specs, sizes, seed), bool(free)


def random_feed(specs: Sequence[InputSpec], sizes: Mapping[str, tuple[int, ...]], seed: int) -> Feed:
    """Random inputs: standard normal floats; integers below the rows of the table that they index, else 0 and 1."""
    rng = np.random.default_rng(seed)
    feed: Feed = {}
    needed_bytes = sum(math.prod(size) * 12 for size in sizes.values())  # drawn in float64, fed as float32 at least
    if needed_bytes > memory_bytes() / 2:
        shapes = ", ".join(f"{name} {list(size)}" for name, size in sizes.items())
        raise OptionError(f"inputs {shapes} need {gib(needed_bytes)}, more than half of this machine's memory")
    for spec in specs:
        shape = sizes[spec.name]
        if spec.dtype == "bool":
            feed[spec.name] = rng.integers(0, 2, shape).astype(np.bool_)
        elif spec.dtype.startswith(("int", "uint")) and spec.dtype not in ("int4", "uint4", "int2", "uint2"):
            dtype = np.dtype(spec.dtype)
            upper = min(spec.upper or 2, int(np.iinfo(dtype).max) + 1)
            feed[spec.name] = rng.integers(0, upper, shape).astype(dtype)
        elif spec.dtype in ("float16", "float32", "float64"):
            feed[spec.name] = rng.standard_normal(shape).astype(spec.dtype)
        else:
            raise OptionError(
                f"input {spec.name!r} is of type {spec.dtype}, which numpy cannot feed; give an input file in `inputs`"
            )
    return feed


def _batched(specs: Sequence[InputSpec], shapes: Mapping[str, tuple[int, ...]]) -> frozenset[str]:
    """Inputs whose first dimension is the batch."""
    ranked = [spec for spec in specs if spec.dims and spec.name not in shapes]
    free = [spec for spec in ranked if spec.dims[0] is None]
    if free:
        return frozenset(spec.name for spec in free)
    return frozenset(spec.name for spec in ranked) if len({spec.dims[0] for spec in ranked}) == 1 else frozenset()


def _sized(spec: InputSpec, attempt: int, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    if spec.name in shapes:
        return shapes[spec.name]
    return tuple(
        dim if dim is not None else 1 if axis == 0 else free_size(spec.dims, axis, attempt, _FREE_DIMS)
        for axis, dim in enumerate(spec.dims)
    )


def _from_file(specs: Sequence[InputSpec], file: str) -> Feed:
    arrays = read_inputs(file, [spec.name for spec in specs], _described(specs))
    feed: Feed = {}
    for spec in specs:
        array = arrays[spec.name]
        if not spec.admits(array.shape):
            raise OptionError(
                f"{file}: {spec.name!r} is of shape {list(array.shape)}; the model's inputs are {_described(specs)}"
            )
        if spec.dtype == "string":
            feed[spec.name] = array.astype(object)
        elif not np.can_cast(array.dtype, np.dtype(spec.dtype), "same_kind"):
            raise OptionError(f"{file}: {spec.name!r} is {array.dtype}, the model's input is {spec.dtype}; convert it")
        else:
            # Not ascontiguousarray, which makes a vector of a scalar.
            feed[spec.name] = np.asarray(array, np.dtype(spec.dtype), order="C")
    return feed


def _described(specs: Sequence[InputSpec]) -> str:
    return ", ".join(f"{spec.name} [{', '.join('?' if d is None else str(d) for d in spec.dims)}]" for spec in specs)
