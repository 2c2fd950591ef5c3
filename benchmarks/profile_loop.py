"""`onnx-ghn profile`'s percentiles beside those of a loop of four lines over the same session, in turn.

    python benchmarks/profile_loop.py data/examples/mobilenet_keras.onnx

Blocks of runs alternate, so that a drift of the machine meets both; the ratios belong to that machine while it is idle.
"""

from __future__ import annotations

import time

import click
import numpy as np

from onnx_ghn.profiling.measuring import open_runnable
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import model_spec
from onnx_ghn.profiling.timing import time_runs

WARMUP = 3


@click.command()
@click.argument("model")
@click.option("--blocks", default=10, show_default=True)
@click.option("--runs", default=40, show_default=True, help="Number of runs in each block.")
def main(model: str, blocks: int, runs: int) -> None:
    """Print both, and their ratio."""
    spec = model_spec(model)
    runnable = open_runnable(spec.path, spec.inputs, Point(threads=1), Settings())
    ours: list[int] = []
    loop: list[int] = []
    for _ in range(blocks):
        ours += time_runs(runnable.run, warmup=WARMUP, seconds=None, iterations=runs).runs_ns
        for run in range(WARMUP + runs):
            began = time.perf_counter_ns()
            runnable.session.run(None, runnable.feed)
            if run >= WARMUP:
                loop.append(time.perf_counter_ns() - began)
    for q in (50, 90, 95, 99):
        a, b = (float(np.percentile(sample, q)) / 1e6 for sample in (ours, loop))
        click.echo(f"p{q}: {a:.3f} ms, loop {b:.3f} ms, ratio {a / b:.3f}")


if __name__ == "__main__":
    main()
