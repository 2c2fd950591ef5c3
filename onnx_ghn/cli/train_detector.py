"""Train a detector of persons on the features of a network: predicted, random or pretrained.

    python training/train_detector.py -d PennFudanPed --arch resnet50 --ghn ghn2_imagenet.pt
    python training/train_detector.py -d PennFudanPed --arch DARTS --ghn ghn2_imagenet.pt
    python training/train_detector.py -d PennFudanPed --arch resnet50 --pretrained --detector mask

Defaults are those of facebookresearch/ppuda (experiments/sgd/detector, ppuda/config.py): Faster R-CNN, ten epochs of
SGD in batches of two, 0.005 divided by ten every three epochs, 50 test images. The data set is a folder with
PNGImages/ and PedMasks/ (https://www.cis.upenn.edu/~jshi/ped_html/PennFudanPed.zip, unpacked). A run that was
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
from onnx_ghn.errors import printable

__all__ = ["train_detector"]


@click.command("train-detector", cls=Command, short_help="Train a detector on a predicted or other backbone.")
@click.option(
    "-d",
    "--dataset",
    default="PennFudanPed",
    show_default=True,
    help="Folder of the data set, or its name in --data-dir.",
)
@cli_options.data_dir
@cli_options.network
@cli_options.start
@click.option(
    "--detector",
    type=click.Choice(["faster", "mask"]),
    default="faster",
    show_default=True,
    help="Faster or Mask R-CNN.",
)
@click.option("-b", "--batch-size", type=click.IntRange(min=1), default=2, show_default=True, help="Images per step.")
@click.option(
    "-e",
    "--epochs",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Passes over the images; 0 evaluates only.",
)
@cli_options.optimizer("sgd")
@click.option("--lr", type=float, default=0.005, show_default=True, help="Learning rate.")
@click.option("--wd", type=float, default=5e-4, show_default=True, help="Weight decay.")
@click.option(
    "--lr-step", type=click.IntRange(min=1), default=3, show_default=True, help="Epochs between decays of the rate."
)
@click.option("--gamma", type=float, default=0.1, show_default=True, help="Factor of each decay.")
@click.option(
    "--imsize",
    type=click.Choice(["32", "224"]),
    default="224",
    show_default=True,
    help="Image size that the network's stem is made for.",
)
@click.option(
    "--min-size",
    type=click.IntRange(min=32),
    default=800,
    show_default=True,
    help="Shorter side to which images are scaled.",
)
@click.option(
    "--max-size",
    type=click.IntRange(min=32),
    default=1333,
    show_default=True,
    help="Largest longer side of scaled images.",
)
@click.option("--anchors", default="32,64,128,256,512", show_default=True, help="Sides of the anchor boxes in pixels.")
@click.option(
    "--regions",
    type=click.IntRange(min=8),
    default=512,
    show_default=True,
    help="Regions of an image that the head learns from per step.",
)
@click.option(
    "--test-images", type=click.IntRange(min=1), default=50, show_default=True, help="Number of images to judge on."
)
@click.option("--amp", is_flag=True, help="Compute in bfloat16.")
@click.option("-s", "--seed", type=click.IntRange(min=0), default=1111, show_default=True, help="Random seed.")
@cli_options.run("DETECTOR", save=100, log=10)
@cli_options.until
@cli_options.machine
@cli_options.as_json
def train_detector(
    save_dir: str,
    name: str,
    until: int | None,
    threads: int | None,
    device: str | None,
    imsize: str,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train a detector on a predicted, random or pretrained backbone, and measure COCO's average precision."""
    from onnx_ghn.training.detection.metrics import need_pycocotools
    from onnx_ghn.training.detection.recipe import DetectorRecipe

    need_pycocotools()
    recipe = DetectorRecipe(imsize=int(imsize), **settings)
    folder = Path(save_dir) / name
    run = recipe.trainer(folder, cli_options.set_up({"threads": threads, "device": device}))
    trainer = run.trainer
    is_resumed = trainer.resume()
    if not as_json:
        n_params = sum(p.numel() for p in trainer.net.parameters())
        begun = f"going on from step {trainer.step} of {trainer.steps}" if is_resumed else f"{trainer.steps} steps"
        click.echo(f"{run.name}: {n_params:,} parameters, {run.origin}; {printable(str(folder))}: {begun}")

    def show_epoch(figures: dict[str, float]) -> None:
        if not as_json:
            listed = ", ".join(f"{key} {value:.2f}" for key, value in figures.items() if key != "epoch")
            click.echo(f"epoch {figures['epoch']:.0f}: {listed}")

    per_step = {"images": recipe.batch_size}
    with training_progress(trainer.step, trainer.steps, recipe.log_interval, per_step, silent=as_json) as report:
        figures = trainer.run(report, until, show_epoch)
    result = {
        "name": run.name,
        "init": run.origin,
        "step": trainer.step,
        "train": figures,
        "epochs": trainer.judged,
    }
    if as_json:
        click.echo(json.dumps(result, indent=2))
    if trainer.step == trainer.steps:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")
