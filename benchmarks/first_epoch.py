"""One epoch of SGD from predicted and from Kaiming's weights, side by side.

    python benchmarks/first_epoch.py -D ../shared/datasets/cifar10 --out out/first_epoch    # hours; resumes

The first networks of a fresh test split (published sampler, seed 2026, as in benchmarks/quality.py) and ResNet-50.
Protocol of facebookresearch/ppuda (experiments/sgd/train_net.py): batches of 96, momentum 0.9, weight decay 3e-4,
published augmentation. Each network and initialisation trains on the 45,000 training images at each of three rates
with the same seed, and at up to two more beyond them while the best is the largest or the smallest; the rate with the
best accuracy on the 5,000 validation images is judged on the test images, by running statistics. "before" is judged
there too, by statistics of the batch.
"""

from __future__ import annotations

import concurrent.futures
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import torch

from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.evaluate import accuracy, batch_statistics_mode
from onnx_ghn.ghn import fingerprint, load_ghn
from onnx_ghn.training.nets.networks import choose, make_module
from onnx_ghn.training.nets.trainer import NetTrainConfig, NetTrainer
from onnx_ghn.training.weights import kaiming_, load_tensors, predict_net
from onnx_ghn.vision import eval_batches, load_dataset, train_stream
from onnx_ghn.workers import process_pool

SEED, ARCH_SEED = 0, 2026
RATES = (0.1, 0.025, 0.00625)
FACTOR, EXTENSIONS = 4, 2  # between rates, and how many are tried beyond either end of them
INITS = ("Kaiming", "predicted")


@click.command()
@click.option("-C", "--ghn", "ckpt", default="ghn-cifar10", show_default=True)
@click.option("-D", "--data-dir", default="./data", show_default=True)
@click.option("--out", default="out/first_epoch", show_default=True, type=click.Path(path_type=Path))
@click.option(
    "--net", "nets", multiple=True, help="An index of the test split, or a name. [default: 0 to 4, ResNet-50]"
)
@click.option("--init", "inits", multiple=True, type=click.Choice(INITS), default=INITS, show_default=True)
@click.option("--jobs", default=2, show_default=True, help="Runs side by side, each with one thread.")
@click.option("--device", default="cpu", show_default=True, help="All runs share it.")
@click.option("--amp/--no-amp", default=True, show_default=True, help="Run the networks in bfloat16.")
@click.option("--table", is_flag=True, help="Print the table of what is there, and run nothing.")
def main(
    ckpt: str, data_dir: str, out: Path, nets: tuple[str, ...], inits: tuple[str, ...], jobs: int, device: str,
    amp: bool, table: bool,
) -> None:  # fmt: skip
    """Train what is missing, and print the table."""
    names = nets or ("0", "1", "2", "3", "4", "ResNet-50")
    made_by = {"Kaiming": "Kaiming", "predicted": f"predicted-{fingerprint(load_ghn(ckpt))}"}
    if not table:
        with process_pool(jobs) as pool:
            cells = [(net, made_by[init]) for net in names for init in inits]
            waiting = [pool.submit(measure_cell, *each, ckpt, data_dir, out, amp, device) for each in cells]
            for done in concurrent.futures.as_completed(waiting):
                done.result()
    print("Top-1 % on CIFAR-10 (JPEG)'s test images, before and after one epoch (at the best rate).\n")
    print("| network | weights | Kaiming, before | after | predicted, before | after |")
    print("|---|---:|---:|---:|---:|---:|")
    for net in names:
        shown = []
        before: dict[str, Any] = {}
        for init in INITS:
            found = {rate: _kept(out, net, made_by[init], rate) for rate in (0.0, *_all_rates())}
            before = found.pop(0.0)
            scores = {rate: row["val"] for rate, row in found.items() if row}
            if not before or next_rates(scores):
                break
            best = found[max(scores, key=lambda rate: scores[rate])]
            shown += [f"{before['test']:.1f}", f"{best['test']:.1f} ({best['rate']:g})"]
        else:
            print(f"| {before['name']} | {before['n_params']:,} | {' | '.join(shown)} |")


