"""What comes through of the models of every zoo: exported, predicted, loaded back.

    python benchmarks/coverage.py --suite torchvision --out coverage.jsonl     # also timm, hf, keras, paddle, flax
    python benchmarks/coverage.py --out coverage.jsonl --table                 # what is measured so far

A suite runs in an environment with its framework (`make exporters` builds them). Where that has no torch,
ONNX_GHN_PYTHON names the interpreter that predicts. Each model is a line of the file, so that a run that was stopped
goes on. Weights are random: nothing is downloaded.

found: share of the model's weights that the file holds and `load` brings back. predicted, fallback: of the file's
trainable elements.
"""

from __future__ import annotations

import collections
import concurrent.futures.process
import json
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import click
from predicting import predicted
from zoos import BY_DYNAMO, SUITES, targets

from onnx_ghn.errors import GraphError, OnnxGhnError
from onnx_ghn.exporters.registry import resolve


@click.command()
@click.option("--suite", type=click.Choice(SUITES))
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Lines of results.")
@click.option("--only", help="Models whose name contains this.")
@click.option("--max-params", default=400_000_000, show_default=True, help="Larger models are left out, and told.")
@click.option("--table", is_flag=True, help="Print what the file holds.")
def main(suite: str | None, out: Path, only: str | None, max_params: int, table: bool) -> None:
    """Measure a suite, or print the table."""
    warnings.simplefilter("ignore")
    if suite:
        done = {row["model"] for row in _rows(out)}
        for name, options in targets(suite):
            if name not in done and (only is None or only in name):
                row = _in_a_process(name, options, max_params)
                _write(out, {"suite": suite, "model": name, **row})
                print(json.dumps(row), name, flush=True)
    if table:
        _print(_rows(out))


def _in_a_process(name: str, options: dict[str, Any], max_params: int) -> dict[str, Any]:
    """A process for each model: some exports take 20 GB, and a crash should cost one line."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        try:
            return pool.submit(_measured, name, options, max_params).result()
        except concurrent.futures.process.BrokenProcessPool:
            return {"failed": "the process died (out of memory, or a crash)", "whose": "ours"}


def _measured(name: str, options: dict[str, Any], max_params: int) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    try:
        target = resolve(name, (), options)
    except OnnxGhnError as error:
        return {"failed": str(error), "whose": "library"}
    if (size := _size(target.model)) > max_params:
        return {"left_out": f"{size:,} elements"}
    with tempfile.TemporaryDirectory() as folder:
        path, filled = os.path.join(folder, "model.onnx"), os.path.join(folder, "init.onnx")
        more: dict[str, Any] = {"exporter": "dynamo"} if name in BY_DYNAMO else {}
        try:
            report = target.exporter.export(target.model, path, target.example_inputs, **more)
            if report.unmatched and name.startswith("torchvision:"):  # heads of training
                more["auxiliary"] = True
                report = target.exporter.export(target.model, path, target.example_inputs, force=True, **more)
        except GraphError as error:
            whose = "exporter" if "cannot export" in str(error) else "ours"
            return {"failed": str(error), "whose": whose}
        except Exception as error:  # noqa: BLE001 - a defect of ours, which the table shows
            return {"failed": f"{type(error).__name__}: {error}", "whose": "ours"}
        try:
            coverage = predicted(path, filled)
            loaded = target.exporter.load(target.model, filled, target.example_inputs)
        except Exception as error:  # noqa: BLE001 - likewise
            return {"failed": f"{type(error).__name__}: {error}", "whose": "ours"}
    total = max(1, coverage["n_trainable_elements"])
    reasons = collections.Counter[str]()
    for entry in coverage["parameters"]:
        if entry["outcome"] in ("fallback", "kept"):
            reasons[f"{entry['op']}: {entry['reason']}"] += entry["n_elements"]
    return {
        "by": report.exporter,
        "n_elements": report.n_elements,
        "found": min(report.share, loaded.share),
        "predicted": coverage["elements"]["predicted"] / total,
        "fallback": coverage["elements"]["fallback"] / total,
        "kept": coverage["elements"]["kept"] / total,
        "left": [note.name for note in report.unmatched][:20],
        "reasons": dict(reasons.most_common(5)),
        "seconds": round(time.perf_counter() - start, 1),
        **more,
    }


def _size(model: Any) -> int:
    """Elements of a torch or Keras model; 0 of others, which are small."""
    if hasattr(model, "count_params"):
        return int(model.count_params())
    return sum(p.numel() for p in model.parameters()) if hasattr(model, "named_modules") else 0


def _rows(path: Path) -> list[dict[str, Any]]:
    """The last line of each model."""
    if not path.exists():
        return []
    lines = (json.loads(line) for line in path.read_text().splitlines() if line)
    return list({(row["suite"], row["model"]): row for row in lines}.values())


def _write(path: Path, row: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def _print(rows: list[dict[str, Any]]) -> None:
    print("| zoo | models | found % (mean, min) | predicted % (mean, min) | exporter failed | failed by us |")
    print("|---|---:|---:|---:|---:|---:|")
    groups = collections.defaultdict(list)
    for row in rows:
        groups[_group(row)].append(row)
    for name, group in groups.items():
        good = [row for row in group if "found" in row]
        failed = [row for row in group if "failed" in row]
        theirs = sum(row.get("whose") in ("exporter", "library") for row in failed)
        cells = [name, str(len(good))]
        for key in ("found", "predicted"):
            values = [100 * row[key] for row in good]
            cells.append(f"{sum(values) / len(values):.2f}, {min(values):.2f}" if values else "")
        cells += [str(theirs), str(len(failed) - theirs)]
        print("| " + " | ".join(cells) + " |")
    print()
    for row in rows:
        if "failed" in row or "left_out" in row:
            print(f"- {row['model']}: {row.get('failed') or 'left out, ' + row['left_out']}")
        elif row["found"] < 1 or row["predicted"] < 0.995:
            causes = [f"{reason} ({count:,})" for reason, count in list(row["reasons"].items())[:2]]
            causes += [f"not in the file: {', '.join(row['left'][:3])}"] * bool(row["left"])
            why = "; ".join(causes)
            print(f"- {row['model']}: found {row['found']:.2%}, predicted {row['predicted']:.2%}. {why}")


def _group(row: dict[str, Any]) -> str:
    from zoos import kind

    return kind(row["suite"], row["model"])


if __name__ == "__main__":
    sys.exit(main())
