"""Latency of exported architectures, on a machine that does other things too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from onnx_ghn.deepnets1m import Architecture
from onnx_ghn.deepnets1m.export import export_network
from onnx_ghn.json_types import Json
from onnx_ghn.profiling import measure_latency

__all__ = ["export_all", "fastest_ms", "round_of"]


def export_all(
    nets: Sequence[tuple[str, Architecture]], folder: Path, num_classes: int, told: Callable[[int], None]
) -> dict[str, Path]:
    """ONNX files of architectures by name; those that are there already are kept.

    Raises:
        ModelWriteError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, net in nets:
        paths[name] = folder / f"{name}.onnx"
        if not paths[name].exists():
            export_network(net, paths[name], num_classes)
        told(1)
    return paths


def round_of(path: Path, batch_size: int, threads: int, runs: int) -> dict[str, float]:
    """One visit to a network: the fastest and the median of `runs` runs (milliseconds).

    Raises:
        RuntimeFailure: onnxruntime cannot run it.
    """
    found = measure_latency(path, batch=batch_size, threads=threads, iterations=runs)
    return {"min_ms": round(found["min_ms"], 4), "p50_ms": round(found["p50_ms"], 4)}


def fastest_ms(rounds: Sequence[Json]) -> float:
    """The fastest run of all rounds.

    Whatever else the machine does only adds to a run's time, so the fastest of many says most of the network itself.
    """
    return min(float(entry["min_ms"]) for entry in rounds)
