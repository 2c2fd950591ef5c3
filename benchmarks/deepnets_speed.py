"""Architectures a second on one core, and how long a million takes.

    python benchmarks/deepnets_speed.py [--count 2000] [--run 20000] [--workers 2]

With graphs: drawn by the rules, checked, counted at both image sizes, and the graph with all shortest paths up to 250,
which is all that the official file stores. The published generator makes 7 a second.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np

from onnx_ghn.deepnets1m import SPLITS, generate, stream, write_official
from onnx_ghn.deepnets1m.sampling_stream import draw

CUTOFF = 250


def seconds_with_graphs(split: str, n: int) -> float:
    """Processor seconds for n architectures and their graphs: other programs do not count."""
    rng = np.random.default_rng(1)
    start = time.process_time()
    for _ in range(n):
        _, graph = draw(split, rng)
        graph.distances(CUTOFF)
    return time.process_time() - start


def seconds_to_file(split: str, n: int, workers: int) -> tuple[float, int]:
    """(seconds, bytes) of a compact file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "nets.jsonl"
        start = time.perf_counter()
        generate(split, n, 1, path, workers=workers)
        return time.perf_counter() - start, path.stat().st_size


def seconds_to_official(split: str, n: int) -> float:
    """To write an official file of architectures that are there."""
    architectures = list(itertools.islice(stream(split, 1), n))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_official(Path(folder) / "nets.hdf5", {split: architectures})
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="architectures a split, on one core")
    parser.add_argument("--run", type=int, default=20_000, help="architectures of the run with workers")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()

    seconds_with_graphs("train", 50)  # warm
    print("| split | architectures/s with graphs, one core |\n|---|---:|")
    for split in SPLITS:
        n = args.count if split == "train" else max(1, args.count // 10)
        print(f"| {split} | {n / seconds_with_graphs(split, n):,.0f} |")
    n = max(1, args.count // 4)
    print(f"| train, official file written too | {n / seconds_to_official('train', n):,.0f} |\n")
    seconds, size_bytes = seconds_to_file("train", args.run, args.workers)
    print(
        f"compact file, {args.workers} workers: {args.run:,} architectures in {seconds:.1f} s "
        f"({args.run / seconds:,.0f}/s, {size_bytes / args.run:.0f} bytes each); "
        f"a million would take {seconds / args.run * 1e6 / 60:.1f} minutes"
    )


if __name__ == "__main__":
    main()
