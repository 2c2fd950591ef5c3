"""Inputs to calibrate on: noise, or images from a folder, in the shapes and types that a model asks for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import OptionError

__all__ = ["input_batches"]

Array = npt.NDArray[Any]
Feed = dict[str, Array]

_BATCH = 32  # where the model lets us choose
_FREE_DIM = {2: 64, 3: 64, 4: 64}  # for free dimensions after the batch, by rank
_MAX_ELEMENTS = 32 * 3 * 224 * 224  # of one input batch: larger inputs get smaller batches
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
#: ImageNet's channel statistics, with which image models are fed.
_IMAGE_MEAN, _IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_NUMPY_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


def input_batches(session: Any, source: str | os.PathLike[str], seed: int) -> Iterator[list[Feed]]:
    """Rounds of input batches, to be tried in turn: first one batch of a good size, then what the file declares.

    Args:
        session: of onnxruntime; its inputs say names, shapes and types.
        source: "noise" (standard normal; integers 0 and 1), or a folder with images for the first image input.

    Raises:
        OptionError: a folder that is absent or holds no images, a model without an image input.
    """
    images = None if str(source) == "noise" else _find_images(Path(source))
    declared = [_shape(entry.shape) for entry in session.get_inputs()]
    largest = max((int(np.prod([d for d in shape[1:] if d])) for shape in declared if shape), default=1)
    batch = int(np.clip(_MAX_ELEMENTS // max(largest, 1), 1, _BATCH))
    if all(not shape or shape[0] == 0 for shape in declared):
        yield [_feed(session, batch, images, seed)]
        return
    fixed = max((shape[0] for shape in declared if shape), default=1)
    if fixed < batch:
        # onnxruntime checks declared input shapes: many runs of the declared size are pooled instead.
        yield [_feed(session, fixed, images, seed + i, offset=i * fixed) for i in range(max(1, batch // fixed))]
        return
    yield [_feed(session, fixed, images, seed)]


def _shape(dims: list[Any]) -> list[int]:
    """Declared dimensions, 0 where free."""
    return [dim if isinstance(dim, int) and dim > 0 else 0 for dim in dims]


def _feed(session: Any, batch: int, images: list[Path] | None, seed: int, offset: int = 0) -> Feed:
    rng = np.random.default_rng(seed)
    feed: Feed = {}
    for entry in session.get_inputs():
        dtype = _NUMPY_TYPES.get(entry.type)
        if dtype is None:
            raise OptionError(f"calibration: input {entry.name!r} is a {entry.type}; choose --calibrate none")
        shape = _shape(entry.shape)
        free = _FREE_DIM.get(len(shape), 16)
        sizes = [dim or (batch if i == 0 else _free_dim(shape, i, free)) for i, dim in enumerate(shape)]
        if images is not None and _is_image(sizes, dtype):
            feed[entry.name] = _load(images, sizes, offset).astype(dtype)
            images = None
        elif np.issubdtype(dtype, np.floating):
            feed[entry.name] = rng.standard_normal(sizes).astype(dtype)
        else:
            feed[entry.name] = rng.integers(0, 2, sizes).astype(dtype)
    if images is not None:
        raise OptionError("calibration: the model has no image input (batch × 3 × height × width); use noise")
    return feed


def _free_dim(shape: list[int], axis: int, free: int) -> int:
    """A free dimension: 3 where it must be an image's channels, else a moderate size."""
    others = [dim for i, dim in enumerate(shape) if i not in (0, axis)]
    return 3 if len(shape) == 4 and axis == 1 and all(dim > 4 for dim in others) else free


def _is_image(sizes: list[int], dtype: Any) -> bool:
    return len(sizes) == 4 and (sizes[1] in (1, 3) or sizes[3] in (1, 3)) and np.issubdtype(dtype, np.floating)


def _find_images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise OptionError(f"--calibrate {folder}: no such folder; give a folder of images, noise or none")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not found:
        raise OptionError(f"--calibrate {folder}: no images in it ({', '.join(sorted(_SUFFIXES))})")
    return found


def _load(paths: list[Path], sizes: list[int], offset: int) -> Array:
    """A batch of images in the input's layout, resized to it, scaled to [0, 1] and normalised as for ImageNet."""
    from PIL import Image, UnidentifiedImageError

    first = sizes[1] in (1, 3)  # channels before height and width
    channels, height, width = (sizes[1], sizes[2], sizes[3]) if first else (sizes[3], sizes[1], sizes[2])
    # Evenly through the sorted list: class folders come one after the other.
    chosen = [paths[((offset + i) * max(1, len(paths) // max(sizes[0], 1))) % len(paths)] for i in range(sizes[0])]
    batch = np.empty((sizes[0], height, width, channels), np.float32)
    for i, path in enumerate(chosen):
        try:
            with Image.open(path) as image:
                resized = image.convert("RGB" if channels == 3 else "L").resize((width, height))
                batch[i] = np.asarray(resized, np.float32).reshape(height, width, channels) / 255.0
        except (UnidentifiedImageError, OSError) as error:
            raise OptionError(f"--calibrate: {path} is no image that can be read: {error}") from error
    if channels == 3:
        batch = (batch - np.array(_IMAGE_MEAN, np.float32)) / np.array(_IMAGE_STD, np.float32)
    return batch.transpose(0, 3, 1, 2) if first else batch
