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
from onnx_ghn.cli.terminal import training_progress

__all__ = ["train_net"]


@click.command("train-net", cls=Command, short_help="Train a network from predicted or other weights.")
@cli_options.dataset
@cli_options.data_dir
@cli_options.network
@cli_options.start
@click.option("-b", "--batch-size", type=click.IntRange(min=1), help="Images per step (default: 96, for imagenet 128).")
@click.option(
    "-e",
    "--epochs",
    type=click.IntRange(min=0),
    help="Passes over the images (default: 600, for imagenet 250); 0 evaluates only.",
)
@cli_options.optimizer("sgd")
@click.option("--lr", type=float, help="Learning rate (default: 0.025, for imagenet 0.1).")
@click.option("--wd", type=float, help="Weight decay (default: 3e-4, for imagenet 3e-5).")
@click.option("--grad-clip", type=float, default=5.0, show_default=True, help="Largest gradient norm.")
@click.option(
    "--scheduler",
    type=click.Choice(["cosine", "exponential", "constant"]),
    help="Learning rate schedule (default: cosine, for imagenet exponential).",
)
@click.option("--n-shots", type=click.IntRange(min=1), help="Number of training images of each class (default: all).")
@click.option(
    "--beta", type=float, default=0.0, help="Noise to add to the initial weights, as a share of each tensor's spread."
)
@click.option("--cutout", is_flag=True, help="Blank a square of each training image.")
@click.option("--cutout-length", type=click.IntRange(min=1), default=16, show_default=True, help="Side of that square.")
@click.option(
    "--drop-path-prob", type=float, default=0.0, show_default=True, help="Probability of dropping a path at the end."
)
@click.option("--auxiliary", is_flag=True, help="Train with an auxiliary classifier.")
@click.option("--auxiliary-weight", type=float, default=0.4, show_default=True, help="Weight of its loss.")
@click.option(
    "--imsize",
    type=click.Choice(["32", "224"]),
    help="Image size that the network is made for (default: 32, for imagenet 224).",
)
@click.option(
    "--images", type=click.Choice(["val", "test"]), default="test", show_default=True, help="Images to judge on."
)
@click.option("--noise", is_flag=True, help="Also judge on images with Gaussian noise.")
@click.option("--amp", is_flag=True, help="Compute in bfloat16.")
@click.option("-s", "--seed", type=click.IntRange(min=0), default=1111, show_default=True, help="Random seed.")
@cli_options.run("NET", save=500, log=100)
@cli_options.until
@cli_options.machine
@cli_options.as_json
def train_net(
    save_dir: str,
    name: str,
    until: int | None,
    threads: int | None,
    device: str | None,
    imsize: str | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train a network from predicted, random or pretrained weights, and measure its accuracy."""
    from onnx_ghn.training.nets.recipe import NetRecipe

    recipe = NetRecipe.with_defaults(imsize=None if imsize is None else int(imsize), **settings)
    folder = Path(save_dir) / name
    run = recipe.trainer(folder, cli_options.set_up({"threads": threads, "device": device}))
    trainer = run.trainer
    is_resumed = trainer.resume()
    if not as_json:
        n_params = sum(p.numel() for p in trainer.net.parameters())
        begun = f"going on from step {trainer.step} of {trainer.steps}" if is_resumed else f"{trainer.steps} steps"
        click.echo(f"{run.name}: {n_params:,} parameters, {run.origin}; {folder}: {begun}")
    per_step = {"images": recipe.batch_size}
    with training_progress(trainer.step, trainer.steps, recipe.log_interval, per_step, silent=as_json) as report:
        figures = trainer.run(report, until)
    accuracies = recipe.judge(trainer.net)
    result = {"name": run.name, "init": run.origin, "step": trainer.step, "train": figures, **accuracies}
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        listed = ", ".join(f"{key} {value:.2f}" for key, value in accuracies.items())
        click.echo(f"{run.name} after {trainer.step} steps: {listed}")
    if trainer.step == trainer.steps:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")
