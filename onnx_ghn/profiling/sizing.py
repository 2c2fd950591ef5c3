"""The shapes of a model's inputs: equal symbols have equal sizes in all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from onnx_ghn.errors import OptionError, did_you_mean
from onnx_ghn.free_dimensions import free_size, n_attempts
from onnx_ghn.profiling.specs import InputSpec
from onnx_ghn.profiling.symbols import Sum, sum_of

__all__ = ["Sized", "batch_symbols", "candidate_shapes", "check_shapes", "described", "symbols_of"]

Shapes = Mapping[str, tuple[int, ...]]
# Sizes of free dimensions after the batch, by rank, in the order in which they are tried if nothing names them.
_FREE_DIMS: dict[int, tuple[int, ...]] = {2: (64, 16), 3: (64, 1024, 16000, 16), 4: (224, 64, 32, 299), 5: (16, 32, 64)}


@dataclasses.dataclass(frozen=True)
class Sized:
    """Shapes to run a model on."""

    shapes: Shapes  # of inputs
    sizes: Mapping[str, int]  # of symbols
    chosen: tuple[str, ...]  # what was chosen here, not asked for: "sequence 64", "x 1×3×224×224"


def described(specs: Sequence[InputSpec]) -> str:
    """The inputs with their declared shapes, for messages: `ids [batch, sequence]`."""
    return ", ".join(
        f"{spec.name} [{', '.join(spec.symbol(i) or ('?' if d is None else str(d)) for i, d in enumerate(spec.dims))}]"
        for spec in specs
    )


def symbols_of(specs: Sequence[InputSpec]) -> tuple[str, ...]:
    """The symbols of all inputs, also those that stand in sums alone."""
    return tuple(dict.fromkeys(name for _, _, total in _symbolic(specs) for name in total.symbols))


def batch_symbols(specs: Sequence[InputSpec]) -> frozenset[str]:
    """Symbols that stand first in a shape, and nowhere else: in `positions [sequence]` the first is no batch."""
    first: set[str] = set()
    later: set[str] = set()
    for _, axis, total in _symbolic(specs):
        (later if axis else first).update(total.symbols)
    return frozenset(first - later or first)


def check_shapes(specs: Sequence[InputSpec], shapes: Shapes, sizes: Mapping[str, int] | None = None) -> None:
    """Refuse shapes for inputs that the model lacks or whose rank is not the declared one, and unknown symbols."""
    ranks = {spec.name: len(spec.dims) for spec in specs}
    for name, shape in shapes.items():
        if name not in ranks:
            raise OptionError(f"`shapes`: the model has no input {name!r}; its inputs are {described(specs)}")
        if len(shape) != ranks[name]:
            raise OptionError(
                f"`shapes`: {'×'.join(map(str, shape))} has {len(shape)} dimensions, input {name!r} has {ranks[name]}: "
                f"{described(specs)}"
            )
    known = symbols_of(specs)
    for name in sizes or {}:
        if name not in known:
            raise OptionError(
                f"`size` {name}: no input has that symbol; the inputs are {described(specs)}{did_you_mean(name, known)}"
            )


def candidate_shapes(
    specs: Sequence[InputSpec],
    *,
    batch: int | None = None,
    shapes: Shapes | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Iterator[Sized]:
    """Shapes to try in turn until the model takes one.

    There are several because a model may accept only some sizes of what is left free (a classifier behind a flatten
    takes one image size only).

    Args:
        batch: the size of the batch: of the first dimension of every input where that is free and `shapes` and `sizes`
            leave it free; where none is free in the file, of all inputs that agree on one. The default is 1.
        shapes: of inputs, by name. Their sizes are those of their symbols in the other inputs too.
        sizes: of symbols, by name.

    Raises:
        OptionError: sizes that contradict each other or the file's symbols.
    """
    shapes = shapes or {}
    check_shapes(specs, shapes, sizes)
    told = _Told(specs)
    for name, size in (sizes or {}).items():
        told.set(name, size, "`size`")
    told.shapes(shapes)
    batched = _batched(specs, shapes, told.known) if batch is not None else frozenset()
    is_told = any(told.known.get(name) == batch for name in batch_symbols(specs))
    if batch not in (None, 1) and not batched and not is_told:
        raise OptionError(f"`batch` {batch}: no input has a batch dimension left; its inputs are {described(specs)}")
    if batch is not None:
        batched = _told_batch([spec for spec in specs if spec.name in batched], batch, told)
    free = [spec for spec in specs if spec.name not in shapes and _open_axes(spec, told.known)]
    for attempt in range(n_attempts({len(spec.dims) for spec in free}, _FREE_DIMS)):
        yield _sized(specs, shapes, batch if batched else None, batched, told.known, attempt)


class _Told:
    """Sizes of symbols as they were asked for, and where."""

    def __init__(self, specs: Sequence[InputSpec]) -> None:
        self.known: dict[str, int] = {}
        self._specs, self._where = specs, dict[str, str]()

    def set(self, name: str, size: int, where: str) -> None:
        self.known[name], self._where[name] = size, where

    def shapes(self, shapes: Shapes) -> None:
        """Take over the sizes of whole shapes. What a sum leaves open is tried again when more is known."""
        left = [(spec, axis) for spec in self._specs if spec.name in shapes for axis in range(len(spec.dims))]
        while left:
            later = [
                one for one in left if not self.equate(*one, shapes[one[0].name][one[1]], f"input {one[0].name!r}")
            ]
            if len(later) == len(left):
                return
            left = later

    def equate(self, spec: InputSpec, axis: int, size: int, where: str) -> bool:
        """Give a dimension a size. Returns whether nothing of it is left open. Raises OptionError: it has another."""
        text = spec.symbol(axis)
        if text is None:
            return True
        total = sum_of(text)
        have = total.size(self.known)
        if have is None:
            found = total.solved(size, self.known)
            if found is None:
                if sum(name not in self.known for name in total.symbols) > 1:
                    return False
                raise OptionError(f"symbol {text!r} of input {spec.name!r} cannot be {size}; choose another size")
            self.set(*found, where)
            return True
        if have != size:
            first = next((self._where[name] for name in total.symbols if name in self._where), where)
            raise OptionError(
                f"symbol {text!r} is {have} by {first} and {size} by {where}; equal symbols need equal sizes, or give "
                "arrays in `inputs`"
            )
        return True


def _told_batch(specs: Sequence[InputSpec], batch: int, told: _Told) -> frozenset[str]:
    """Give the batch's symbols their size. Returns the inputs whose first dimension it is: not `2*batch`, where
    `batch` is another input's."""
    found = set()
    for spec in sorted(specs, key=lambda one: one.symbol(0) != (sum_of(one.symbol(0) or "").symbols or ("",))[0]):
        text = spec.symbol(0)
        size = None if text is None else sum_of(text).size(told.known)
        if size is None or size == batch:
            found.add(spec.name)
        if text is not None and size is None:
            told.equate(spec, 0, batch, "`batch`")
    return frozenset(found)


