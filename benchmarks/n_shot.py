"""n-shot fine-tuning: random, predicted and pretrained weights, each with its best learning rate and weight decay.

    python benchmarks/n_shot.py -D DATA --out n_shot.jsonl                        # minutes on a CPU
    python benchmarks/n_shot.py -D DATA --out full.jsonl --steps 550 -b 96 --image-size 32 --test-images 10000 \
        --layers DARTS=14 --channels DARTS=48 --layers ViT=12                     # 50 epochs, as published

The protocol is that of facebookresearch/ppuda (100-shot CIFAR-10): the training images are the first n of each class.
A fifth of them, 200 of 1,000, is held out to choose the rate and the decay, from one seed; then each seed trains on all
of them with that choice and is judged on test images by running statistics. Every network and initialisation has the
same grid, steps, batches and seeds. "Before" is judged on the same test images, by statistics of the batch, before any
training. Each run is a line of --out, so that a benchmark that was stopped goes on.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import torch
from racing.cells import cell

from onnx_ghn.deepnets1m import Architecture
from onnx_ghn.evaluate import accuracy, batch_statistics_mode
from onnx_ghn.ghn import load_ghn
from onnx_ghn.training.nets.networks import Choice, choose, make_module
from onnx_ghn.training.nets.trainer import NetTrainConfig, NetTrainer
from onnx_ghn.training.weights import load_tensors, predict_net
from onnx_ghn.vision import eval_batches, few_shot, load_dataset, train_stream

INITS = ("random", "predicted", "pretrained")
HELD_OUT = 5  # a fifth
MADE_FOR = 32  # the size of images that the networks are made for


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What all runs of a file share."""

    dataset: str
    ckpt: str
    n_shots: int
    steps: int
    batch_size: int
    opt: str
    image_size: int
    test_images: int
    channels: dict[str, int]
    layers: dict[str, int]


