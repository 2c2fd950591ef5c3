"""From nothing to the first trained epoch, framework by framework: minutes and megabytes.

    python benchmarks/journeys.py [--framework keras] [--out journeys.json]

Each journey makes a virtual environment, installs this checkout with the framework, exports a small residual network,
predicts its weights, loads them back, and trains one epoch of 1,000 drawn images of 32 × 32 from the weights that were
loaded. Downloads are part of the installation, so that its minutes depend on the network and on what pip has cached.
Sizes are those of the whole environment but for pip: setuptools and wheel count, where Python or a package brings them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
_OF_PIP = re.compile(r"pip|pip-[\d.]+\.dist-info|pip\d[\d.]*(\.exe)?")  # its package, its record and its commands
STEPS = ("install", "export", "predict", "load", "train")


@dataclasses.dataclass(frozen=True)
class Journey:
    """One framework: what is installed, which model is exported, and where its weights come back to."""

    words: str
    install: tuple[str, ...]
    target: str
    shape: str
    weights: str
    script: str


JOURNEYS = {
    "keras": Journey(
        "Keras on TensorFlow, without torch", (f"{ROOT}[cpu,keras]", "tensorflow-cpu"),
        "keras:benchmarks/keras_net.py:build", "", "init.weights.h5", "keras_epoch.py",
    ),
    "flax": Journey(
        "Flax, without torch", (f"{ROOT}[cpu,flax]", "optax"),
        "flax:benchmarks/journey_scripts/flax_net.py:build", "1x32x32x3", "init.msgpack", "flax_epoch.py",
    ),
    "torch": Journey(
        "PyTorch with its CUDA libraries", (f"{ROOT}[cpu,torch]",),
        "torch:benchmarks/torch_net.py:build", "1x3x32x32", "init.safetensors", "torch_epoch.py",
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Row:
    """Seconds of each step, and the size of the environment on disk: all of it but pip, in MiB."""

    words: str
    megabytes: int
    seconds: dict[str, float]


def travel(name: str, folder: Path) -> Row:
    """Make the journey in an empty folder."""
    journey = JOURNEYS[name]
    python = folder / "env" / "bin" / "python"
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    command = [str(python), "-m", "onnx_ghn"]
    shape = ["--shape", journey.shape] if journey.shape else []
    steps: dict[str, list[Sequence[str]]] = {
        "install": [
            [sys.executable, "-m", "venv", str(folder / "env")],
            [str(python), "-m", "pip", "install", "--quiet", *journey.install],
        ],
        "export": [[*command, "export", journey.target, *shape, "-o", str(folder / "model.onnx")]],
        "predict": [[*command, "predict", str(folder / "model.onnx"), "-o", str(folder / "init.onnx")]],
        "load": [[*command, "load", journey.target, str(folder / "init.onnx"), "-o", str(folder / journey.weights)]],
        "train": [
            [str(python), str(ROOT / "benchmarks/journey_scripts" / journey.script), str(folder / journey.weights)]
        ],
    }
    seconds = {}
    for step in STEPS:
        start = time.perf_counter()
        for arguments in steps[step]:
            done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise click.ClickException(f"{name}, {step}: {' '.join(arguments)}\n{done.stderr[-2000:]}")
        seconds[step] = round(time.perf_counter() - start, 1)
        click.echo(f"{name}: {step} took {seconds[step]} s; {done.stdout.strip().splitlines()[-1:]}", err=True)
    return Row(journey.words, megabytes(folder / "env"), seconds)


def megabytes(environment: Path) -> int:
    """MiB on disk of a virtual environment without pip, which makes it and is no part of what it is for."""
    size = sum(
        path.lstat().st_blocks * 512
        for path in environment.rglob("*")
        if not any(_OF_PIP.fullmatch(part) for part in path.relative_to(environment).parts)
    )
    return round(size / 2**20)


def table(rows: Sequence[Row]) -> str:
    """In Markdown."""
    lines = [
        f"| journey | on disk, MB | {' | '.join(f'{step}, s' for step in STEPS)} | altogether, min |",
        "|---|---:|" + "---:|" * (len(STEPS) + 1),
    ]
    for row in rows:
        cells = [f"{row.seconds[step]:.0f}" for step in STEPS]
        lines.append(
            f"| {row.words} | {row.megabytes:,} | {' | '.join(cells)} | {sum(row.seconds.values()) / 60:.1f} |"
        )
    return "\n".join(lines)


@click.command()
@click.option("--framework", "names", multiple=True, type=click.Choice(list(JOURNEYS)), help="[default: all]")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the rows as JSON, too.")
def main(names: tuple[str, ...], out: Path | None) -> None:
    """Make the journeys, one after the other, and print the table."""
    rows = []
    for name in names or tuple(JOURNEYS):
        folder = Path(tempfile.mkdtemp(prefix=f"journey-{name}-"))
        try:
            rows.append(travel(name, folder))
        finally:
            shutil.rmtree(folder)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print(table(rows))
    if out is not None:
        out.write_text(json.dumps({"rows": [dataclasses.asdict(row) for row in rows]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
