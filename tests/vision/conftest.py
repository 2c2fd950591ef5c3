"""Small image data sets, drawn for each test."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Draw = Callable[..., dict[str, np.ndarray]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The decoded cache, in the test's own folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("ONNX_GHN_CACHE", str(folder))
    return folder


@pytest.fixture
def draw() -> Draw:
    """draw(target, counts, size=..., inside=...) makes counts[class] PNG images in a folder or zip archive.

    It returns the pixels by relative name, in the order of the names.
    """

    def draw(
        target: Path, counts: dict[str, int], *, size: tuple[int, int] = (8, 8), inside: str = "", seed: int = 0
    ) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        pixels = {}
        for folder in sorted(counts):
            for i in range(counts[folder]):
                pixels[f"{inside}{folder}/{i:04}.png"] = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        files = {name: png(image) for name, image in pixels.items()}
        if target.suffix == ".zip":
            with zipfile.ZipFile(target, "a") as archive:
                for name in reversed(files):  # the order in the archive means nothing
                    archive.writestr(name, files[name], zipfile.ZIP_DEFLATED if len(name) % 2 else zipfile.ZIP_STORED)
        else:
            for name, data in files.items():
                path = target / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        return pixels

    return draw


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
