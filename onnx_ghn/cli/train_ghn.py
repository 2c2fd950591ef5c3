"""Train a GHN on DeepNets-1M architectures drawn on the fly.

    python training/train_ghn.py -d cifar10 -D ./data -m 8 -n -v 50 --ln --name ghn2-cifar10      # GHN-2, as published
    torchrun --nproc_per_node 2 training/train_ghn.py -d cifar10 ... --threads 1                   # two processes

The same as `onnx-ghn train`. Options and defaults are those of facebookresearch/ppuda (ppuda/config.py), with GHN-3's
beside them. A run that was interrupted goes on from its last checkpoint in <save_dir>/<name> when the same command is
given again.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.commands import Command, Option
from onnx_ghn.cli.terminal import training_progress

__all__ = ["train_ghn"]

_at_least_1 = click.IntRange(min=1)
_share = functools.partial(click.option, type=click.FloatRange(0, 1), default=0.0, show_default=True)


@click.command("train", cls=Command)
@cli_options.dataset
@cli_options.data_dir
@click.option(
    "-b", "--batch-size", type=_at_least_1, help="Images that a network sees in a step (default: 64, for imagenet 256)."
)
@click.option("-e", "--epochs", type=_at_least_1, default=300, show_default=True, help="Passes over the images.")
@click.option("--steps", type=_at_least_1, help="Number of optimiser steps, instead of epochs.")
@cli_options.optimizer("adam")
@click.option("--lr", type=float, default=1e-3, show_default=True, help="Learning rate.")
@click.option("--wd", type=float, default=1e-5, show_default=True, help="Weight decay.")
@click.option(
    "--scheduler",
    type=click.Choice(["step", "cosine", "constant"]),
    default="step",
    show_default=True,
    help="Learning rate schedule.",
)
@click.option("--lr-steps", default="200,250", show_default=True, help="Epochs at which the step schedule decays.")
@click.option(
    "-g", "--gamma", type=float, default=0.1, show_default=True, help="Factor of each decay of the step schedule."
)
@click.option(
    "--warmup", type=click.IntRange(min=0), default=0, show_default=True, help="Number of steps of linear warm-up."
)
@click.option("--grad-clip", type=float, default=5.0, show_default=True, help="Largest gradient norm.")
@click.option(
    "--net-clip",
    type=float,
    default=float("inf"),
    help="Largest norm of the gradient of one network (default: unlimited).",
)
@click.option("-m", "--meta-batch-size", type=int, default=1, show_default=True, help="Networks per step.")
@click.option("--accumulate", type=int, default=1, show_default=True, help="Batches of networks per optimiser step.")
@click.option("--own-images", is_flag=True, help="Give each network of a step its own images.")
@click.option("-n", "--weight-norm", is_flag=True, help="Normalise predicted weights by fan-in.")
@click.option(
    "-v",
    "--virtual-edges",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Length of the longest virtual edge; 1 for no virtual edges.",
)
@click.option("--ln", is_flag=True, help="Apply layer norm to node embeddings.")
@click.option(
    "-H",
    "--hypernet",
    type=click.Choice(["gatedgnn", "mlp", "graphormer"]),
    default="gatedgnn",
    show_default=True,
    help="Kind of GHN.",
)
@click.option(
    "--decoder", type=click.Choice(["conv", "mlp"]), default="conv", show_default=True, help="Kind of decoder."
)
@click.option("--hid", type=int, default=32, show_default=True, help="Size of node embeddings.")
@click.option("--layers", type=int, default=3, show_default=True, help="Number of layers of the graphormer.")
@click.option("--heads", type=int, default=8, show_default=True, help="Number of attention heads of the graphormer.")
@click.option("--dirac", is_flag=True, help="Add a decoded multiple of the identity to each weight.")
@click.option("--pooled-flatten", is_flag=True, help="Decode the weight behind a flattened map as that of its mean.")
@click.option("--max-shape", type=int, default=64, show_default=True, help="Largest number of decoded channels.")
@click.option("--split", default="train", show_default=True, help="Split of DeepNets-1M whose rules draw the networks.")
@click.option("--max-cells", type=_at_least_1, default=10_000, help="Largest number of cells of a drawn network.")
@click.option("--max-params", type=_at_least_1, default=10**9, help="Largest number of parameters of a drawn network.")
@_share("--transformers", help="Share of plain transformers of 3 to 9 cells.")
@_share(
    "--families", help="Share of small networks of torchvision's families (MobileNet, ResNeXt, …) and of tutorials."
)
@click.option("--channels", type=_at_least_1, help="Initial channels of all networks, instead of the published draw.")
@click.option("--image-size", type=_at_least_1, help="Scale images to this size.")
@click.option("--label-smoothing", type=float, help="Label smoothing (default: 0, for imagenet 0.1).")
@click.option(
    "--ema", type=float, default=0.0, show_default=True, help="Decay of the saved average of weights; 0 for none."
)
@click.option("--amp", is_flag=True, help="Run the networks in bfloat16.")
@click.option("-s", "--seed", type=click.IntRange(min=0), default=1111, show_default=True, help="Random seed.")
@click.option(
    "-C",
    "--ghn",
    "ckpt",
    cls=Option,
    aliases=["--ckpt"],
    help="GHN to start from: a shipped name, a folder, or a published .pt file.",
)
@cli_options.run("EXP", save=500, log=100)
@cli_options.until
@cli_options.machine
def train_ghn(save_dir: str, until: int | None, threads: int | None, device: str | None, **settings: Any) -> None:
    """Train a GHN on architectures drawn on the fly."""
    from onnx_ghn.training.ghn.recipe import GHNRecipe
    from onnx_ghn.training.group import join_group

    recipe = GHNRecipe(**settings)
    group = join_group()  # first: it chooses the GPU of this process
    machine = {"threads": threads, "device": device}
    folder = Path(save_dir) / recipe.name
    trainer = recipe.trainer(folder, cli_options.set_up(machine), group, given=_given())
    if trainer.resume() and group.rank == 0:
        click.echo(f"{folder}: going on from step {trainer.step} of {trainer.steps}")
    elif group.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        record = dataclasses.asdict(recipe) | machine | {"save_dir": save_dir, "until": until}
        (folder / "options.json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    nets = recipe.meta_batch_size * recipe.accumulate
    per_step = {"nets": nets, "images": nets * recipe.n_images}
    with training_progress(
        trainer.step, trainer.steps, recipe.log_interval, per_step, silent=group.rank != 0
    ) as report:
        trainer.run(report, until)


def _given() -> set[str]:
    """The settings that were given on the command line, not by their defaults."""
    context = click.get_current_context()
    source = click.core.ParameterSource.COMMANDLINE
    return {name for name in context.params if context.get_parameter_source(name) is source}
