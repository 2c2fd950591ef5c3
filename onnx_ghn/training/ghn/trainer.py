"""Training a GHN: its state, its step, and what is published of it."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from onnx_ghn.ghn import GHN, save_ghn
from onnx_ghn.json_types import JsonView
from onnx_ghn.settings import required
from onnx_ghn.training.classifiers import ImageSource
from onnx_ghn.training.ghn.architectures import ArchitectureStream, Net
from onnx_ghn.training.ghn.settings import GHNTraining
from onnx_ghn.training.ghn.step import ghn_step
from onnx_ghn.training.ghn.tasks import Task, draw_tasks
from onnx_ghn.training.group import Group
from onnx_ghn.training.loop import TrainingLoop
from onnx_ghn.training.optimizers import Optimizers
from onnx_ghn.training.schedule import Schedule, constant, cosine_after, linear_warmup, step_decay
from onnx_ghn.training.state import Settings, TrainingState, follow

__all__ = ["GHNTrainer", "TrainConfig"]

logger = logging.getLogger(__name__)

#: Fields of a GHN's config that do not change what a run computes, or that name it.
_FREE = frozenset({"trained", "name", "dataset", "seed", "first_classes"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(GHNTraining):
    """How to train, counted in steps."""

    steps: int = required("Number of optimiser steps in all.", least=1)
    lr_steps: tuple[int, ...] = ()  # steps at which "step" multiplies the rate by gamma

    def schedule(self) -> Schedule:
        """The learning rate of each step."""
        rates = {
            "constant": constant(self.lr),
            "cosine": cosine_after(self.lr, self.warmup, self.steps),
            "step": step_decay(self.lr, self.lr_steps, self.gamma),
        }
        return linear_warmup(rates[self.scheduler], self.lr, self.warmup)


class GHNTrainer(TrainingLoop):
    """The training of a GHN.

    Args:
        ghn: to train, on its device.
        nets: gives the networks of a step from its number alone.
        images: gives the images of a step from its number alone.
        config: how to train.
        folder: of the checkpoint and the log; None keeps nothing.
        group: of processes; each takes its share of the nets of a step.
        further: data sets that `config.also_share` of the networks learn from, with networks for their classes.
        data: what images and networks are drawn by; a checkpoint of others is refused.
    """

    def __init__(
        self,
        ghn: GHN,
        nets: ArchitectureStream,
        images: ImageSource,
        config: TrainConfig,
        folder: Path | None = None,
        group: Group | None = None,
        further: Sequence[Task] = (),
        data: JsonView | None = None,
    ) -> None:
        self.ghn, self.nets, self.images, self.config = ghn, nets, images, config
        self.further = further
        self.optimizers = Optimizers(ghn, config)
        state = TrainingState(
            ghn,
            self.optimizers,
            {
                "ghn": Settings.of(ghn.config, _FREE),
                "train": Settings.of(config),
                "data": Settings(data or {}, late=True),
            },
            part="ghn",
            average=follow(ghn, self._decay) if config.ema else None,
        )
        super().__init__(
            self._train_step, config.schedule(), state, config, steps=config.steps, folder=folder, group=group
        )

    def publish(self, folder: Path) -> None:
        """Write the GHN as `load_ghn` reads it, with the average of weights where one is kept."""
        save_ghn(self.averaged(), folder / "ghn")

    def averaged(self) -> GHN:
        """The GHN to evaluate: with the average of weights where one is kept."""
        ghn = GHN(dataclasses.replace(self.ghn.config, trained=True))
        ghn.load_state_dict(self.ghn.state_dict() | self.state.averaged())
        return ghn.eval()

    def _decay(self) -> float:
        # Early on the average follows quickly: the first thousands of steps would weigh it down for long.
        return min(self.config.ema, (1 + self.step) / (10 + self.step))

    def _train_step(self, step: int) -> dict[str, float]:
        config = self.config
        self.ghn.train()
        self.optimizers.zero_grad()
        loss, correct, n_images, n_finite, n_nets = 0.0, 0, 0, 0, 0
        failed = False
        for part in range(config.accumulate):
            number = step * config.accumulate + part
            nets = self._drawn(number)
            mine = self.group.share(list(enumerate(nets)), [len(net.graph) for net, _ in nets])
            try:
                result = ghn_step(
                    self.ghn,
                    [net for _, (net, _) in mine],
                    self._batches(number, [(index, images) for index, (_, images) in mine]),
                    n_nets=len(nets) * config.accumulate,
                    net_clip=config.net_clip,
                    label_smoothing=config.label_smoothing,
                )
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                failed = True
                break
            loss, correct = loss + result.loss, correct + result.correct
            n_images, n_finite, n_nets = n_images + result.n_images, n_finite + result.n_finite, n_nets + len(nets)
        parameters = list(self.optimizers.parameters.values())
        totals = self.group.reduce(parameters, [loss, correct, n_images, n_finite, float(failed)])
        norm = self.optimizers.clip()
        # A net that gave nothing finite is left out of the step's mean; a step is lost where no net is left.
        is_lost = not totals[3] or bool(totals[4]) or not math.isfinite(norm)
        if is_lost:
            logger.warning("step %d skipped: %d of %d nets finite, gradient norm %s", step, totals[3], n_nets, norm)
            return {"skipped": 1.0}  # no figures: a mean would take them for those of a step
        self.optimizers.step()
        if self.state.average is not None:
            self.state.average.update_parameters(self.ghn)
        return {
            "loss": totals[0] / totals[3],
            "top1": 100 * totals[1] / totals[2],
            "grad_norm": norm,
            "skipped": 0.0,
        }

    def _drawn(self, number: int) -> list[tuple[Net, ImageSource]]:
        """The networks of a meta-batch, and where the images of each come from."""
        first, config = Task(self.nets, self.images), self.config
        return draw_tasks(first, self.further, config.also_share, number, config.meta_batch_size)

    def _batches(self, number: int, nets: Sequence[tuple[int, ImageSource]]) -> list[tuple[Tensor, Tensor]]:
        """Images and classes of nets of a meta-batch, by their indices in it and where their images come from."""
        size = self.config.meta_batch_size
        steps = [number * size + index if self.config.own_images else number for index, _ in nets]
        made: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}  # networks of one data set may share their images
        for step, (_, source) in zip(steps, nets, strict=True):
            if (id(source), step) not in made:
                made[id(source), step] = self._batch(source, step)
        return [made[id(source), step] for step, (_, source) in zip(steps, nets, strict=True)]

    def _batch(self, source: ImageSource, step: int) -> tuple[Tensor, Tensor]:
        images, targets = source.batch(step)
        dtype = torch.bfloat16 if self.config.amp else torch.float32
        images = images.to(self.ghn.device, dtype).contiguous(memory_format=torch.channels_last)
        return images, targets.to(self.ghn.device)
