"""Latency and memory that `properties --on this-machine` predicts, beside what sixty networks take here.

    onnx-ghn properties --calibrate-machine --threads 1,2
    python benchmarks/machine_predictor.py export out/machine          # files of random weights, a few minutes
    python benchmarks/machine_predictor.py measure out/machine --threads 1,2 --out machine.jsonl
    python benchmarks/machine_predictor.py predict out/machine --out machine.jsonl
    python benchmarks/machine_predictor.py table machine.jsonl

`measure` goes on where it was; a row is a network at a number of threads, in a process of its own, as `profile`
measures it. Leave the machine alone meanwhile. `predict` fills in what is predicted, and runs nothing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from figures.machine import agreement, by_kind
from machine_models import export, subjects

Row = dict[str, Any]


@click.group()
def main() -> None:
    """Export, measure, predict, print."""


@main.command("export")
@click.argument("folder", type=click.Path(path_type=Path))
def export_all(folder: Path) -> None:
    """Write the networks that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for subject in subjects():
        path = _path(folder, subject.kind, subject.name)
        if not path.exists():
            export(subject, path)
            click.echo(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--threads", default="1,2", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Rows, one a line.")
@click.option("--seconds", default=2.0, show_default=True, help="How long to measure each.")
@click.option("--most-minutes", default=math.inf, help="Stop after so many; the next call goes on.")
@click.option("--again", is_flag=True, help="Measure each anew, and keep the faster of its medians.")
def measure(folder: Path, threads: str, out: Path, seconds: float, most_minutes: float, again: bool) -> None:
    """Latency and memory of each network."""
    import time

    from onnx_ghn.profiling.measuring import measure_point
    from onnx_ghn.profiling.processes import run_job
    from onnx_ghn.profiling.settings import Point, Settings
    from onnx_ghn.profiling.specs import model_spec

    deadline = time.monotonic() + 60 * most_minutes
    rows = _read(out)
    settings = Settings(seconds=seconds, warmup=3, operators=False)
    for n_threads in map(int, threads.split(",")):
        for subject in subjects():
            key = (subject.kind, subject.name, n_threads)
            old = rows.get(key, {})
            if (old and not again) or time.monotonic() > deadline:
                continue
            path = _path(folder, subject.kind, subject.name)
            spec = model_spec(path)
            found = run_job(measure_point, (spec.path, spec.inputs, Point(threads=n_threads), settings), 600.0)
            assert found.latency is not None
            assert found.memory is not None
            row = {
                "kind": subject.kind,
                "name": subject.name,
                "threads": n_threads,
                "p50_ms": min(found.latency.p50_ms, old.get("p50_ms", math.inf)),
                "busy": found.latency.cpu_s / found.latency.wall_s,
                "baseline_bytes": found.memory.baseline_bytes,
                "peak_bytes": found.memory.peak_bytes,
                "loaded_bytes": found.memory.loaded_bytes,
            }
            rows[key] = {**old, **row}
            _write(out, rows)
            click.echo(f"{subject.kind} {subject.name}, {n_threads} threads: {row['p50_ms']:.2f} ms")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--out", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--again", is_flag=True, help="Predict those that have a prediction, too: after another calibration.")
def predict(folder: Path, out: Path, again: bool) -> None:
    """What is predicted of each measured network, and by the roofline, the operations and the bundled predictor."""
    from onnx_ghn.profiling.machine import measure_machine
    from onnx_ghn.profiling.measuring import estimate_point
    from onnx_ghn.profiling.settings import Point, Settings
    from onnx_ghn.profiling.specs import model_spec
    from onnx_ghn.properties import predict_on_machine

    rows = _read(out)
    machines: dict[int, Any] = {}
    for (kind, name, threads), row in rows.items():
        if {"flops", "predicted_value_ms", "bundled_ms"} <= row.keys() and not again:
            continue
        path = _path(folder, kind, name)
        if "bundled_ms" not in row:  # its latency is that of one thread
            row["bundled_ms"] = _by_bundled(path) if threads == 1 else None
        found = predict_on_machine(path, threads=threads)
        assert found.peak_memory is not None
        row |= {f"predicted_{end}_ms": getattr(found.latency, end) for end in ("value", "low", "high")}
        row |= {f"predicted_{end}_bytes": getattr(found.peak_memory, end) for end in ("value", "low", "high")}
        if "roofline_ms" not in row:
            if threads not in machines:
                machines[threads] = measure_machine(Point(threads=threads), Settings())
            spec = model_spec(path)
            told = estimate_point(spec.path, spec.inputs, Point(threads=threads), Settings(), machines[threads])
            assert told.operators is not None
            row |= {"roofline_ms": told.operators.estimate_ms, "flops": told.operators.flops}
        _write(out, rows)
        click.echo(
            f"{kind} {name}, {threads} threads: {row['p50_ms']:.2f} ms, {row['predicted_value_ms']:.2f} predicted"
        )


@main.command()
@click.argument("results", type=click.Path(path_type=Path, exists=True))
def table(results: Path) -> None:
    """How well they agree."""
    rows = list(_read(results).values())
    click.echo(f"{agreement(rows)}\n\n{by_kind(rows)}")


def _by_bundled(path: Path) -> float | None:
    """Milliseconds by the predictor that is bundled; None for a network whose features it cannot take."""
    from onnx_ghn.errors import OnnxGhnError
    from onnx_ghn.properties import predict_properties

    try:
        found = predict_properties(path, of_any_kind=True)
    except OnnxGhnError as error:
        click.echo(f"{path.name}: the bundled predictor does not tell: {error}")
        return None
    return next(one.value for one in found.values if one.property.name == "latency_ms")


def _path(folder: Path, kind: str, name: str) -> Path:
    return folder / f"{kind}-{name}.onnx"


def _read(file: Path) -> dict[tuple[str, str, int], Row]:
    if not file.exists():
        return {}
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {(row["kind"], row["name"], row["threads"]): row for row in rows}


def _write(file: Path, rows: Mapping[tuple[str, str, int], Row]) -> None:
    """All rows, whole or not at all."""
    partial = file.with_suffix(".part")
    partial.write_text("".join(json.dumps(row) + "\n" for row in rows.values()), encoding="utf-8")
    os.replace(partial, file)


if __name__ == "__main__":
    main()
