"""A cache of decoded images on disk, so that a second start reads one file instead of decoding thousands."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import ModelWriteError
from onnx_ghn.user_cache import default_cache_dir
from onnx_ghn.vision.sets import ImageSet

__all__ = ["DecodedCache", "default_cache_dir"]

_FORMAT = "onnx-ghn decoded images 1"


class DecodedCache:
    """Holds one entry for each part of a data set, and replaces it when the files that it was made from change.

    The cache only saves time. Where it cannot be read or written (no permission, a full disk, a damaged file), the
    images are decoded as if there were none.

    Args:
        folder: where the entries lie; None for no cache.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def path(self, key: str) -> Path | None:
        """The path of the entry of `key`, whether or not there is one."""
        if self._folder is None:
            return None
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        return self._folder / f"images-{digest[:20]}.safetensors"

    def holds(self, key: str) -> bool:
        """Whether there is an entry, perhaps an outdated one."""
        path = self.path(key)
        return path is not None and path.is_file()

    def load(self, key: str, fingerprint: str, name: str) -> ImageSet | None:
        """The images, as a data set of that name. None where there are none, or they were made from other files."""
        from safetensors import SafetensorError, safe_open

        path = self.path(key)
        if path is None or not path.is_file():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT or metadata.get("fingerprint") != fingerprint:
                    return None
                classes = tuple(str(name) for name in json.loads(metadata["classes"]))
                images, labels = file.get_tensor("images"), file.get_tensor("labels")
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None
        sound = (
            images.dtype == np.uint8
            and images.ndim == 4
            and images.shape[3] == 3
            and labels.dtype == np.int64
            and labels.shape == images.shape[:1]
            and labels.size > 0
            and 0 <= labels.min() <= labels.max() < len(classes)
        )
        return ImageSet(images, labels, classes, name) if sound else None

    def store(self, key: str, fingerprint: str, images: ImageSet) -> None:
        """Write an entry, which appears whole or not at all."""
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        from onnx_ghn.onnx_io.transaction import Transaction

        path = self.path(key)
        if path is None:
            return
        metadata = {"format": _FORMAT, "fingerprint": fingerprint, "classes": json.dumps(images.classes)}
        pixels = np.ascontiguousarray(images.images)
        arrays: dict[str, npt.NDArray[np.generic]] = {"images": pixels, "labels": images.labels}
        with contextlib.suppress(OSError, SafetensorError, ModelWriteError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with Transaction(os.fspath(path)) as transaction:
                file = transaction.create(path.name)
                save_file(arrays, file.path, metadata)
                transaction.place(file, path.name, last=True)
