"""Train or fine-tune a network: from a GHN's prediction, from random or from pretrained weights.

    python training/train_net.py --arch DARTS -d cifar10 --epochs 1 --ghn ghn-cifar10
    python training/train_net.py --split search --arch 35133 --file data/deepnets1m_search.hdf5 --epochs 50
    python training/train_net.py --arch 12 --split test --epochs 600 --cutout --drop-path-prob 0.2 --auxiliary
    python training/train_net.py --arch resnet50 --n-shots 100 --wd 1e-3 --epochs 50 --pretrained

Options and defaults are those of facebookresearch/ppuda (experiments/sgd/train_net.py, ppuda/config.py). A run that was
interrupted goes on from its last checkpoint in <save_dir>/<name> when the same command is given again.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.options import Machine
from onnx_ghn.cli.terminal import begun, loop_progress, tell
from onnx_ghn.errors import counted
from onnx_ghn.training.nets.settings import NetRunFolder, NetSettings
from onnx_ghn.training.trackers import Tracking

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["train_and_tell", "train_net"]


@click.command("train-net", cls=Command, short_help="Train a network from predicted or other weights.")
def train_net(
    settings: NetSettings,
    run: NetRunFolder,
    tracking: Tracking,
    machine: Machine,
    as_json: bool = cli_options.as_json(),
) -> None:
    """Train a network from predicted, random or pretrained weights, and measure its accuracy."""
    train_and_tell(settings, run.folder, machine.set_up(), run.until, as_json, tracking)


def train_and_tell(
    settings: NetSettings,
    folder: Path,
    device: str,
    until: int | None,
    as_json: bool,
    tracking: Tracking,
) -> None:
    """Train a network, and print what it reaches."""
    from onnx_ghn.training.nets.recipe import NetRun

    run = NetRun(settings, folder, device)
    run.trainer.track(tracking, dataclasses.asdict(settings))
    if not as_json:
        n_params = sum(p.numel() for p in run.trainer.net.parameters())
        told = begun(run.trainer, run.resumed)
        tell(f"{run.name}: {n_params:,} parameters, {run.origin}; {folder}: {told}")
    with loop_progress(run.trainer, settings, {"images": settings.batch_size}, silent=as_json) as report:
        result = run.run(report, until)
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        listed = ", ".join(f"{key} {value:.2f}" for key, value in result.items() if "top" in key)
        tell(f"{run.name} after {counted(result['step'], 'step')}: {listed}")
