"""Inputs to calibrate on: drawn, images of a folder or zip archive, or samples, in the shapes and types that fit."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from onnx_ghn.arrays import Array
from onnx_ghn.errors import DataError, OptionError, RuntimeFailure
from onnx_ghn.free_dimensions import free_size, n_attempts
from onnx_ghn.images.dead_leaves import dead_leaves
from onnx_ghn.images.files import IMAGE_SUFFIXES, ImageSource, open_image, open_source, quiet_decoding
from onnx_ghn.input_files import is_input_file, read_arrays
from onnx_ghn.limits import gib, memory_bytes
from onnx_ghn.prediction.empty_caches import has_caches, with_empty_caches
from onnx_ghn.prediction.given_samples import GivenSamples
from onnx_ghn.prediction.options import DRAWN
from onnx_ghn.prediction.recurrent_states import state_batch, state_inputs

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Feed", "check_source", "input_batches", "input_types"]

Feed = dict[str, Array]

_DECODED_BYTES = 1 << 28  # of images that are kept for further rounds
# Free dimensions after the batch, by rank: the first that the model takes. A classifier behind a flatten takes one size
# only, a stem for audio needs a second of it, and a detector of speech a piece of 256 or 512.
_FREE_DIMS = {2: (64, 16, 256, 512, 16000), 3: (64, 1024, 16000, 16), 4: (64, 224, 32, 299), 5: (16, 32, 64)}
_IMAGE_ELEMENTS = 3 * 224 * 224
_SMALLEST_PICTURE = 64  # elements below which nothing is to be seen
#: ImageNet's channel statistics, with which image models are fed.
_IMAGE_MEAN, _IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_NUMPY_TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


#: What onnxruntime calls these types.
_NAMES = {
    ir.DataType.FLOAT: "tensor(float)",
    ir.DataType.FLOAT16: "tensor(float16)",
    ir.DataType.DOUBLE: "tensor(double)",
    ir.DataType.INT64: "tensor(int64)",
    ir.DataType.INT32: "tensor(int32)",
    ir.DataType.INT8: "tensor(int8)",
    ir.DataType.UINT8: "tensor(uint8)",
    ir.DataType.BOOL: "tensor(bool)",
}


def input_types(model: ir.Model) -> dict[str, str] | None:
    """The types of a model's inputs by name, as a session will tell them; None where one is of another kind."""
    found = {}
    for value in model.graph.inputs:
        if value.name in model.graph.initializers:
            continue
        name = _NAMES.get(value.type.dtype) if isinstance(value.type, ir.TensorType) else None
        if name is None or not value.name:
            return None
        found[value.name] = name
    return found


