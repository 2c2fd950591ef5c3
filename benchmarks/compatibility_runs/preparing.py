"""The files that tools, trainers and runtimes are given: predicted files of PyTorch's networks, and of the examples."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from compatibility_runs.built import WORDS
from compatibility_runs.running_files import run

__all__ = ["EXAMPLES", "prepare"]

EXAMPLES = Path(__file__).resolve().parents[2] / "data" / "examples"


def prepare(folder: Path, networks: Iterable[str]) -> None:
    """Make NETWORK.onnx (predicted), NETWORK-bare.onnx (without weights), NETWORK.npz (inputs, outputs) and .json."""
    for network in networks:
        example = EXAMPLES / f"{network}.onnx"
        if example.exists():
            trained = _predicted(example, folder / f"{network}.onnx")
            inputs = _drawn(folder / f"{network}.onnx")
        else:
            inputs, trained = _network(folder, network)
        output = run(folder / f"{network}.onnx", inputs)
        np.savez(folder / f"{network}.npz", out=output, **{f"in:{i}": value for i, value in enumerate(inputs)})
        (folder / f"{network}.json").write_text(json.dumps({"trained": trained}))


def _predicted(source: Path, target: Path) -> dict[str, int]:
    """Predict a file, and say which tensors are trainable, with their numbers of elements."""
    import onnx_ghn

    learned = onnx_ghn.predict(source, target).coverage.learned
    return {d.parameter.name: d.parameter.size for d in learned if d.outcome in ("predicted", "fallback", "kept")}


def _network(folder: Path, network: str) -> tuple[list[np.ndarray], dict[str, int]]:
    """A network of PyTorch, exported by us, so that the file has a trace."""
    import onnx_ghn
    from compatibility_runs.from_torch import export_traced
    from compatibility_runs.torch_networks import build

    built = build(network)
    source = folder / f"{network}-source.onnx"
    export_traced(built, source)
    onnx_ghn.strip(source, folder / f"{network}-bare.onnx")
    return built.inputs, _predicted(source, folder / f"{network}.onnx")


def _drawn(path: Path) -> list[np.ndarray]:
    """Random inputs, of one example where the batch is free."""
    import onnxruntime

    draw = np.random.default_rng(0)
    inputs = []
    for given in onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).get_inputs():
        shape = [size if isinstance(size, int) else 1 for size in given.shape]
        floats = "float" in given.type
        inputs.append(draw.random(shape, dtype=np.float32) if floats else draw.integers(0, WORDS, shape))
    return inputs
