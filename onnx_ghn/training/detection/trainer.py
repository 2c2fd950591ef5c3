"""Training a detector: its settings, its step, and its average precision after each epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.training.detection.metrics import coco_metrics
from onnx_ghn.training.detection.pedestrians import Pedestrians, Sample
from onnx_ghn.training.detection.settings import DetectorConfig
from onnx_ghn.training.logs import Report
from onnx_ghn.training.loop import TrainingLoop
from onnx_ghn.training.optimizers import Optimizers
from onnx_ghn.training.schedule import Schedule, by_epoch, exponential, ramp
from onnx_ghn.training.state import Settings, TrainingState

__all__ = ["DetectorTrainer", "detector_schedule"]

_WARMUP_FROM, _WARMUP_STEPS = 1e-3, 1000


def detector_schedule(config: DetectorConfig, steps_per_epoch: int) -> Schedule:
    """The learning rate of each step: in the first epoch it grows from a thousandth (at most 1,000 steps long)."""
    rates = by_epoch(exponential(config.lr, config.gamma, config.lr_step), steps_per_epoch)
    return ramp(rates, min(_WARMUP_STEPS, steps_per_epoch - 1), _WARMUP_FROM)


class DetectorTrainer(TrainingLoop):
    """The training of a detector.

    Args:
        net: a detector of torchvision, on its device.
        train: images to train on.
        test: images to judge on after each epoch.
        config: how to train.
        folder: of the checkpoint, the log and the trained weights; None keeps nothing.
        origin: what the weights to start from are; a checkpoint of another origin is refused.
        masks: judge the masks too.
    """

    def __init__(
        self,
        net: nn.Module,
        train: Pedestrians,
        test: Pedestrians,
        config: DetectorConfig,
        folder: Path | None = None,
        origin: str = "",
        *,
        masks: bool = False,
    ) -> None:
        self.net, self.train, self.test, self.config = net, train, test, config
        self._masks = masks
        self._on_epoch: Callable[[dict[str, float]], None] | None = None
        self.steps_per_epoch = -(-len(train) // config.batch_size)  # the last batch may be smaller, as published
        settings = Settings.of(config, origin=origin, images=len(train))
        state = TrainingState(net, Optimizers(net, config), {"settings": settings}, extra={"judged": []})
        steps = config.epochs * self.steps_per_epoch
        super().__init__(
            self._train_step,
            detector_schedule(config, self.steps_per_epoch),
            state,
            config,
            steps=steps,
            folder=folder,
            weights_name="detector.safetensors",
        )

    @property
    def judged(self) -> list[dict[str, float]]:
        """The figures before training and after each epoch: epoch, AP, AP50, ..."""
        judged: list[dict[str, float]] = self.state.extra["judged"]
        return judged

    def run(
        self,
        report: Report | None = None,
        until: int | None = None,
        on_epoch: Callable[[dict[str, float]], None] | None = None,
    ) -> dict[str, float]:
        """Train, judging before the first step and after each epoch; see `TrainingLoop.run`.

        Args:
            report: is called with the number of steps done and the figures of each step.
            until: stop after this step for now.
            on_epoch: is called with the figures of the test images.

        Raises:
            RuntimeFailure: the loss is not finite. DataError: an image that cannot be read.
        """
        self._on_epoch = on_epoch
        if not self.judged:
            self._judge(0)
        return super().run(report, until)

    def after_step(self) -> Mapping[str, float] | None:
        """Judge at the end of an epoch."""
        epoch, rest = divmod(self.step, self.steps_per_epoch)
        return None if rest else self._judge(epoch)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """COCO's figures on the test images, in percent; those of masks with `mask_` before the name."""
        self.net.eval()
        truths, answers = [], []
        for index in range(len(self.test)):  # one by one, as published: images of all sizes
            image, truth = self.test.sample(index)
            (answer,) = self.net([image.to(self.state.device)])
            truths.append(truth)
            answers.append({name: tensor.float().cpu() for name, tensor in answer.items()})
        figures = coco_metrics(truths, answers)
        if self._masks:
            figures |= {f"mask_{name}": value for name, value in coco_metrics(truths, answers, "segm").items()}
        return figures

    def _judge(self, epoch: int) -> dict[str, float]:
        figures = {"epoch": float(epoch), **self.evaluate()}
        self.judged.append(figures)
        if self._on_epoch is not None:
            self._on_epoch(figures)
        return figures

    def _batch(self, step: int) -> list[Sample]:
        """The images of a step, half of them mirrored: from the seed and the step alone."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self.config.seed, 1, epoch)).permutation(len(self.train)).tolist()
        size = self.config.batch_size
        mirrors = np.random.default_rng((self.config.seed, 2, step)).random(size) < 0.5
        chosen = order[place * size : (place + 1) * size]
        return [self.train.sample(i, mirror=bool(mirror)) for i, mirror in zip(chosen, mirrors, strict=False)]

    def _train_step(self, step: int) -> dict[str, float]:
        device, optimizers = self.state.device, self.state.optimizers
        self.net.train()
        batch = self._batch(step)
        images = [image.to(device) for image, _ in batch]
        targets = [{name: tensor.to(device) for name, tensor in target.items()} for _, target in batch]
        optimizers.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.amp):
            losses: dict[str, Tensor] = self.net(images, targets)
        loss = torch.stack([part.float() for part in losses.values()]).sum()
        if not torch.isfinite(loss):
            raise RuntimeFailure(f"step {step}: the loss is {float(loss.detach())}; lower `lr`")
        torch.autograd.backward(loss)
        if math.isfinite(self.config.grad_clip):
            optimizers.clip()
        optimizers.step()
        parts = {name.removeprefix("loss_"): float(part.detach()) for name, part in losses.items()}
        return {"loss": float(loss.detach()), **parts}
