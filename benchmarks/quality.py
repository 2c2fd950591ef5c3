"""The accuracy of networks with predicted weights on CIFAR-10's test images, beside the published figures.

    python benchmarks/quality.py -D ../shared/datasets/cifar10                     # hours on two cores; resumes
    python benchmarks/quality.py -D ../shared/datasets/cifar10 --quick             # 12 nets a split, 1,024 images

Networks are of fresh splits (published sampler, seed 2026: other random numbers than training's), judged with batch
statistics of 64. Each row is an `onnx-ghn eval` that can be run alone; results are kept in --out and gone on with.
Kaiming's random weights are judged on the first 1,024 images: they are at chance on any.
"""

from __future__ import annotations

import concurrent.futures
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

SEED = 2026
RANDOM_IMAGES = 1024
#: Networks with a name; those of torchvision in the form for small images.
NAMED = ("ResNet-50", "ViT", "resnet18", "mobilenet_v2", "densenet121", "resnext50_32x4d", "shufflenet_v2_x1_0")
NAMED += ("mnasnet1_0", "efficientnet_b0", "regnet_y_400mf", "convnext_tiny", "googlenet")
#: What the published GHNs reach, and an epoch of SGD from random weights (per-architecture results of
#: facebookresearch/ppuda): average (best).
PUBLISHED = {
    "test": ("42.2 (60.2)", "51.4 (59.9)", "66.9 (77.1)", "46.9"),
    "wide": ("22.3", "43.1", "64.0", "47.2"),
    "deep": ("37.9", "48.3", "60.5", "34.2"),
    "dense": ("44.8", "51.8", "65.8", "45.3"),
    "bnfree": ("23.9", "13.7", "36.8", "18.0"),
    "ResNet-50": ("17.7", "19.2", "58.6", ""),
    "ViT": ("10.0", "18.2", "11.4", ""),
}


def rows(quick: bool) -> dict[str, list[str]]:
    """Arguments of `eval` by row."""
    many, some = ("12", "12") if quick else ("100", "50")
    found = {
        "test, drawn widths": ["--split", "test", "-n", many, "--width", "train"],
        "test": ["--split", "test", "-n", many],
    }
    found |= {split: ["--split", split, "-n", some] for split in ("wide", "deep", "dense", "bnfree")}
    return found | {name: ["--arch", name] for name in NAMED}


@click.command()
@click.option("-C", "--ckpt", default="ghn-cifar10", show_default=True)
@click.option("-D", "--data_dir", default="./data", show_default=True)
@click.option("--out", default="out/quality", show_default=True, help="Folder of the results.")
@click.option("--jobs", default=2, show_default=True, help="Evaluations side by side, each with one thread.")
@click.option("--quick", is_flag=True, help="Fewer networks and images: a look, not a figure to compare.")
@click.option("--images", type=click.Choice(["val", "test"]), default="test", show_default=True)
@click.option("--amp", is_flag=True, help="In bfloat16.")
def main(ckpt: str, data_dir: str, out: str, jobs: int, quick: bool, images: str, amp: bool) -> None:
    """Print the table."""
    common = ["-C", ckpt, "-D", data_dir, "--images", images, "-s", str(SEED), "--threads", "1"] + ["--amp"] * amp
    limits = {"ghn": RANDOM_IMAGES if quick else None, "kaiming": RANDOM_IMAGES}
    tasks = {
        (name, init): [*common, *arguments, "--init", init] + (["--n_images", str(limit)] if limit else [])
        for name, arguments in rows(quick).items()
        for init, limit in limits.items()
    }
    Path(out).mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        found = dict(zip(tasks, pool.map(lambda key: _evaluate(key, tasks[key], out), tasks), strict=True))
    print("| CIFAR-10 top-1 %, mean (best) | networks | Kaiming | this GHN | MLP | GHN-1 | GHN-2 | SGD, 1 epoch |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name in rows(quick):
        ours, random = found[name, "ghn"], found[name, "kaiming"]
        figures = " | ".join(PUBLISHED.get(name, ("", "", "", "")))
        print(f"| {name} | {ours['networks']} | {random['top1']['mean']:.1f} | **{_figure(ours)}** | {figures} |")


def _evaluate(key: tuple[str, str], arguments: list[str], out: str) -> dict[str, Any]:
    results = Path(out) / f"{key[0].replace(', ', '-').replace(' ', '-')}-{key[1]}.jsonl"
    command = [sys.executable, "-m", "onnx_ghn", "eval", *arguments, "--results", str(results), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)}: {done.stderr.strip()}")
    summary: dict[str, Any] = json.loads(done.stdout)["summary"]
    return summary


def _figure(summary: dict[str, Any]) -> str:
    top1 = summary["top1"]
    return f"{top1['mean']:.1f} ({top1['max']:.1f})" if summary["networks"] > 1 else f"{top1['mean']:.1f}"


if __name__ == "__main__":
    main()
