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
from onnx_ghn.errors import printable

__all__ = ["train_detector"]


@click.command("train-detector", cls=Command, short_help="Train a detector on a predicted or other backbone.")
@click.option("-d", "--dataset", default="PennFudanPed", show_default=True, help="A folder, or one below data_dir.")
@cli_options.data_dir
@cli_options.network
@cli_options.start
@click.option("--detector", type=click.Choice(["faster", "mask"]), default="faster", show_default=True, help="R-CNN.")
@click.option("-b", "--batch-size", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("-e", "--epochs", type=click.IntRange(min=0), default=10, show_default=True, help="0 evaluates only.")
@cli_options.optimizer("sgd")
@click.option("--lr", type=float, default=0.005, show_default=True)
@click.option("--wd", type=float, default=5e-4, show_default=True)
@click.option(
    "--lr-step", type=click.IntRange(min=1), default=3, show_default=True, help="Epochs between changes of rate."
)
@click.option("--gamma", type=float, default=0.1, show_default=True, help="What the rate is multiplied by then.")
@click.option(
    "--imsize", type=click.Choice(["32", "224"]), default="224", show_default=True, help="Form of the network's stem."
)
@click.option("--min-size", type=click.IntRange(min=32), default=800, show_default=True, help="Shorter side of images.")
@click.option("--max-size", type=click.IntRange(min=32), default=1333, show_default=True, help="Longer side at most.")
@click.option("--anchors", default="32,64,128,256,512", show_default=True, help="Sides of boxes to begin from.")
@click.option("--regions", type=click.IntRange(min=8), default=512, show_default=True, help="Of an image, a step.")
@click.option("--test-images", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--amp", is_flag=True, help="In bfloat16.")
@click.option("-s", "--seed", type=click.IntRange(min=0), default=1111, show_default=True)
@cli_options.run("DETECTOR", save=100, log=10)
@cli_options.until
@cli_options.machine
@cli_options.as_json
def train_detector(**options: Any) -> None:
    """Train a detector on a predicted, random or pretrained backbone, and measure COCO's average precision."""
    from onnx_ghn.training.detection.metrics import need_pycocotools
    from onnx_ghn.training.detection.pedestrians import find_pedestrians
    from onnx_ghn.training.detection.trainer import DetectorConfig, DetectorTrainer
    from onnx_ghn.training.logs import reports

    need_pycocotools()
    device = cli_options.set_up(options)
    home = Path(options["dataset"])
    home = home if home.is_dir() else Path(options["data_dir"]) / options["dataset"]
    train, test = find_pedestrians(home, options["test_images"], options["seed"])
    net, name, origin = _detector(options)
    told = (
        "epochs",
        "batch_size",
        "opt",
        "lr",
        "wd",
        "lr_step",
        "gamma",
        "amp",
        "seed",
        "save_interval",
        "log_interval",
    )
    config = DetectorConfig(**{key: options[key] for key in told})
    folder = Path(options["save_dir"]) / options["name"]
    net = net.to(device)
    shape = (
        "arch",
        "detector",
        "imsize",
        "min_size",
        "max_size",
        "anchors",
        "regions",
        "init_channels",
        "layers",
        "test_images",
    )
    full_origin = f"{origin}; {', '.join(str(options[key]) for key in shape)}; {home.name}"
    trainer = DetectorTrainer(net, train, test, config, folder, full_origin, masks=options["detector"] == "mask")
    resumed, quiet = trainer.resume(), options["as_json"]
    if not quiet:
        n_params = sum(p.numel() for p in net.parameters())
        begun = f"going on from step {trainer.step} of {trainer.steps}" if resumed else f"{trainer.steps} steps"
        click.echo(f"{name}: {n_params:,} parameters, {origin}; {printable(str(folder))}: {begun}")

    def judged(figures: dict[str, float]) -> None:
        if not quiet:
            told = ", ".join(f"{key} {value:.2f}" for key, value in figures.items() if key != "epoch")
            click.echo(f"epoch {figures['epoch']:.0f}: {told}")

    per_second = {"images": config.batch_size}
    with reports(trainer.step, trainer.steps, config.log_interval, per_second, silent=quiet) as report:
        figures = trainer.run(report, judged, options["until"])
    result = {"name": name, "init": origin, "step": trainer.step, "train": figures, "epochs": trainer.judged}
    if quiet:
        click.echo(json.dumps(result, indent=2))
    if trainer.step == trainer.steps:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")


def _detector(options: dict[str, Any]) -> tuple[Any, str, str]:
    """The detector, its backbone's name, and what the backbone's weights are."""
    import torch

    from onnx_ghn.errors import OptionError
    from onnx_ghn.training.detection.detectors import Features, make_detector
    from onnx_ghn.training.nets.starting_net import chosen_net, starting_ghn, starting_net

    ghn = starting_ghn(options)
    sides = [side for side in options["anchors"].split(",") if side.strip().isdigit()]
    anchors = tuple(int(side) for side in sides)
    if len(sides) != len(options["anchors"].split(",")) or not all(anchors):
        raise OptionError(f"--anchors {options['anchors']}: write sides in pixels, as 32,64,128")
    if options["min_size"] > options["max_size"]:
        raise OptionError(f"--min-size {options['min_size']} is above --max-size {options['max_size']}")
    choice = chosen_net(options)
    n_classes = ghn.config.num_classes if ghn is not None else 1000  # of the classifier, which is dropped
    net, origin = starting_net(choice, options, ghn, n_classes)
    features = Features(net, choice)
    torch.manual_seed(options["seed"])  # the head's weights are the same whatever the backbone drew
    scaling = {key: options[key] for key in ("min_size", "max_size", "regions")}
    detector = make_detector(features, options["detector"], anchors=anchors, **scaling)
    with_ = "" if ghn is not None or options["pretrained"] else "with "
    return detector, choice.name, f"backbone {with_}{origin}"
