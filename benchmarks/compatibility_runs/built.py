"""A network of a framework with what is known of it: the truths that a file of it is held against."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["IMAGE", "IMAGE_LAST", "TOKENS", "WIDTH", "WORDS", "Built", "Exporter", "read_truths"]

WORDS, WIDTH, HIDDEN, STATE, CLASSES = 50, 16, 32, 24, 10
IMAGE = np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32)  # (B, 3, H, W)
IMAGE_LAST = np.ascontiguousarray(IMAGE.transpose(0, 2, 3, 1))  # (B, H, W, 3)
TOKENS = np.random.default_rng(1).integers(0, WORDS, (2, 7))  # (B, T)


@dataclasses.dataclass(frozen=True)
class Built:
    """A network, freshly initialised.

    Attributes:
        model: the framework's object.
        inputs: what it is run on.
        call: its outputs for `inputs` with the weights that it has now, in inference mode.
        n_trainable: the framework's own count of trainable elements.
        matrices: its weights of two or more dimensions, each as outputs × inputs (× height × width).
        embedding: the name of the one that is tied, "" where none is.
    """

    model: Any
    inputs: list[np.ndarray]
    call: Callable[[], np.ndarray]
    n_trainable: int
    matrices: dict[str, np.ndarray]
    embedding: str = ""

    def write_truths(self, folder: Path) -> None:
        """Lay down what the judge needs: arrays and facts."""
        arrays = {f"in:{i}": value for i, value in enumerate(self.inputs)}
        arrays |= {f"w:{name}": value for name, value in self.matrices.items()}
        np.savez(folder / "truths.npz", **arrays, out=self.call())
        facts = {"n_trainable": self.n_trainable, "embedding": self.embedding}
        (folder / "truths.json").write_text(json.dumps(facts))


@dataclasses.dataclass(frozen=True)
class Exporter:
    """A way from a network to a file, and back where there is one.

    Attributes:
        build: the network of a name.
        export: write the file.
        load: set the network's weights to those of a file; None where onnx-ghn has no exporter for the framework.
    """

    build: Callable[[str], Built]
    export: Callable[[Built, Path], object]
    load: Callable[[Built, Path], object] | None = None


def read_truths(folder: Path) -> tuple[list[np.ndarray], np.ndarray, dict[str, np.ndarray], int, str]:
    """Inputs, outputs, matrices, the number of trainable elements and the name of the tied embedding."""
    with np.load(folder / "truths.npz") as arrays:
        inputs = [arrays[f"in:{i}"] for i in range(sum(key.startswith("in:") for key in arrays))]
        matrices = {key[2:]: arrays[key] for key in arrays if key.startswith("w:")}
        outputs = arrays["out"]
    facts = json.loads((folder / "truths.json").read_text())
    return inputs, outputs, matrices, facts["n_trainable"], facts["embedding"]
