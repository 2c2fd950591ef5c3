"""Endless streams of sampled architectures: the same for the same seed, wherever and in however many pieces.

They are drawn in jobs of 64, each with random numbers of its own, so that any job can be drawn by itself.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator

import numpy as np

from onnx_ghn.deepnets1m.architecture import Architecture
from onnx_ghn.deepnets1m.records import Record
from onnx_ghn.deepnets1m.sampler import sample, split_rules
from onnx_ghn.deepnets1m.symbolic import count_trainable, n_trainable, symbolic_graph
from onnx_ghn.errors import GraphError
from onnx_ghn.garbage import no_garbage_collection
from onnx_ghn.graph.model import ComputationGraph

__all__ = ["JOB_SIZE", "counted", "draw", "draw_job", "stream", "stream_records"]

JOB_SIZE = 64  # part of what a seed means: other values give other architectures


def draw(split: str, rng: np.random.Generator) -> tuple[Record, ComputationGraph]:
    """Draw until the published generator would keep it: within the split's size at both image sizes, and connected.

    Returns:
        the architecture, and its graph for 32 × 32 images and 10 classes.

    Raises:
        OptionError: no such split.
    """
    with no_garbage_collection():
        while True:
            architecture = sample(split, rng)
            found = None if architecture is None else counted(architecture, split)
            if found is not None:
                return found


def counted(architecture: Architecture, split: str) -> tuple[Record, ComputationGraph] | None:
    """An architecture with its counts and its graph; None where it is disconnected, or too large for its split."""
    try:
        graph = symbolic_graph(architecture)
    except GraphError:
        return None
    n_params = n_trainable(graph)
    n_params_large = count_trainable(architecture, large_images=True)
    if max(n_params, n_params_large) > split_rules(split).max_params:
        return None
    return Record(architecture, len(graph), n_params, n_params_large), graph


def draw_job(split: str, seed: int, job: int, n: int = JOB_SIZE) -> list[Record]:
    """The first n architectures of a job. Raises OptionError: no such split."""
    rng = _random_numbers(split, seed, job)
    return [draw(split, rng)[0] for _ in range(n)]


def stream_records(split: str, seed: int, start: int = 0) -> Iterator[Record]:
    """As `stream`, with the counts by which training chooses widths and batches. Raises OptionError: no such split."""
    split_rules(split)
    return itertools.islice(_records(split, seed, start // JOB_SIZE), start % JOB_SIZE, None)


def _records(split: str, seed: int, job: int) -> Iterator[Record]:
    while True:
        rng = _random_numbers(split, seed, job)
        yield from (draw(split, rng)[0] for _ in range(JOB_SIZE))
        job += 1


def _random_numbers(split: str, seed: int, job: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(split.encode()), job])


def stream(split: str, seed: int, start: int = 0) -> Iterator[Architecture]:
    """An endless stream of a split's architectures: those that `generate` writes for the same seed, one by one.

    Args:
        start: the index of the first one, to continue where an earlier stream stopped.

    Raises:
        OptionError: no such split.
    """
    return (record.architecture for record in stream_records(split, seed, start))
