"""Train a GHN on DeepNets-1M architectures drawn on the fly.

    python training/train_ghn.py -d cifar10 -D ./data -m 8 -n -v 50 --ln --name ghn2-cifar10      # GHN-2, as published
    torchrun --nproc_per_node 2 training/train_ghn.py -d cifar10 ... --threads 1                   # two processes

The same as `onnx-ghn train`. Options and defaults are those of facebookresearch/ppuda (ppuda/config.py), with GHN-3's
beside them. A run that was interrupted goes on from its last checkpoint in <save_dir>/<name> when the same command is
given again.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.commands import Command, Option

__all__ = ["train_ghn"]

_PUBLISHED_BATCH = {"imagenet": 256}
#: Options of which a GHN is made, and the fields of its config that they set.
_SHAPE = {name: name for name in ("hypernet", "decoder", "weight_norm", "hid", "heads", "layers", "max_shape")}
_SHAPE |= {"dirac": "dirac", "pooled_flatten": "pooled_flatten", "ln": "layernorm", "virtual_edges": "ve"}
_at_least_1 = click.IntRange(min=1)
_share = functools.partial(click.option, type=click.FloatRange(0, 1), default=0.0, show_default=True)


@click.command("train", cls=Command)
@cli_options.dataset
@cli_options.data_dir
@click.option("-b", "--batch-size", type=_at_least_1, help="Images a step: 64, for imagenet 256.")
@click.option("-e", "--epochs", type=_at_least_1, default=300, show_default=True)
@click.option("--steps", type=_at_least_1, help="Optimiser steps, instead of epochs.")
@cli_options.optimizer("adam")
@click.option("--lr", type=float, default=1e-3, show_default=True)
@click.option("--wd", type=float, default=1e-5, show_default=True)
@click.option("--scheduler", type=click.Choice(["step", "cosine", "constant"]), default="step", show_default=True)
@click.option("--lr-steps", default="200,250", show_default=True, help="Epochs at which the step schedule decays.")
@click.option("-g", "--gamma", type=float, default=0.1, show_default=True, help="By how much it decays.")
@click.option("--warmup", type=click.IntRange(min=0), default=0, show_default=True, help="Steps of linear warm-up.")
@click.option("--grad-clip", type=float, default=5.0, show_default=True)
@click.option("--net-clip", type=float, default=float("inf"), help="Largest norm of one net's gradient.")
@click.option("-m", "--meta-batch-size", type=int, default=1, show_default=True, help="Nets a step.")
@click.option("--accumulate", type=int, default=1, show_default=True, help="Batches per optimiser step.")
@click.option("--own-images", is_flag=True, help="Images of its own for each net of a step, not the same for all.")
@click.option("-n", "--weight-norm", is_flag=True, help="Normalise predicted weights by fan-in.")
@click.option(
    "-v",
    "--virtual-edges",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Longest virtual edge; 1: none.",
)
@click.option("--ln", is_flag=True, help="Layer norm over node embeddings.")
@click.option(
    "-H", "--hypernet", type=click.Choice(["gatedgnn", "mlp", "graphormer"]), default="gatedgnn", show_default=True
)
@click.option("--decoder", type=click.Choice(["conv", "mlp"]), default="conv", show_default=True)
@click.option("--hid", type=int, default=32, show_default=True)
@click.option("--layers", type=int, default=3, show_default=True, help="Of graphormer.")
@click.option("--heads", type=int, default=8, show_default=True, help="Of graphormer.")
@click.option("--dirac", is_flag=True, help="Add a decoded multiple of the identity to each weight.")
@click.option("--pooled-flatten", is_flag=True, help="Let the weight of a flattened map be that of its mean.")
@click.option("--max-shape", type=int, default=64, show_default=True, help="Largest decoded channels.")
@click.option("--split", default="train", show_default=True, help="Of DeepNets-1M, whose rules draw the nets.")
@click.option("--max-cells", type=_at_least_1, default=10_000, help="Draw no deeper nets than this.")
@click.option("--max-params", type=_at_least_1, default=10**9, help="Draw no larger nets than this.")
@_share("--transformers", help="Share of plain transformers of 3 to 9 cells.")
@_share(
    "--families", help="Share of small networks of torchvision's families (MobileNet, ResNeXt, …) and of tutorials."
)
@click.option("--channels", type=_at_least_1, help="One width for all nets, instead of the published draw.")
@click.option("--image-size", type=_at_least_1, help="Scale images to this size.")
@click.option("--label-smoothing", type=float, help="0, for imagenet 0.1.")
@click.option("--ema", type=float, default=0.0, show_default=True, help="Decay of an average of weights.")
@click.option("--amp", is_flag=True, help="Nets in bfloat16.")
@click.option("-s", "--seed", type=click.IntRange(min=0), default=1111, show_default=True)
@click.option(
    "-C", "--ghn", "ckpt", cls=Option, aliases=["--ckpt"], help="A GHN to start from: a name, a folder, a .pt."
)
@cli_options.run("EXP", save=500, log=100)
@cli_options.until
@cli_options.machine
def train_ghn(**options: Any) -> None:
    """Train a GHN on architectures drawn on the fly."""
    from onnx_ghn.training.ghn.trainer import GHNTrainer
    from onnx_ghn.training.group import join_group
    from onnx_ghn.training.logs import reports

    group = join_group()  # first: it chooses the GPU of this process
    device = cli_options.set_up(options)
    images, num_classes = _images(options)
    steps = options["steps"] or options["epochs"] * images.steps_per_epoch
    ghn = _ghn(options, num_classes).to(device)
    folder = Path(options["save_dir"]) / options["name"]
    trainer = GHNTrainer(
        ghn, _nets(options, num_classes), images, _config(options, steps, images.steps_per_epoch), folder, group
    )
    if trainer.resume() and group.rank == 0:
        click.echo(f"{folder}: going on from step {trainer.step} of {steps}")
    elif group.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "options.json").write_text(json.dumps(options, indent=2) + "\n")
    nets = options["meta_batch_size"] * options["accumulate"]
    per_step = {"nets": nets, "images": nets * images.batch_size}
    with reports(trainer.step, steps, options["log_interval"], per_step, silent=group.rank != 0) as report:
        trainer.run(report, options["until"])


def _images(options: dict[str, Any]) -> tuple[Any, int]:
    """The training stream (a batch depends on the seed and the step alone), and the number of classes."""
    from onnx_ghn.vision import load_dataset, train_stream

    dataset = options["dataset"]
    batch_size = options["batch_size"] or _PUBLISHED_BATCH.get(dataset, 64)
    found = load_dataset(dataset, options["data_dir"], "train")
    stream = train_stream(found, batch_size, seed=options["seed"], resize_to=options["image_size"], channels_last=True)
    return stream, len(found.classes)


def _nets(options: dict[str, Any], num_classes: int) -> Any:
    from onnx_ghn.training.ghn.architectures import ArchitectureStream, Curriculum

    limits = Curriculum(
        options["max_cells"],
        options["max_params"],
        options["channels"],
        any_size=options["image_size"] is not None,
        transformers=options["transformers"],
        families=options["families"],
    )
    told = {"large_images": options["dataset"] == "imagenet", "image_size": options["image_size"] or 32}
    return ArchitectureStream(options["split"], num_classes, options["seed"], limits, **told)


def _ghn(options: dict[str, Any], num_classes: int) -> Any:
    from onnx_ghn.ghn import load_ghn, new_ghn

    config = _ghn_config(options, num_classes)
    if not options["ckpt"]:
        return new_ghn(config, seed=options["seed"])
    ghn = load_ghn(options["ckpt"])
    _check_shape(options["ckpt"], ghn.config, config)
    return ghn


def _check_shape(ckpt: str, found: Any, asked: Any) -> None:
    """Refuse options that contradict the GHN to start from."""
    from onnx_ghn.errors import OptionError

    context = click.get_current_context()
    for option, field in _SHAPE.items():
        is_told = context.get_parameter_source(option) is click.core.ParameterSource.COMMANDLINE
        own, other = (getattr(config, field) for config in (found, asked))
        if option == "max_shape":  # that of kernels goes with the data set
            own, other = own[0], other[0]
        if is_told and own != other:
            raise OptionError(f"`{option}`: {ckpt} has {field} {own}, not {other}; leave it out, or `ckpt`")


def _ghn_config(options: dict[str, Any], num_classes: int) -> Any:
    from onnx_ghn.ghn import GHNConfig

    graphormer = options["hypernet"] == "graphormer"
    side = 16 if options["dataset"] == "imagenet" else 11
    channels = options["max_shape"]
    return GHNConfig(
        max_shape=(channels, channels, side, side),
        num_classes=num_classes,
        hypernet=options["hypernet"],
        decoder=options["decoder"],
        weight_norm=options["weight_norm"] or graphormer,
        ve=options["virtual_edges"] > 1 or graphormer,
        ve_cutoff=max(options["virtual_edges"], 1) if options["virtual_edges"] > 1 else 50,
        layernorm=options["ln"] or graphormer,
        hid=options["hid"],
        heads=options["heads"],
        dirac=options["dirac"],
        pooled_flatten=options["pooled_flatten"],
        layers=options["layers"],
        kernel_slice="centre" if graphormer else "corner",
        kernel_overflow="interpolate" if graphormer else "tile",
        graph_rules="onnx",
        name=options["name"],
        dataset=str(options["dataset"]),
    )


def _config(options: dict[str, Any], steps: int, steps_per_epoch: int) -> Any:
    from onnx_ghn.errors import OptionError
    from onnx_ghn.training.ghn.trainer import TrainConfig

    smoothing = options["label_smoothing"]
    if smoothing is None:
        smoothing = 0.1 if options["dataset"] == "imagenet" else 0.0
    epochs = options["lr_steps"].split(",")
    if not all(epoch.strip().isdigit() for epoch in epochs if epoch):
        raise OptionError(f"--lr-steps {options['lr_steps']}: write epochs, as 200,250")
    boundaries = tuple(int(epoch) * steps_per_epoch for epoch in epochs if epoch)
    names = (
        "meta_batch_size",
        "opt",
        "lr",
        "wd",
        "grad_clip",
        "net_clip",
        "scheduler",
        "gamma",
        "warmup",
        "amp",
        "ema",
    )
    names += ("accumulate", "own_images", "seed", "save_interval", "log_interval")
    return TrainConfig(
        steps=steps, lr_steps=boundaries, label_smoothing=smoothing, **{name: options[name] for name in names}
    )
