"""Decoded images on disk: a second start reads one file instead of decoding thousands."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["DecodedCache", "default_cache_dir"]

_FORMAT = "onnx-ghn decoded images 1"


def default_cache_dir() -> Path:
    """$ONNX_GHN_CACHE, else onnx-ghn in the user's cache folder."""
    told = os.environ.get("ONNX_GHN_CACHE")
    if told:
        return Path(told)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "onnx-ghn"


class DecodedCache:
    """One entry a data set part, replaced when the files that it was made from change.

    A cache only saves time: whatever goes wrong with it (unwritable, full, damaged) is as if there were none.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def path(self, key: str) -> Path | None:
        """Where the entry of `key` lies, or will."""
        if self._folder is None:
            return None
        return (
            self._folder
            / f"images-{hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:20]}.safetensors"
        )

    def holds(self, key: str) -> bool:
        """There is an entry, perhaps an old one."""
        path = self.path(key)
        return path is not None and path.is_file()

    def load(
        self, key: str, fingerprint: str
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], tuple[str, ...]] | None:
        """Images, labels and classes; None where there is no entry, or one of other files."""
        from safetensors import SafetensorError, safe_open

        path = self.path(key)
        if path is None or not path.is_file():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                told = file.metadata() or {}
                if told.get("format") != _FORMAT or told.get("fingerprint") != fingerprint:
                    return None
                classes = tuple(str(name) for name in json.loads(told["classes"]))
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
        return (images, labels, classes) if sound else None

    def store(
        self,
        key: str,
        fingerprint: str,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.int64],
        classes: tuple[str, ...],
    ) -> None:
        """Keep an entry: it appears whole or not at all."""
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        path = self.path(key)
        if path is None:
            return
        told = {"format": _FORMAT, "fingerprint": fingerprint, "classes": json.dumps(classes)}
        new = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({"images": np.ascontiguousarray(images), "labels": labels}, new, told)
            os.replace(new, path)
        except (OSError, SafetensorError):
            pass
        finally:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
