"""Latency of a model measured in this process, for measurements of hundreds of small models."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

from onnx_ghn.profiling.settings import Point, Settings

__all__ = ["measure_latency"]


def measure_latency(
    path: str | os.PathLike[str],
    *,
    batch: int | None = 1,
    threads: int = 1,
    provider: str = "cpu",
    optimization: str = "all",
    warmup: int = 3,
    seconds: float | None = None,
    iterations: int | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Percentiles of the latency of a model file on random inputs, without a process of its own.

    Args:
        batch: the first dimension of the inputs; None for what the file declares.
        seconds, iterations: the measurement ends at the first of them; after half a second where neither is given.
        shapes: of inputs, by name; with them `batch` counts for the other inputs only.

    Returns:
        the fields of `Latency` without the samples ("p50_ms", "mean_ms", "std_ms", "items_per_s", ...) and
        "session_creation_ms".

    Raises:
        ModelReadError, OptionError, RuntimeFailure: a model that cannot be read, fed or run.
    """
    from onnx_ghn.profiling.measuring import open_runnable
    from onnx_ghn.profiling.providers import provider_name
    from onnx_ghn.profiling.specs import model_spec
    from onnx_ghn.profiling.timing import summary, time_runs

    if seconds is None and iterations is None:
        seconds = 0.5
    point = Point(batch=batch, threads=threads, provider=provider_name(provider), optimization=optimization)
    settings = Settings(warmup=warmup, seconds=seconds, iterations=iterations, shapes=shapes or {}, seed=seed)
    spec = model_spec(path)
    runnable = open_runnable(spec.path, spec.inputs, point, settings)
    timing = time_runs(runnable.run, warmup=warmup, seconds=settings.seconds, iterations=iterations)
    size = next((array.shape[0] for array in runnable.feed.values() if array.shape), 1)
    found = dataclasses.asdict(summary(timing, size, runnable.first_ns))
    del found["samples_ms"]
    return {**found, "session_creation_ms": runnable.creation_ms}
