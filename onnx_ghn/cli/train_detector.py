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

import dataclasses
import json

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.options import Machine
from onnx_ghn.cli.terminal import begun, loop_progress, tell
from onnx_ghn.training.detection.settings import DetectorRunFolder, DetectorSettings
from onnx_ghn.training.trackers import Tracking

__all__ = ["train_detector"]


@click.command("train-detector", cls=Command, short_help="Train a detector on a predicted or other backbone.")
def train_detector(
    settings: DetectorSettings,
    run: DetectorRunFolder,
    tracking: Tracking,
    machine: Machine,
    as_json: bool = cli_options.as_json(),
) -> None:
    """Train a detector on a predicted, random or pretrained backbone, and measure COCO's average precision."""
    from onnx_ghn.training.detection.metrics import need_pycocotools
    from onnx_ghn.training.detection.recipe import DetectorRun

    need_pycocotools()
    training = DetectorRun(settings, run.folder, machine.set_up())
    training.trainer.track(tracking, dataclasses.asdict(settings))
    if not as_json:
        n_params = sum(p.numel() for p in training.trainer.net.parameters())
        told = begun(training.trainer, training.resumed)
        tell(f"{training.name}: {n_params:,} parameters, {training.origin}; {run.folder}: {told}")

    def show_epoch(figures: dict[str, float]) -> None:
        if not as_json:
            listed = ", ".join(f"{key} {value:.2f}" for key, value in figures.items() if key != "epoch")
            tell(f"epoch {figures['epoch']:.0f}: {listed}")

    with loop_progress(training.trainer, settings, {"images": settings.batch_size}, silent=as_json) as report:
        result = training.run(report, run.until, show_epoch)
    if as_json:
        click.echo(json.dumps(result, indent=2))
