"""Train or fine-tune a network: from a GHN's prediction, from random or from pretrained weights.

    python training/train_net.py --arch DARTS -d cifar10 --epochs 1 --ghn ghn-cifar10
    python training/train_net.py --split search --arch 35133 --file data/deepnets1m_search.hdf5 --epochs 50
    python training/train_net.py --arch 12 --split test --epochs 600 --cutout --drop-path-prob 0.2 --auxiliary
    python training/train_net.py --arch resnet50 --n-shots 100 --wd 1e-3 --epochs 50 --pretrained

Options and defaults are those of facebookresearch/ppuda (experiments/sgd/train_net.py, ppuda/config.py). A run that was
interrupted goes on from its last checkpoint in <save_dir>/<name> when the same command is given again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.commands import Command

__all__ = ["train_net"]

_IMAGENET = {"batch_size": 128, "epochs": 250, "lr": 0.1, "wd": 3e-5}
_SMALL = {"batch_size": 96, "epochs": 600, "lr": 0.025, "wd": 3e-4}


@click.command("train-net", cls=Command, short_help="Train a network from predicted or other weights.")
@cli_options.dataset
@cli_options.data_dir
@cli_options.network
@cli_options.start
@click.option("-b", "--batch-size", type=click.IntRange(min=1), help="96, for imagenet 128.")
@click.option("-e", "--epochs", type=click.IntRange(min=0), help="600, for imagenet 250; 0 evaluates only.")
@cli_options.optimizer("sgd")
@click.option("--lr", type=float, help="0.025, for imagenet 0.1.")
@click.option("--wd", type=float, help="3e-4, for imagenet 3e-5.")
@click.option("--grad-clip", type=float, default=5.0, show_default=True)
@click.option(
    "--scheduler", type=click.Choice(["cosine", "exponential", "constant"]), help="cosine; imagenet exponential."
)
@click.option("--n-shots", type=click.IntRange(min=1), help="Training images of each class.")
@click.option("--beta", type=float, default=0.0, help="Add noise of this share of each tensor's spread to the weights.")
@click.option("--cutout", is_flag=True, help="Blank a square of each training image.")
@click.option("--cutout-length", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--drop-path-prob", type=float, default=0.0, show_default=True)
@click.option("--auxiliary", is_flag=True, help="Train with an auxiliary classifier.")
@click.option("--auxiliary-weight", type=float, default=0.4, show_default=True)
@click.option("--imsize", type=click.Choice(["32", "224"]), help="Image size that the network is made for.")
@click.option("--images", type=click.Choice(["val", "test"]), default="test", show_default=True, help="To judge on.")
@click.option("--noise", is_flag=True, help="Judge on images with Gaussian noise too.")
@click.option("--amp", is_flag=True, help="In bfloat16.")
@click.option("-s", "--seed", type=click.IntRange(min=0), default=1111, show_default=True)
@cli_options.run("NET", save=500, log=100)
@cli_options.until
@cli_options.machine
@cli_options.as_json
def train_net(**options: Any) -> None:
    """Train a network from predicted, random or pretrained weights, and measure its accuracy."""
    import torch

    from onnx_ghn.training.logs import reports
    from onnx_ghn.training.nets.trainer import NetTrainConfig, NetTrainer

    _defaults(options)
    device = cli_options.set_up(options)
    stream, n_classes = _images(options)
    net, name, origin = _net(options, n_classes)
    names = ("epochs", "opt", "lr", "wd", "grad_clip", "scheduler", "drop_path_prob", "auxiliary_weight", "amp", "seed")
    told = {key: options[key] for key in (*names, "save_interval", "log_interval")}
    smoothing = 0.1 if options["dataset"] == "imagenet" else 0.0
    config = NetTrainConfig(steps_per_epoch=stream.steps_per_epoch, label_smoothing=smoothing, **told)
    folder = Path(options["save_dir"]) / options["name"]
    net = net.to(device, memory_format=torch.channels_last)
    trainer = NetTrainer(net, stream, config, folder, origin)
    resumed = trainer.resume()
    quiet = options["as_json"]
    if not quiet:
        n_params = sum(p.numel() for p in net.parameters())
        begun = f"going on from step {trainer.step} of {config.steps}" if resumed else f"{config.steps} steps"
        click.echo(f"{name}: {n_params:,} parameters, {origin}; {folder}: {begun}")
    figures: dict[str, float] = {}
    with reports(
        trainer.step, config.steps, config.log_interval, {"images": stream.batch_size}, silent=quiet
    ) as report:
        figures = trainer.run(report, options["until"])
    result = {"name": name, "init": origin, "step": trainer.step, "train": figures, **_evaluate(net, options, config)}
    if not quiet:
        accuracies = ", ".join(f"{key} {value:.2f}" for key, value in result.items() if "top" in key)
        click.echo(f"{name} after {trainer.step} steps: {accuracies}")
    else:
        click.echo(json.dumps(result, indent=2))
    if trainer.step == config.steps:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")


def _defaults(options: dict[str, Any]) -> None:
    """Fill in what depends on the data set."""
    imagenet = options["dataset"] == "imagenet"
    for key, value in (_IMAGENET if imagenet else _SMALL).items():
        if options[key] is None:
            options[key] = value
    options["scheduler"] = options["scheduler"] or ("exponential" if imagenet else "cosine")
    options["imsize"] = int(options["imsize"] or (224 if imagenet else 32))


def _images(options: dict[str, Any]) -> tuple[Any, int]:
    from onnx_ghn.vision import ImageSet, few_shot, load_dataset, train_stream

    # As published: all training images where the test images judge.
    split = "train" if options["images"] == "val" else "trainval"
    images = load_dataset(options["dataset"], options["data_dir"], split)
    if options["n_shots"]:
        images = few_shot(images, options["n_shots"])
    cutout = options["cutout_length"] if options["cutout"] else 0
    stream = train_stream(
        images,
        options["batch_size"],
        seed=options["seed"],
        cutout=cutout,
        resize_to=_resize_to(images, options) if isinstance(images, ImageSet) else None,
        channels_last=True,
    )
    return stream, len(images.classes)


def _resize_to(images: Any, options: dict[str, Any]) -> int | None:
    """Small images are scaled up for a network that is made for large ones."""
    own = int(images.images.shape[1])
    return int(options["imsize"]) if options["imsize"] > 64 > own else None


def _net(options: dict[str, Any], n_classes: int) -> tuple[Any, str, str]:
    """The network with the weights to start from, its name, and what those weights are."""
    from onnx_ghn.deepnets1m import Architecture
    from onnx_ghn.errors import OptionError
    from onnx_ghn.training.nets.starting_net import chosen_net, starting_ghn, starting_net
    from onnx_ghn.training.weights import perturb_

    ghn = starting_ghn(options)
    choice = chosen_net(options)
    if options["auxiliary"] and not isinstance(choice.net, Architecture):
        raise OptionError(f"--auxiliary: {choice.name} is of torchvision; DeepNets-1M networks have such classifiers")
    extra = {"auxiliary": True} if options["auxiliary"] else {}
    net, origin = starting_net(choice, options, ghn, n_classes, **extra)
    if options["beta"]:
        perturb_(net, "noise", options["beta"], options["seed"])
        origin += f", with noise of {options['beta']:g}"
    return net, choice.name, origin


def _evaluate(net: Any, options: dict[str, Any], config: Any) -> dict[str, float]:
    """Accuracies: with running statistics after training, with those of the batch where there was none."""
    from onnx_ghn.evaluate import accuracy, batch_statistics_mode
    from onnx_ghn.vision import ImageSet, eval_batches, load_dataset

    images = load_dataset(options["dataset"], options["data_dir"], options["images"])
    size = _resize_to(images, options) if isinstance(images, ImageSet) else None
    device = next(net.parameters()).device
    found: dict[str, float] = {}
    for prefix, noisy in (("", False), ("noisy_", True))[: 1 + options["noise"]]:
        batches = eval_batches(images, 64, noise=noisy, resize_to=size, channels_last=True)
        if config.steps:
            one = accuracy(lambda x: net.eval()(x.to(device)), batches)
        else:
            with batch_statistics_mode(net) as run:
                one = accuracy(lambda x, run=run: run(x.to(device)), batches)
        found |= {f"{prefix}top1": one.top1, f"{prefix}top5": one.top5}
    return found
