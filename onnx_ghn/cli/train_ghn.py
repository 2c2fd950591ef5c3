"""Train a GHN on DeepNets-1M architectures drawn on the fly.

    python training/train_ghn.py -d cifar10 -D ./data -m 8 -n -v 50 --ln --name ghn2-cifar10      # GHN-2, as published
    torchrun --nproc_per_node 2 training/train_ghn.py -d cifar10 ... --threads 1                   # two processes

The same as `onnx-ghn train`. Options and defaults are those of facebookresearch/ppuda (ppuda/config.py), with GHN-3's
beside them. A run that was interrupted goes on from its last checkpoint in <save_dir>/<name> when the same command is
given again.
"""

from __future__ import annotations

import dataclasses

import click

from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.options import Machine, given
from onnx_ghn.cli.terminal import begun, loop_progress, tell
from onnx_ghn.training.ghn.settings import GHNRun, GHNSettings
from onnx_ghn.training.trackers import Tracking

__all__ = ["train_ghn"]


@click.command("train", cls=Command)
def train_ghn(settings: GHNSettings, run: GHNRun, tracking: Tracking, machine: Machine) -> None:
    """Train a GHN on architectures drawn on the fly."""
    from onnx_ghn.training.ghn.recipe import ghn_trainer
    from onnx_ghn.training.group import join_group
    from onnx_ghn.training.logs import write_record

    group = join_group()  # first: it chooses the GPU of this process
    trainer = ghn_trainer(settings, run.folder, machine.set_up(), group, given=given())
    trainer.track(tracking, dataclasses.asdict(settings))
    if trainer.resume() and group.rank == 0:
        tell(f"{run.folder}: {begun(trainer, resumed=True)}")
    elif group.rank == 0:
        record = {key: value for part in (settings, machine, run) for key, value in dataclasses.asdict(part).items()}
        write_record(run.folder / "options.json", record)
    nets = settings.meta_batch_size * settings.accumulate
    per_step = {"nets": nets, "images": nets * settings.batch_size}
    with loop_progress(trainer, settings, per_step, silent=group.rank != 0) as report:
        trainer.run(report, run.until)