def input_batches(
    types: Mapping[str, str],
    shapes: dict[str, list[int]],
    source: str | os.PathLike[str],
    seed: int,
    batch: int,
    rows: Mapping[str, int] | None = None,
) -> Iterator[list[Feed]]:
    """Rounds of input batches, to be tried in turn: one batch of a good size, many of the size that the file declares
    (one sample where it declares none), then other sizes of what is free. Caches of keys and values are empty at first,
    and states of recurrent layers are those of the batch.

    Args:
        types: of the inputs by name, as onnxruntime calls them.
        shapes: the declared shape of each input, 0 where a dimension is free.
        source: "noise" (standard normal; integers below `rows`), "synthetic" (drawn pictures for image inputs, noise
            for others), a folder or zip archive of images for the first image input, or a file of samples for all
            inputs (see `input_files.read_arrays`).
        batch: how many samples a batch has where the model lets us choose; fewer, where they are larger than half an
            image of 224 × 224.
        rows: of the tables that integer inputs number, see `onnx_io.indexed_tables`; other integers are 0 and 1.

    Raises:
        OptionError: a folder or archive that is absent or holds no images, a model without an image input, samples
            that are not the model's inputs.
    """
    declared = {name: shapes.get(name, []) for name in types}
    rows = rows or {}
    given = GivenSamples(source, _numpy_types(types), declared) if is_input_file(source) else None
    images = None if given is not None or str(source) in DRAWN else _Pictures(_find_images(Path(source)))
    drawn = str(source) == "synthetic"
    batch = _fitting(batch, declared)
    first = {shape[0] for shape in declared.values() if shape} - {0}
    single = max(first, default=1)
    if len(first) > 1 or single > batch:
        batch = single  # no common batch, or a large one: as declared
    if given is not None:
        yield [given.feed(0, batch, batch)]
        if single < batch:
            total = batch // single * single
            yield [given.feed(i, single, total) for i in range(0, total, single)]
        return
    ranks = {len(shape) for shape in declared.values() if 0 in shape[1:]}
    sizes = [
        {name: _sized(shape, attempt) for name, shape in declared.items()}
        for attempt in range(n_attempts(ranks, _FREE_DIMS))
    ]
    if images is None and has_caches([*types]):
        for sized in sizes:
            yield [with_empty_caches(_feed(types, sized, batch, None, seed, 0, batch, drawn, rows), declared)]
    if images is None and (states := state_inputs(declared)):
        for sized in sizes:
            n = state_batch(declared, states, _fitting(batch, sized))
            begun = {
                name: [shape[0], n, shape[2]] if name in states else [n, *shape[1:]] for name, shape in sized.items()
            }
            yield [_feed(types, begun, None, None, seed, 0, n, drawn, rows)]
    for sized in sizes:
        n = max(single, _fitting(batch, sized))
        yield [_feed(types, sized, n, images, seed, 0, n, drawn, rows)]
        if single < n:
            count = n // single
            total = count * single
            yield [_feed(types, sized, single, images, seed + i, i * single, total, drawn, rows) for i in range(count)]