def sizes(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    """NAME=NUMBER, for one network each."""
    pairs = [value.partition("=") for value in values]
    if any(not number.isdigit() for _, _, number in pairs):
        raise click.BadParameter(f"{', '.join(values)}: write NAME=NUMBER")
    return {name: int(number) for name, _, number in pairs}


@click.command()
@click.option("-d", "--dataset", default="cifar10", show_default=True)
@click.option("-D", "--data-dir", default="./data", show_default=True)
@click.option("-C", "--ghn", "ckpt", default="ghn-cifar10", show_default=True)
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Lines of results.")
@click.option("--net", "nets", multiple=True, default=("DARTS", "ViT", "ResNet-50"), show_default=True)
@click.option("--init", "inits", multiple=True, type=click.Choice(INITS), default=("random", "predicted"))
@click.option("--n-shots", default=100, show_default=True)
@click.option("--steps", default=64, show_default=True)
@click.option("-b", "--batch-size", default=32, show_default=True)
@click.option("--opt", default="sgd", show_default=True)
@click.option("--lr", "rates", multiple=True, type=float, default=(0.1, 0.025, 0.00625), show_default=True)
@click.option("--wd", "decays", multiple=True, type=float, default=(1e-3, 1e-4), show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option(
    "--image-size", default=16, show_default=True, help="Images are scaled to it; those of ViT stay as they are."
)
@click.option("--test-images", default=2000, show_default=True, help="The first of the test set, its classes mixed.")
@click.option("--channels", multiple=True, callback=sizes, default=("DARTS=16",), show_default=True)
@click.option("--layers", multiple=True, callback=sizes, default=("DARTS=8", "ViT=6"), show_default=True)
@click.option("--amp/--no-amp", default=True, show_default=True, help="Run the networks in bfloat16.")
@click.option("--threads", default=1, show_default=True)
@click.option("--table", is_flag=True, help="Print the table of what is there, and run nothing.")
def main(**options: Any) -> None:
    """Run what is missing, and print the table."""
    torch.set_num_threads(options["threads"])
    fields = {field.name for field in dataclasses.fields(Protocol)}
    protocol = Protocol(**{key: value for key, value in options.items() if key in fields})
    bench = Benchmark(protocol, options["out"], options["data_dir"], options["amp"])
    grid = list(itertools.product(options["rates"], options["decays"]))
    for net, init in itertools.product(options["nets"], options["inits"]):
        if options["table"]:
            break
        if init == "pretrained" and net != "ResNet-50":
            continue  # torchvision has no other
        for lr, wd in grid:
            bench.run(net, init, lr, wd, 0, "choose")
        lr, wd = bench.best(net, init)
        for seed in range(options["seeds"]):
            bench.run(net, init, lr, wd, seed, "test")
    bench.show()


class Benchmark:
    """Runs of one protocol, each kept as a line."""

    def __init__(self, protocol: Protocol, out: Path, data_dir: str, amp: bool) -> None:
        self.protocol, self.out, self.amp = protocol, out, amp
        self.rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
        settings = dataclasses.asdict(protocol)
        if self.rows and self.rows[0]["protocol"] != settings:
            raise click.UsageError(f"{out} holds runs of another protocol: {self.rows[0]['protocol']}")
        self.data_dir = data_dir

    @functools.cached_property
    def sets(self) -> dict[str, tuple[Any, Any]]:
        """Images to train and to judge on, to choose a rate by and for the figures."""
        protocol = self.protocol
        train, test = (load_dataset(protocol.dataset, self.data_dir, split) for split in ("trainval", "test"))
        held_out = protocol.n_shots // HELD_OUT
        kept = protocol.n_shots - held_out
        per_class = protocol.test_images // len(train.classes)
        return {
            "choose": (few_shot(train, kept), few_shot(train, held_out, skip=kept)),
            "test": (few_shot(train, protocol.n_shots), few_shot(test, per_class)),
        }

    @functools.cached_property
    def ghn(self) -> Any:
        """The GHN that predicts."""
        return load_ghn(self.protocol.ckpt)

    def run(self, net: str, init: str, lr: float, wd: float, seed: int, part: str) -> None:
        """Train once and keep the line, unless it is there."""
        key = {"part": part, "net": net, "init": init, "lr": lr, "wd": wd, "seed": seed}
        if any(all(row[name] == value for name, value in key.items()) for row in self.rows):
            return
        train, judged = self.sets[part]
        size = None if net == "ViT" else self.protocol.image_size  # its position table is of one size
        stream = train_stream(
            train, self.protocol.batch_size, seed=seed, resize_to=size, drop_last=True, channels_last=True
        )
        module = self.module(net, init, seed).to(memory_format=torch.channels_last)
        batches = eval_batches(judged, 64, resize_to=size, channels_last=True)
        with batch_statistics_mode(module) as run:  # running statistics are not predicted
            before = accuracy(run, batches).top1
        config = NetTrainConfig(
            # An "epoch" of one step: the published cosine then moves with every step.
            epochs=self.protocol.steps, steps_per_epoch=1, opt=self.protocol.opt, lr=lr, wd=wd, amp=self.amp, seed=seed,
        )  # fmt: skip
        figures = NetTrainer(module, stream, config).run()
        batches = eval_batches(judged, 64, resize_to=size, channels_last=True)
        top1 = accuracy(module.eval(), batches).top1
        row = {
            **key,
            "before": before,
            "top1": top1,
            "loss": figures["loss"],
            "protocol": dataclasses.asdict(self.protocol),
        }
        self.rows.append(row)
        with self.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        click.echo(f"{net} {init} lr {lr:g} wd {wd:g} seed {seed} {part}: {top1:.2f} %", err=True)

    def module(self, net: str, init: str, seed: int) -> torch.nn.Module:
        """A network with the weights to start from."""
        (choice,) = choose("predefined", arch=net)
        if isinstance(choice.net, Architecture):
            told = {"C": self.protocol.channels.get(net), "n_cells": self.protocol.layers.get(net)}
            changed = choice.net.replace(**{key: value for key, value in told.items() if value is not None})
            choice = Choice(choice.name, changed)
        n_classes = len(self.sets["test"][0].classes)
        torch.manual_seed(seed)
        module = make_module(choice, n_classes, small_images=True, pretrained=init == "pretrained")
        if init == "predicted":
            load_tensors(module, predict_net(self.ghn, choice.net, module, n_classes, MADE_FOR))
        return module

    def best(self, net: str, init: str) -> tuple[float, float]:
        """The rate and decay with the best accuracy on held-out images; of equals the first."""
        rows = [row for row in self.rows if (row["part"], row["net"], row["init"]) == ("choose", net, init)]
        found = max(rows, key=lambda row: row["top1"])
        return found["lr"], found["wd"]

    def show(self) -> None:
        """Mean and spread of what has been judged on test images, in Markdown."""
        click.echo(table(self.rows))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line a network and initialisation: the setting that was chosen, and the test images before and after."""
    lines = [
        "| network | weights | rate | decay | held out, % | before any training, % | after two epochs, % | seeds |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["part"] == "test":
            groups.setdefault((row["net"], row["init"]), []).append(row)
    best = {net: max(_mean(group) for (other, _), group in groups.items() if other == net) for net, _ in groups}
    for (net, init), group in groups.items():
        chosen = {"net": net, "init": init, "part": "choose", "lr": group[0]["lr"], "wd": group[0]["wd"]}
        held_out = next(row["top1"] for row in rows if all(row[key] == value for key, value in chosen.items()))
        before = statistics.mean(row["before"] for row in group)
        spread = statistics.stdev(row["top1"] for row in group) if len(group) > 1 else float("nan")
        after = cell(_mean(group), spread, best=best[net])
        lines.append(
            f"| {net} | {init} | {group[0]['lr']:g} | {group[0]['wd']:g} "
            f"| {held_out:.1f} | {before:.1f} | {after} | {len(group)} |"
        )
    return "\n".join(lines)


def _mean(group: Sequence[Mapping[str, Any]]) -> float:
    return statistics.mean(float(row["top1"]) for row in group)


if __name__ == "__main__":
    main()
