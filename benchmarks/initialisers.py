"""Published initialisers beside predicted weights: accuracy before training, and after a short one.

    python benchmarks/initialisers.py -D ../shared/datasets/cifar10 --out initialisers.jsonl

Three networks for small images: ResNet-18, a plain stack of convolutions without normalisation, and a small vision
transformer. Each initialiser trains 75 steps of 64 images of CIFAR-10, scaled to 16 × 16, at three rates (SGD with
momentum 0.9; the transformer by AdamW). The best of the three counts, judged on 2,048 validation images with
statistics of the batch. Each result is a line of the file, so that a run that was stopped goes on.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import click
import torch
from published_initialisers import lsuv_, mimetic_, orthogonal_
from racing.cells import cell
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from onnx_ghn.evaluate import accuracy, batch_statistics_mode
from onnx_ghn.ghn import load_ghn
from onnx_ghn.training.weights import kaiming_, load_tensors, predict_module
from onnx_ghn.vision import adjust_to_small_images, eval_batches, load_dataset, train_stream

SIZE, STEPS, SEED, N_IMAGES = 16, 75, 0, 2048
RATES = {"sgd": (0.1, 0.03, 0.01), "adamw": (3e-3, 1e-3, 3e-4)}
INITIALISERS = ("framework", "Kaiming", "orthogonal", "LSUV", "mimetic", "predicted")


def plain() -> nn.Module:
    """Seven convolutions without normalisation."""
    layers: list[nn.Module] = []
    before = 3
    for width, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (256, 1)):
        layers += [nn.Conv2d(before, width, 3, stride, 1), nn.ReLU()]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


NETS: dict[str, tuple[str, Any]] = {
    "ResNet-18": ("sgd", lambda: adjust_to_small_images(models.resnet18(num_classes=10))),
    "7 convolutions, no norm": ("sgd", plain),
    "ViT (192 × 6)": ("adamw", lambda: models.VisionTransformer(SIZE, 2, 6, 3, 192, 768, num_classes=10)),
}


@click.command()
@click.option("-D", "--data-dir", default="./data", show_default=True)
@click.option("-C", "--ghn", "ckpt", default="ghn-cifar10", show_default=True)
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Lines of results.")
@click.option("--threads", default=1, show_default=True)
def main(data_dir: str, ckpt: str, out: Path, threads: int) -> None:
    """Measure what is missing, and print the table."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    done = {(row["net"], row["init"], row["lr"]) for row in rows}
    train, val = (load_dataset("cifar10", data_dir, split) for split in ("train", "val"))
    batches = [batch for _, batch in zip(range(N_IMAGES // 64), eval_batches(val, 64, resize_to=SIZE), strict=False)]
    ghn = load_ghn(ckpt)
    for name, (optimizer, make) in NETS.items():
        for init in INITIALISERS:
            if init == "mimetic" and "ViT" not in name:
                continue
            for lr in (0.0, *RATES[optimizer]):
                if (name, init, lr) in done:
                    continue
                stream = train_stream(train, 64, seed=SEED, resize_to=SIZE)
                torch.manual_seed(SEED)
                net = make()
                initialise(net, init, ghn, stream.batch(10_000).images)
                top1, loss = trained(net, optimizer, lr, stream, batches)
                row = {"net": name, "init": init, "lr": lr, "top1": top1, "loss": loss}
                rows.append(row)
                with out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                click.echo(json.dumps(row), err=True)
    show(rows)


def initialise(net: nn.Module, init: str, ghn: Any, images: Tensor) -> None:
    """In place; "framework" leaves what torch and torchvision draw."""
    if init == "Kaiming":
        kaiming_(net, SEED)
    elif init == "orthogonal":
        orthogonal_(net, SEED)
    elif init == "LSUV":
        lsuv_(net, images, SEED)
    elif init == "mimetic":
        mimetic_(net, SEED)
    elif init == "predicted":
        load_tensors(net, predict_module(ghn, net, SIZE))


def trained(net: nn.Module, optimizer: str, lr: float, stream: Any, batches: list[Any]) -> tuple[float, float]:
    """Top-1 in percent after the steps (none at rate 0), and the mean loss of the last 25 of them."""
    losses = []
    if lr:
        if optimizer == "sgd":
            rule: torch.optim.Optimizer = torch.optim.SGD(net.parameters(), lr, momentum=0.9, weight_decay=3e-4)
        else:
            rule = torch.optim.AdamW(net.parameters(), lr, weight_decay=0.05)
        net.train()
        for step in range(STEPS):
            for group in rule.param_groups:  # linear to zero over the last two thirds
                group["lr"] = lr * min(1, 1.5 * (1 - step / STEPS))
            images, labels = stream.batch(step)
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(images)
            loss = F.cross_entropy(logits.float(), labels)
            rule.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 5)
            rule.step()
            losses.append(float(loss.detach()))
    with batch_statistics_mode(net) as run:
        top1 = accuracy(run, batches).top1
    return top1, sum(losses[-25:]) / max(1, len(losses[-25:]))


def show(rows: list[dict[str, Any]]) -> None:
    """The table of best rates, in Markdown; the best of each column is bold."""
    cells: dict[tuple[str, str], dict[str, float]] = {}
    for net in NETS:
        for init in INITIALISERS:
            mine = [row for row in rows if (row["net"], row["init"]) == (net, init)]
            if mine:
                after = max((row["top1"] for row in mine if row["lr"]), default=float("nan"))
                before = next((row["top1"] for row in mine if not row["lr"]), float("nan"))
                cells[net, init] = {"before": before, "after": after}
    click.echo("| initialiser | " + " | ".join(f"{net}: before | after {STEPS} steps" for net in NETS) + " |")
    click.echo("|---" + "|---:" * (2 * len(NETS)) + "|")
    for init in INITIALISERS:
        line = []
        for net in NETS:
            for when in ("before", "after"):
                if (net, init) not in cells:
                    line.append("")
                    continue
                best = max(cells[net, other][when] for other in INITIALISERS if (net, other) in cells)
                line.append(cell(cells[net, init][when], best=best))
        click.echo(f"| {init} | " + " | ".join(line) + " |")


if __name__ == "__main__":
    main()
