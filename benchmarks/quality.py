"""The accuracy of networks with predicted weights on CIFAR-10's test images, beside the published figures.

    python benchmarks/quality.py -D ../shared/datasets/cifar10                     # hours on two cores; resumes
    python benchmarks/quality.py -D ../shared/datasets/cifar10 --quick             # 12 nets a split, 1,024 images
    python benchmarks/quality.py -D ../shared/datasets/cifar10 --jobs 14           # minutes, where there is a GPU

Networks are of fresh splits (published sampler, seed 2026: other random numbers than training's), judged with batch
statistics of 64. Each row is an `onnx-ghn eval` that can be run alone, network by network here; results are kept in
--out and gone on with. Kaiming's random weights are judged on the first 1,024 images: they are at chance on any.
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
from pathlib import Path

import click

from onnx_ghn.cli.eval_ghn import eval_ghn
from onnx_ghn.errors import OnnxGhnError
from onnx_ghn.workers import process_pool

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


def rows(quick: bool) -> dict[str, list[list[str]]]:
    """Arguments of `eval` by row, for each of its networks."""
    splits = {"test, drawn widths": (["--split", "test", "--width", "train"], 100), "test": (["--split", "test"], 100)}
    splits |= {split: (["--split", split], 50) for split in ("wide", "deep", "dense", "bnfree")}
    found = {
        row: [[*arguments, "--arch", str(index)] for index in range(12 if quick else count)]
        for row, (arguments, count) in splits.items()
    }
    return found | {name: [["--arch", name]] for name in NAMED}


@click.command()
@click.option("-C", "--ghn", "ckpt", default="ghn-cifar10", show_default=True)
@click.option("-D", "--data-dir", default="./data", show_default=True)
@click.option(
    "--out", default="out/quality", show_default=True, type=click.Path(path_type=Path), help="Folder for the results."
)
@click.option("--jobs", default=2, show_default=True, help="Networks side by side, each with one thread.")
@click.option("--quick", is_flag=True, help="Fewer networks and images: a look, not a figure to compare.")
@click.option("--images", type=click.Choice(["val", "test"]), default="test", show_default=True)
@click.option("--amp", is_flag=True, help="Run the networks in bfloat16.")
def main(ckpt: str, data_dir: str, out: Path, jobs: int, quick: bool, images: str, amp: bool) -> None:
    """Print the table."""
    common = ["-C", ckpt, "-D", data_dir, "--images", images, "-s", str(SEED), "--threads", "1"] + ["--amp"] * amp
    limits = {"ghn": RANDOM_IMAGES if quick else None, "kaiming": RANDOM_IMAGES}
    table = rows(quick)
    with process_pool(jobs) as pool:
        waiting = {
            (row, init): [
                pool.submit(
                    top1,
                    [*common, *arguments, "--init", init] + (["--n-images", str(limit)] if limit else []),
                    out / f"{row.replace(', ', '-').replace(' ', '-')}-{index}-{init}.jsonl",
                )
                for index, arguments in enumerate(networks)
            ]
            for row, networks in table.items()
            for init, limit in limits.items()
        }
        try:
            found = {key: [network.result() for network in networks] for key, networks in waiting.items()}
        except OnnxGhnError as error:
            pool.shutdown(cancel_futures=True)
            raise click.ClickException(str(error)) from error
    print("| CIFAR-10 top-1 %, mean (best) | networks | Kaiming | this GHN | MLP | GHN-1 | GHN-2 | SGD, 1 epoch |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for row in table:
        ours, random = found[row, "ghn"], statistics.fmean(found[row, "kaiming"])
        best = f" ({max(ours):.1f})" if len(ours) > 1 else ""
        figures = " | ".join(PUBLISHED.get(row, ("", "", "", "")))
        print(f"| {row} | {len(ours)} | {random:.1f} | **{statistics.fmean(ours):.1f}{best}** | {figures} |")


def top1(arguments: list[str], results: Path) -> float:
    """What `eval` says of one network, in percent."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        eval_ghn.main([*arguments, "--results", str(results), "--json"], standalone_mode=False)
    (row,) = json.loads(said.getvalue())["results"]
    found: float = row["top1"]
    return found


if __name__ == "__main__":
    main()
