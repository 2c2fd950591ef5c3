"""The learning curve of one or more runs as a picture, from their log.jsonl.

python benchmarks/learning_curve.py out/EXP/log.jsonl -o curve.png
python benchmarks/learning_curve.py one=out/A/log.jsonl other=out/B/log.jsonl -o curve.svg
python benchmarks/learning_curve.py checkpoints/ghn-cifar10/log.jsonl -o docs/images/ghn-cifar10.svg

Where lines have a "stage", each change of it is marked: what a run of several parts trained on.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import click
import numpy as np


@click.command()
@click.argument("logs", nargs=-1, required=True)
@click.option("-o", "--output", required=True, help="A .png or .svg file.")
@click.option("--title", default="Top-1 of training batches, CIFAR-10 (JPEG)", show_default=True)
@click.option("--smooth", type=click.IntRange(min=1), default=5, show_default=True, help="Points of the moving mean.")
def main(logs: tuple[str, ...], output: str, title: str, smooth: int) -> None:
    """Draw top-1 over steps; several logs of one name (name=path) are one run in parts."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    plt.rcParams |= {"font.size": 11, "svg.fonttype": "none", "svg.hashsalt": "onnx-ghn"}
    figure, axes = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
    runs: dict[str, list[dict[str, Any]]] = {}
    for entry in logs:
        name, _, path = entry.rpartition("=")
        lines = Path(path).read_text("utf-8").splitlines()
        runs.setdefault(name, []).extend(json.loads(line) for line in lines)
    for (name, rows), colour in zip(
        runs.items(), ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626"), strict=False
    ):
        steps = np.array([row["step"] for row in rows])
        top1 = np.array([row["top1"] for row in rows])
        axes.plot(steps, top1, color=colour, alpha=0.2, linewidth=1)
        if len(top1) >= smooth:
            mean = np.convolve(top1, np.ones(smooth) / smooth, mode="valid")
            axes.plot(steps[smooth - 1 :], mean, color=colour, linewidth=2, label=name or None)
        mark_stages(axes, rows)
    axes.set_xlabel("step")
    axes.set_ylabel("top-1, %")
    axes.set_title(title, loc="left", fontsize=12)
    first = min(rows[0]["step"] for rows in runs.values())
    if first < 0.1 * max(rows[-1]["step"] for rows in runs.values()):  # not the end of a run alone
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
    elif any("stage" in row for rows in runs.values() for row in rows):  # room for their names below the curve
        low, high = axes.get_ylim()
        axes.set_ylim(low - 0.35 * (high - low), high)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if any(runs):
        axes.legend(frameon=False, loc="lower right")
    figure.savefig(output, dpi=160)
    click.echo(f"{output}: {sum(len(rows) for rows in runs.values())} points of {len(runs)} run(s)")


def mark_stages(axes: Any, rows: list[dict[str, Any]]) -> None:
    """A line where each stage begins, and its name beside it."""
    begun = rows[0]["step"]
    for before, row in itertools.pairwise([{}, *rows]):
        if row.get("stage") != before.get("stage"):
            axes.axvline(begun, color="#64748b", linewidth=0.8, linestyle=":")
            axes.annotate(
                row["stage"],
                (begun, 0.03),
                xycoords=("data", "axes fraction"),
                xytext=(3, 0),
                textcoords="offset points",
                rotation=90,
                va="bottom",
                ha="left",
                fontsize=9,
                color="#475569",
            )
        begun = row["step"]


if __name__ == "__main__":
    main()