def next_rates(scores: Mapping[float, float]) -> tuple[float, ...]:
    """Which rates are still to be tried, of those whose accuracies are given: of three, then beyond the best of them.

    Args:
        scores: accuracy on validation images, by rate.
    """
    if missing := tuple(rate for rate in RATES if rate not in scores):
        return missing
    best = max(scores, key=lambda rate: scores[rate])
    beyond = best * FACTOR if best == max(scores) else best / FACTOR if best == min(scores) else 0.0
    return (beyond,) if beyond in _all_rates() else ()


def _all_rates() -> tuple[float, ...]:
    above = (max(RATES) * FACTOR**k for k in range(1, EXTENSIONS + 1))
    below = (min(RATES) / FACTOR**k for k in range(1, EXTENSIONS + 1))
    return (*RATES, *above, *below)


def measure_cell(net: str, init: str, ckpt: str, data_dir: str, out: Path, amp: bool, device: str) -> None:
    """A network and an initialisation before training, then at each rate that is asked for."""
    click.echo(json.dumps(measure(net, init, 0.0, ckpt, data_dir, out, amp, device)), err=True)
    rows = [_kept(out, net, init, rate) for rate in _all_rates()]
    scores = {row["rate"]: row["val"] for row in rows if row}
    while rates := next_rates(scores):
        row = measure(net, init, rates[0], ckpt, data_dir, out, amp, device)
        click.echo(json.dumps(row), err=True)
        scores[rates[0]] = row["val"]


def measure(
    net: str, init: str, rate: float, ckpt: str, data_dir: str, out: Path, amp: bool, device: str
) -> dict[str, Any]:
    """A run's accuracies, from its folder where they are there already; no training at rate 0."""
    torch.set_num_threads(1)
    folder = _folder(out, net, init, rate)
    if kept := _kept(out, net, init, rate):
        return kept
    (choice,) = choose("test", arch=net, seed=ARCH_SEED)
    torch.manual_seed(SEED)
    module = make_module(choice, 10, small_images=True)
    if init != "Kaiming":
        load_tensors(module, predict_net(load_ghn(ckpt), choice.net, module, 10, 32))
    else:
        kaiming_(module, SEED)
    module = module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if rate:
        stream = train_stream(load_dataset("cifar10", data_dir, "train"), 96, seed=SEED, channels_last=True)
        config = NetTrainConfig(
            epochs=1, steps_per_epoch=stream.steps_per_epoch, lr=rate, amp=amp, seed=SEED, save_interval=100,
            log_interval=50,
        )  # fmt: skip
        trainer = NetTrainer(module, stream, config, folder, init)
        trainer.resume()
        try:
            trainer.run()
        except RuntimeFailure as error:  # too high a rate for these weights: the others decide
            return _keep(
                folder, {"net": net, "init": init, "rate": rate, "val": 0.0, "test": 0.0, "failed": str(error)}
            )
    row = {
        "net": net,
        "name": choice.name,
        "n_params": sum(p.numel() for p in module.parameters()),
        "init": init,
        "rate": rate,
        "val": _top1(module, data_dir, "val", trained=rate > 0, device=device),
        "test": _top1(module, data_dir, "test", trained=rate > 0, device=device),
    }
    return _keep(folder, row)


def _top1(module: torch.nn.Module, data_dir: str, part: str, *, trained: bool, device: str) -> float:
    images = load_dataset("cifar10", data_dir, part)  # type: ignore[arg-type]
    batches = eval_batches(images, 64, channels_last=True, device=device)
    if trained:
        return accuracy(module.eval(), batches).top1
    with batch_statistics_mode(module) as run:
        return accuracy(run, batches).top1


def _folder(out: Path, net: str, init: str, rate: float) -> Path:
    return out / f"{net}-{init.lower()}-{rate:g}"


def _keep(folder: Path, row: dict[str, Any]) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(row) + "\n", "utf-8")
    return row


def _kept(out: Path, net: str, init: str, rate: float) -> dict[str, Any]:
    path = _folder(out, net, init, rate) / "result.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found


if __name__ == "__main__":
    main()