def _fitting(batch: int, shapes: Mapping[str, Sequence[int]]) -> int:
    """How many samples of these shapes to take: fewer, where they are larger than half an image of 224 × 224."""
    largest = max((math.prod(dim for dim in shape[1:] if dim) for shape in shapes.values()), default=1)
    return int(np.clip(batch // 2 * _IMAGE_ELEMENTS // max(largest, 1), 1, batch))


def check_source(source: str | os.PathLike[str]) -> None:
    """Refuse data of the user's that could not be used, where nothing has to be measured. Raises OptionError."""
    if is_input_file(source):
        read_arrays(source)
        return
    images = _find_images(Path(source))
    try:
        with quiet_decoding():
            open_image(images, images.names[0], "RGB")
    except DataError as error:
        raise OptionError(f"`calibrate`: {error}") from error


def _numpy_types(types: Mapping[str, str]) -> dict[str, type[np.generic]]:
    """Of inputs, from onnxruntime's names. Raises OptionError: numpy has no such type."""
    found: dict[str, type[np.generic]] = {}
    for name, kind in types.items():
        dtype = _NUMPY_TYPES.get(kind)
        if dtype is None:
            raise OptionError(f"calibration: input {name!r} is a {kind}; choose `calibrate` none")
        found[name] = dtype
    return found


def _sized(shape: list[int], attempt: int) -> list[int]:
    """A declared shape with its free dimensions filled, but for the batch's."""
    return [dim if dim or i == 0 else free_size(shape, i, attempt, _FREE_DIMS) for i, dim in enumerate(shape)]


def _feed(
    types: Mapping[str, str],
    shapes: Mapping[str, Sequence[int]],
    batch: int | None,
    images: _Pictures | None,
    seed: int,
    offset: int,
    total: int,
    drawn: bool,
    rows: Mapping[str, int],
) -> Feed:
    """One batch: samples `offset` to `offset + batch` of `total`, or all that the shapes say where that is None.

    Without images, pictures are drawn where wanted.
    """
    rng = np.random.default_rng(seed)
    common = len({shape[0] for shape in shapes.values() if shape} - {0}) <= 1
    feed: Feed = {}
    for name, dtype in _numpy_types(types).items():
        sizes = list(shapes[name])
        if batch is not None and sizes and (common or not sizes[0]):
            sizes[0] = batch
        needed_bytes = math.prod(sizes) * 12  # drawn in float64, fed as float32 at least
        if needed_bytes > memory_bytes() / 2:
            raise RuntimeFailure(
                f"input {name!r} of shape {sizes} needs {gib(needed_bytes)}, more than half of this machine's memory"
            )
        if images is not None and _is_image(sizes, dtype):
            feed[name] = _load(images, sizes, offset, total).astype(dtype)
            images = None
        elif drawn and _is_image(sizes, dtype) and math.prod(sizes[1:]) >= _SMALLEST_PICTURE:
            feed[name] = _drawn(sizes, rng).astype(dtype)
        elif np.issubdtype(dtype, np.floating):
            feed[name] = rng.standard_normal(sizes).astype(dtype)
        else:
            feed[name] = rng.integers(0, _most(dtype, rows.get(name, 2)), sizes).astype(dtype)
    if images is not None:
        raise OptionError(
            "calibration: the model has no image input (batch × 3 × height × width); use synthetic, "
            "or give samples in an .npz file"
        )
    return feed


def _most(dtype: Any, rows: int) -> int:
    """What integers stay below: the rows of their table, as far as the type has numbers for them."""
    return rows if dtype is np.bool_ else min(rows, int(np.iinfo(dtype).max) + 1)


def _is_image(sizes: list[int], dtype: Any) -> bool:
    return len(sizes) == 4 and (sizes[1] in (1, 3) or sizes[3] in (1, 3)) and np.issubdtype(dtype, np.floating)


def _drawn(sizes: list[int], rng: np.random.Generator) -> Array:
    """Pictures in the input's layout."""
    if sizes[1] in (1, 3):
        n, channels, height, width = sizes
        return dead_leaves(n, channels, height, width, rng)
    n, height, width, channels = sizes
    return dead_leaves(n, channels, height, width, rng).transpose(0, 2, 3, 1)


def _find_images(path: Path) -> ImageSource:
    try:
        found = open_source(path)
    except DataError as error:
        raise OptionError(
            f"`calibrate` {error}; give a folder or zip archive of images, a file of samples (.npz, .npy, .txt), "
            "synthetic, noise or none"
        ) from error
    if not found.names:
        raise OptionError(f"`calibrate` {path}: no images in it ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return found


class _Pictures:
    """Images, each decoded once while there is room: the rounds take the same ones in other sizes."""

    def __init__(self, source: ImageSource) -> None:
        self.names = source.names
        self._source = source
        self._decoded: dict[tuple[str, str], Image.Image] = {}
        self._free_bytes = _DECODED_BYTES

    def open(self, name: str, mode: str) -> Image.Image:
        """An image in a mode of Pillow's. Raises DataError."""
        image = self._decoded.get((name, mode))
        if image is None:
            image = open_image(self._source, name, mode)
            size_bytes = image.width * image.height * len(image.getbands())
            if size_bytes <= self._free_bytes:
                self._free_bytes -= size_bytes
                self._decoded[name, mode] = image
        return image


def _load(images: _Pictures, sizes: list[int], offset: int, total: int) -> Array:
    """A batch of images in the input's layout, resized to it, scaled to [0, 1] and normalised as for ImageNet."""
    first = sizes[1] in (1, 3)  # channels before height and width
    channels, height, width = (sizes[1], sizes[2], sizes[3]) if first else (sizes[3], sizes[1], sizes[2])
    # Evenly through the sorted list: class folders come one after the other.
    step = max(1, len(images.names) // max(total, 1))
    chosen = [images.names[(offset + i) * step % len(images.names)] for i in range(sizes[0])]
    batch: Array = np.empty((sizes[0], height, width, channels), np.float32)
    try:
        with quiet_decoding():
            for i, name in enumerate(chosen):
                resized = images.open(name, "RGB" if channels == 3 else "L").resize((width, height))
                batch[i] = np.asarray(resized, np.float32).reshape(height, width, channels) / 255.0
    except DataError as error:
        raise OptionError(f"`calibrate`: {error}") from error
    if channels == 3:
        batch = (batch - np.array(_IMAGE_MEAN, np.float32)) / np.array(_IMAGE_STD, np.float32)
    return batch.transpose(0, 3, 1, 2) if first else batch
