"""ResNet-50 and BERT on one GPU: `onnx-ghn profile` beside a plain loop of onnxruntime and beside torch.

    pip install '.[gpu,torch,hf]' && python benchmarks/gpu_profile.py
    python benchmarks/gpu_profile.py --dry-run    # small sizes, on the CPU: whether everything runs

The ratio is that of the library's runs over the loop's, measured in turn in one process; all else is measured apart.

Batches of 1 and 32; fp32 (TF32 off), tf32, and fp16 by onnxruntime's converter; inputs and outputs on the device. Each
row is measured in a process of its own and kept as it comes: the same command goes on where it was stopped. No row is
begun that would end later than --minutes.

Exit codes: 0 where all rows are there, 1 where one failed, 3 where the time was too short for all.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
from gpu_parts.measures import PRECISIONS, by_library, by_loop, by_torch
from gpu_parts.models import MODELS, Size, inputs_of, write_onnx

from onnx_ghn.errors import OnnxGhnError, RuntimeFailure
from onnx_ghn.installed_runtime import preload_cuda
from onnx_ghn.profiling.machine import system_info
from onnx_ghn.profiling.processes import run_job
from onnx_ghn.training.results import ResultsFile

BY = ("onnx-ghn", "loop", "torch")
_ROW_S = 30.0  # that a row may take beside its measurements: starts of libraries, a session, the machine's peak
_MEASUREMENTS = {"onnx-ghn": 5.0, "loop": 3.5, "torch": 1.5}  # in --seconds; plain, bound and replayed runs in turn


@click.command()
@click.option("--dry-run", is_flag=True, help="Small sizes on the CPU, without TF32.")
@click.option("--minutes", default=12.0, show_default=True, help="No row is begun that would end later.")
@click.option("--seconds", default=2.0, show_default=True, help="How long each measurement takes.")
@click.option("--folder", default="out/gpu_profile", show_default=True, help="For the models and the rows.")
def main(dry_run: bool, minutes: float, seconds: float, folder: str) -> None:
    """Measure what is not measured yet, and print the table."""
    began = time.monotonic()
    device, size, batches = "cuda", Size(), (1, 32)
    if dry_run:
        device, size, batches = "cpu", Size(pixels=64, tokens=16, layers=2, width=128), (1, 2)
        folder, seconds = f"{folder}_dry_run", min(seconds, 0.2)
    where = Path(folder)
    try:
        if device == "cuda":
            _check_gpu()
        told = {"size": vars(size), "seconds": seconds, "device": _device(device)} | system_info()
        with ResultsFile(where / "rows.jsonl", told, ("p50_ms",)) as rows:
            code = _measure(rows, where, size, batches, device, seconds, began + 60 * minutes)
    except OnnxGhnError as error:
        raise click.ClickException(str(error)) from error
    click.echo(_table(rows, batches))
    for key, row in rows.records.items():
        if reason := row.get("error") or row.get("no_graph"):
            click.echo(f"{key}: {reason}")
    click.echo(f"{_device(device)}; {told['processor']}; onnxruntime {told['onnxruntime']}; times in ms, p50")
    sys.exit(code)


def _check_gpu() -> None:
    """Refuse to begin without a GPU, before minutes go into models. Raises RuntimeFailure."""
    import onnxruntime
    import torch

    told = preload_cuda(["CUDAExecutionProvider"])
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise RuntimeFailure("this onnxruntime has no CUDA provider; pip install '.[gpu]', or try --dry-run")
    if not torch.cuda.is_available():
        raise RuntimeFailure(f"torch finds no GPU; try --dry-run{f' ({told})' if told else ''}")


def _device(device: str) -> str:
    if device == "cpu":
        return "dry run on the CPU"
    import torch

    return f"{torch.cuda.get_device_name(0)}, torch {torch.__version__}, CUDA {torch.version.cuda}"


def _measure(
    rows: ResultsFile, where: Path, size: Size, batches: tuple[int, ...], device: str, seconds: float, end: float
) -> int:
    """The exit code. Rows of a cell come one after the other, so that whatever was measured can be compared."""
    code = 0
    cells = [(name, batch, precision) for name in MODELS for batch in batches for precision in PRECISIONS]
    for name, batch, precision in cells:
        path = where / f"{name}-{size.pixels}-{size.tokens}-{size.layers}-{size.width}.onnx"
        for by in BY:
            key = f"{name} {batch} {precision} {by}"
            if key in rows.records and "error" not in rows.records[key]:
                continue
            needed_s = _ROW_S + _MEASUREMENTS[by] * seconds
            if time.monotonic() + needed_s > end:
                code = code or 3
                continue
            click.echo(f"{key} …", err=True)
            try:
                if not path.with_suffix(".fp16.onnx").exists():
                    run_job(write_onnx, (name, size, path), 300.0, bounded=False)
                record = _row(by, name, size, batch, str(path), precision, device, seconds, end)
            except RuntimeFailure as error:
                record, code = {"error": str(error)}, 1
            rows.add(key, record)
    return code


def _row(
    by: str, name: str, size: Size, batch: int, path: str, precision: str, device: str, seconds: float, end: float
) -> dict:
    timeout_s = max(end - time.monotonic(), _ROW_S)
    if by == "onnx-ghn":  # it has processes of its own
        shapes = {key: tuple(value.shape) for key, value in inputs_of(name, size, batch).items()}
        return by_library(path, shapes, precision, device, seconds, timeout_s)
    if by == "loop":
        return run_job(by_loop, (name, size, batch, path, precision, device, seconds), timeout_s, bounded=False)
    return run_job(by_torch, (name, size, batch, precision, device, seconds), timeout_s, bounded=False)


def _table(rows: ResultsFile, batches: tuple[int, ...]) -> str:
    """Markdown: a row a cell."""
    heads = ["model", "batch", "precision", "onnx-ghn", "loop", "ratio", "torch", "plain", "CUDA graph"]
    heads += ["operators", "of a run", "GPU memory", "mJ a run"]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for name in MODELS:
        for batch in batches:
            for precision in PRECISIONS:
                ours, loop, torch = (rows.records.get(f"{name} {batch} {precision} {by}", {}) for by in BY)
                ratio = loop["library_ms"] / loop["p50_ms"] if "p50_ms" in loop else None
                cells = [_ms(ours, "p50_ms"), _ms(loop, "p50_ms"), "" if ratio is None else f"{ratio:.3f}"]
                cells += [
                    _ms(torch, "p50_ms"),
                    _ms(ours, "plain_ms"),
                    "no" if ours.get("no_graph") else _ms(ours, "graph_ms"),
                ]
                kind = f" ({ours['operators']})" if ours.get("operators_ms") else ""
                cells += [_ms(ours, "operators_ms") + kind]
                cells += ["" if ours.get("coverage") is None else f"{ours['coverage']:.1%}"]
                memory, energy = ours.get("gpu_bytes"), ours.get("mj_per_run")
                cells += ["" if memory is None else f"{memory / 2**20:,.0f} MiB"]
                lines.append([name, str(batch), precision, *cells, "" if energy is None else f"{energy:.3g}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ms(record: dict, key: str) -> str:
    if "error" in record:
        return "failed"
    return "" if record.get(key) is None else f"{record[key]:.3f}"


if __name__ == "__main__":
    main()
