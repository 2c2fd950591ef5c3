"""Training a detector: the loop, its schedule, resuming, and its average precision after each epoch."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from onnx_ghn.errors import OptionError, RuntimeFailure
from onnx_ghn.training.detection.metrics import coco_metrics
from onnx_ghn.training.detection.pedestrians import Pedestrians, Sample
from onnx_ghn.training.logs import RunLog, mean_figures
from onnx_ghn.training.optimizers import Optimizers
from onnx_ghn.training.run_state import NetworkRun

__all__ = ["DetectorConfig", "DetectorTrainer", "detector_learning_rate"]

_WEIGHTS = "detector.safetensors"
_WARMUP_FROM, _WARMUP_STEPS = 1e-3, 1000


@dataclasses.dataclass(frozen=True)
class DetectorConfig:
    """How to train. Defaults are published for Penn-Fudan: of torchvision's tutorial and its reference scripts."""

    epochs: int = 10
    batch_size: int = 2
    opt: str = "sgd"
    lr: float = 0.005
    wd: float = 5e-4
    lr_step: int = 3  # epochs, after each of which the rate is multiplied by `gamma`
    gamma: float = 0.1
    amp: bool = False
    seed: int = 1111
    save_interval: int = 100  # steps
    log_interval: int = 10

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch_size < 1 or not self.lr > 0 or self.lr_step < 1 or not 0 < self.gamma <= 1:
            raise OptionError(
                f"--epochs {self.epochs} must be at least 0, --batch_size {self.batch_size} and --lr_step "
                f"{self.lr_step} at least 1, --lr {self.lr} positive, --gamma {self.gamma} above 0 and at most 1"
            )


def detector_learning_rate(config: DetectorConfig, step: int, steps_per_epoch: int) -> float:
    """The rate of a step: in the first epoch it grows from a thousandth (at most 1,000 steps long)."""
    rate = config.lr * config.gamma ** (step // steps_per_epoch // config.lr_step)
    warmup = min(_WARMUP_STEPS, steps_per_epoch - 1)
    if step < min(warmup, steps_per_epoch):
        rate *= _WARMUP_FROM + (1 - _WARMUP_FROM) * step / warmup
    return rate


class DetectorTrainer(NetworkRun):
    """A run that can be killed at any moment and goes on from its last checkpoint as if nothing had happened.

    Args:
        net: a detector of torchvision, on its device.
        train, test: images to train on, and to judge on after each epoch.
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
        settings = {**dataclasses.asdict(config), "origin": origin, "images": len(train)}
        super().__init__(net, Optimizers(net, config.opt, config.lr, config.wd), folder, settings, _WEIGHTS)
        self.train, self.test, self.config = train, test, config
        self._masks = masks
        self.steps_per_epoch = -(-len(train) // config.batch_size)  # the last batch may be smaller, as published
        self.step = 0
        self.judged: list[dict[str, float]] = []  # after each epoch: epoch, AP, AP50, ...

    @property
    def steps(self) -> int:
        """In all."""
        return self.config.epochs * self.steps_per_epoch

    def resume(self) -> bool:
        """Take up the run in `folder`, if there is one. Raises CheckpointError where it is another run's."""
        record = self._take_up()
        if record is None:
            return False
        self.step, self.judged = int(record["step"]), list(record["judged"])
        return True

    def save(self) -> None:
        """Write the state; after the last step also the weights alone. Raises CheckpointError."""
        self._keep({"step": self.step, "judged": self.judged}, finished=self.step == self.steps)

    def run(
        self,
        on_step: Callable[[int, dict[str, float]], None] | None = None,
        on_epoch: Callable[[dict[str, float]], None] | None = None,
        until: int | None = None,
    ) -> dict[str, float]:
        """Train to the last step (or `until`), judging after each epoch; mean figures of the last `log_interval` steps.

        Raises:
            RuntimeFailure: the loss is not finite. DataError: an image that cannot be read.
        """
        log = RunLog(self.folder, self.step)
        last = min(self.steps, self.steps if until is None else until)
        window: list[dict[str, float]] = []
        if not self.judged:
            self._judge(0, on_epoch)
        while self.step < last:
            start = time.perf_counter()
            figures = self._one_step()
            figures["seconds"] = time.perf_counter() - start
            window = [*window[-self.config.log_interval + 1 :], figures]
            self.step += 1
            if on_step is not None:
                on_step(self.step, figures)
            ends = self.step % self.steps_per_epoch == 0
            if ends:
                self._judge(self.step // self.steps_per_epoch, on_epoch)
            if ends or self.step % self.config.log_interval == 0 or self.step == last:
                log.write(self.step, mean_figures(window) | (self.judged[-1] if ends else {}))
            if ends or self.step % self.config.save_interval == 0 or self.step == last:
                self.save()
        return mean_figures(window)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """COCO's figures on the test images, in percent; those of masks with `mask_` before the name."""
        self.net.eval()
        truths, found = [], []
        for index in range(len(self.test)):  # one by one, as published: images of all sizes
            image, truth = self.test.sample(index)
            (answer,) = self.net([image.to(self.device)])
            truths.append(truth)
            found.append({name: tensor.float().cpu() for name, tensor in answer.items()})
        figures = coco_metrics(truths, found)
        if self._masks:
            figures |= {f"mask_{name}": value for name, value in coco_metrics(truths, found, "segm").items()}
        return figures

    def _judge(self, epoch: int, on_epoch: Callable[[dict[str, float]], None] | None) -> None:
        self.judged.append({"epoch": float(epoch), **self.evaluate()})
        if on_epoch is not None:
            on_epoch(self.judged[-1])

    def _batch(self, step: int) -> list[Sample]:
        """The images of a step, half of them mirrored: from the seed and the step alone."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self.config.seed, 1, epoch)).permutation(len(self.train)).tolist()
        size = self.config.batch_size
        mirrors = np.random.default_rng((self.config.seed, 2, step)).random(size) < 0.5
        chosen = order[place * size : (place + 1) * size]
        return [self.train.sample(i, mirror=bool(mirror)) for i, mirror in zip(chosen, mirrors, strict=False)]

    def _one_step(self) -> dict[str, float]:
        device = self.device
        torch.manual_seed(self.config.seed + self.step)  # of the proposals that are drawn for the loss
        self.net.train()
        batch = self._batch(self.step)
        images = [image.to(device) for image, _ in batch]
        targets = [{name: tensor.to(device) for name, tensor in target.items()} for _, target in batch]
        self.optimizers.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.amp):
            losses: dict[str, Tensor] = self.net(images, targets)
        loss = torch.stack([part.float() for part in losses.values()]).sum()
        if not torch.isfinite(loss):
            raise RuntimeFailure(f"step {self.step}: the loss is {float(loss.detach())}; lower --lr")
        loss.backward()
        rate = detector_learning_rate(self.config, self.step, self.steps_per_epoch)
        self.optimizers.step(rate)
        parts = {name.removeprefix("loss_"): float(part.detach()) for name, part in losses.items()}
        return {"loss": float(loss.detach()), **parts, "lr": rate}