def _sized(
    specs: Sequence[InputSpec],
    shapes: Shapes,
    batch: int | None,
    batched: frozenset[str],
    known: Mapping[str, int],
    attempt: int,
) -> Sized:
    sizes, chosen = dict(known), []
    first = batch_symbols(specs)
    for spec, axis, total in sorted(_symbolic(specs), key=lambda entry: len(entry[0].dims)):
        for name in total.symbols:
            if name not in sizes:
                sizes[name] = 1 if name in first else free_size(spec.dims, axis, attempt, _FREE_DIMS)
                if name not in first:
                    chosen.append(f"{name} {sizes[name]}")
    found = {}
    for spec in specs:
        if spec.name in shapes:
            found[spec.name] = shapes[spec.name]
            continue
        dims = [_size(spec, axis, sizes, attempt) for axis in range(len(spec.dims))]
        if spec.name in batched and batch is not None:
            dims[0] = batch
        found[spec.name] = tuple(dims)
        if any(dim is None and spec.symbol(axis) is None for axis, dim in enumerate(spec.dims) if axis):
            chosen.append(f"{spec.name} {'×'.join(map(str, dims))}")
    return Sized(found, sizes, tuple(chosen))


def _size(spec: InputSpec, axis: int, sizes: Mapping[str, int], attempt: int) -> int:
    dim, text = spec.dims[axis], spec.symbol(axis)
    if dim is not None:
        return dim
    if text is None:
        return 1 if axis == 0 else free_size(spec.dims, axis, attempt, _FREE_DIMS)
    size = sum_of(text).size(sizes)
    assert size is not None  # each symbol has a size by now
    if size < 0:
        raise OptionError(f"symbol {text!r} of input {spec.name!r} would be {size}; choose other sizes")
    return size


def _symbolic(specs: Sequence[InputSpec]) -> list[tuple[InputSpec, int, Sum]]:
    """The symbolic dimensions of all inputs."""
    found = []
    for spec in specs:
        for axis in range(len(spec.dims)):
            text = spec.symbol(axis)
            if text is not None:
                found.append((spec, axis, sum_of(text)))
    return found


def _open_axes(spec: InputSpec, known: Mapping[str, int]) -> bool:
    """Whether a dimension after the batch's has no size yet."""
    return any(
        dim is None and ((text := spec.symbol(axis)) is None or sum_of(text).size(known) is None)
        for axis, dim in enumerate(spec.dims)
        if axis
    )


def _batched(specs: Sequence[InputSpec], shapes: Shapes, known: Mapping[str, int]) -> frozenset[str]:
    """Inputs whose first dimension is the batch."""
    ranked = [spec for spec in specs if spec.dims and spec.name not in shapes]
    batches = batch_symbols(specs)
    free = [spec for spec in ranked if spec.dims[0] is None]
    if free:
        return frozenset(spec.name for spec in free if _is_batch(spec.symbol(0), batches, known))
    return frozenset(spec.name for spec in ranked) if len({spec.dims[0] for spec in ranked}) == 1 else frozenset()


def _is_batch(text: str | None, batches: frozenset[str], known: Mapping[str, int]) -> bool:
    if text is None:
        return True
    total = sum_of(text)
    return total.size(known) is None and any(name in batches for name in total.symbols)
