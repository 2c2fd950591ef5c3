"""`onnx-ghn profile` over shapes in one session against a process for each: the time of the whole command.

    python benchmarks/profile_shapes.py data/examples/audio_m5.onnx --size batch=1,2,3,4,5,6,7,8,9,10

Both measure the same number of runs at each shape, without operators, and take turns.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

import click


@click.command()
@click.argument("model")
@click.option("--size", required=True, help="A symbol and its sizes, as `onnx-ghn profile` takes them.")
@click.option("--iterations", default=10, show_default=True, help="Number of runs at each shape.")
@click.option("--rounds", default=5, show_default=True)
def main(model: str, size: str, iterations: int, rounds: int) -> None:
    """Print the median seconds of both, and their ratio."""
    command = [sys.executable, "-m", "onnx_ghn", "profile", model, "--threads", "1", "--no-operators"]
    command += ["--iterations", str(iterations), "--size", size, "--json"]
    seconds: dict[str, list[float]] = {"--one-session": [], "--no-one-session": []}
    for _ in range(rounds):
        for option, found in seconds.items():
            began = time.perf_counter()
            subprocess.run([*command, option], check=True, stdout=subprocess.DEVNULL, env=dict(os.environ))
            found.append(time.perf_counter() - began)
    one, each = (statistics.median(found) for found in seconds.values())
    n_shapes = len(size.split(","))
    click.echo(f"{n_shapes} shapes: one session {one:.2f} s, a process each {each:.2f} s, ratio {each / one:.1f}")


if __name__ == "__main__":
    main()
