"""Decoding of small images into one array, by a few threads, since Pillow decodes outside the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import DataError
from onnx_ghn.images.files import ImageSource, image_size, open_image, quiet_decoding
from onnx_ghn.limits import available_cores, gib, memory_bytes

__all__ = ["SMALL", "Progress", "common_small_size", "decode_all", "default_workers"]

SMALL = 64  # images with sides up to this are decoded and held in memory
_PROBED = 32  # images that are opened to tell whether all are small and of one size
_CHUNK = 256  # images that a thread decodes at a time

#: Called with the number of decoded images, and the number of all images.
Progress = Callable[[int, int], None]


def common_small_size(source: ImageSource, names: Iterable[str]) -> tuple[int, int] | None:
    """Height and width of the images where all of a sample have the same small size, otherwise None."""
    every = list(names)
    step = max(1, len(every) // _PROBED)
    sizes = set()
    with quiet_decoding():
        for name in every[::step]:
            sizes.add(image_size(source, name))
            if len(sizes) > 1 or max(max(size) for size in sizes) > SMALL:
                return None
    ((width, height),) = sizes
    return height, width


def decode_all(
    source: ImageSource,
    names: Iterable[str],
    size: tuple[int, int],
    *,
    resize: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> npt.NDArray[np.uint8]:
    """Decode images into an array of N × height × width × 3, in the order of `names`.

    Args:
        size: height and width.
        resize: scale images of other sizes, which are refused otherwise.
        threads: the number of threads; by default one for each core, and eight at most.
        progress: called after each group of images.

    Raises:
        DataError: an image is broken or of another size (the message names the first one), or there are too many for
            memory.
    """
    every = list(names)
    needed_bytes = len(every) * size[0] * size[1] * 3
    if needed_bytes > memory_bytes() / 2:
        raise DataError(
            f"{source.path}: {len(every):,} images of {size[0]} × {size[1]} need {gib(needed_bytes)}, more than half "
            "of this machine's memory; choose a smaller `image_size`, or one over 64 to read images as they are needed"
        )
    images: npt.NDArray[np.uint8] = np.empty((len(every), *size, 3), np.uint8)

    def decode(start: int) -> int:
        chunk = every[start : start + _CHUNK]
        for i, name in enumerate(chunk, start):
            image = open_image(source, name)
            if image.size != size[::-1]:
                if not resize:
                    raise DataError(
                        f"{source.where(name)}: {image.height} × {image.width} where others are {size[0]} × {size[1]}; "
                        "remove it, or choose an `image_size` to which all are scaled"
                    )
                image = image.resize(size[::-1], 2)  # bilinear, with antialiasing, as torchvision's Resize
            images[i] = np.asarray(image)
        return len(chunk)

    done = 0
    pool = ThreadPoolExecutor(threads or default_workers())
    try:
        with quiet_decoding():
            for count in pool.map(decode, range(0, len(every), _CHUNK)):
                done += count
                if progress is not None:
                    progress(done, len(every))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return images


def default_workers() -> int:
    """As many as there are cores for this process, eight at most."""
    return min(8, len(available_cores()))
