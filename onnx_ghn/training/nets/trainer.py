"""Training a network: the loop, its schedule, resuming, and what it says."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onnx_ghn.deepnets1m.network import Network
from onnx_ghn.errors import OptionError, RuntimeFailure
from onnx_ghn.training.ghn.trainer import ImageSource
from onnx_ghn.training.logs import RunLog, mean_figures
from onnx_ghn.training.optimizers import Optimizers
from onnx_ghn.training.run_state import NetworkRun

__all__ = ["NetTrainConfig", "NetTrainer", "net_learning_rate"]

_WEIGHTS = "net.safetensors"


@dataclasses.dataclass(frozen=True)
class NetTrainConfig:
    """How to train. Published defaults for CIFAR-10: SGD with momentum 0.9, rate 0.025, decay 3e-4, clipping at 5."""

    epochs: int
    steps_per_epoch: int
    opt: str = "sgd"
    lr: float = 0.025
    wd: float = 3e-4
    grad_clip: float = 5.0
    scheduler: str = "cosine"  # by epoch; "exponential": times 0.97 each epoch (published for ImageNet); "constant"
    label_smoothing: float = 0.0
    drop_path_prob: float = 0.0  # at the end; grows linearly
    auxiliary_weight: float = 0.4
    amp: bool = False
    seed: int = 1111
    save_interval: int = 500  # steps
    log_interval: int = 100

    def __post_init__(self) -> None:
        if self.scheduler not in ("cosine", "exponential", "constant"):
            raise OptionError(f"--scheduler {self.scheduler!r} must be cosine, exponential or constant")
        if self.epochs < 0 or self.steps_per_epoch < 1 or not (self.lr > 0 and self.grad_clip > 0):
            raise OptionError(
                f"--epochs {self.epochs} must be at least 0, --lr {self.lr} and --grad_clip {self.grad_clip} positive"
            )
        if not 0 <= self.drop_path_prob < 1:
            raise OptionError(f"--drop_path_prob {self.drop_path_prob} must be from 0 to below 1")

    @property
    def steps(self) -> int:
        """In all."""
        return self.epochs * self.steps_per_epoch


def net_learning_rate(config: NetTrainConfig, step: int) -> float:
    """The rate of a step: constant within an epoch, as published."""
    epoch = step // config.steps_per_epoch
    if config.scheduler == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * epoch / max(config.epochs, 1)))
    if config.scheduler == "exponential":
        return config.lr * 0.97**epoch
    return config.lr


class NetTrainer(NetworkRun):
    """A run that can be killed at any moment and goes on from its last checkpoint as if nothing had happened.

    Args:
        net: classifier of images, on its device, with the weights to start from.
        images: gives the batch of a step from its number alone.
        folder: of the checkpoint, the log and the trained weights; None keeps nothing.
        origin: what the weights to start from are; a checkpoint of another origin is refused.
    """

    def __init__(
        self, net: nn.Module, images: ImageSource, config: NetTrainConfig, folder: Path | None = None, origin: str = ""
    ) -> None:
        settings = {**dataclasses.asdict(config), "origin": origin}
        super().__init__(net, Optimizers(net, config.opt, config.lr, config.wd), folder, settings, _WEIGHTS)
        self.images, self.config = images, config
        self.step = 0

    def resume(self) -> bool:
        """Take up the run in `folder`, if there is one. Raises CheckpointError where it is another run's."""
        record = self._take_up()
        if record is None:
            return False
        self.step = int(record["step"])
        return True

    def save(self) -> None:
        """Write the state; after the last step also the weights alone, net.safetensors. Raises CheckpointError."""
        self._keep({"step": self.step}, finished=self.step == self.config.steps)

    def run(
        self, on_step: Callable[[int, dict[str, float]], None] | None = None, until: int | None = None
    ) -> dict[str, float]:
        """Train to the last step (or `until`), saving as it goes; the mean figures of the last `log_interval` steps.

        Raises:
            RuntimeFailure: the loss is not finite.
        """
        log = RunLog(self.folder, self.step)
        last = min(self.config.steps, self.config.steps if until is None else until)
        window: list[dict[str, float]] = []
        while self.step < last:
            start = time.perf_counter()
            figures = self._one_step()
            figures["seconds"] = time.perf_counter() - start
            window = [*window[-self.config.log_interval + 1 :], figures]
            self.step += 1
            if self.step % self.config.log_interval == 0 or self.step == last:
                log.write(self.step, mean_figures(window))
            if self.step % self.config.save_interval == 0 or self.step == last:
                self.save()
            if on_step is not None:
                on_step(self.step, figures)
        return mean_figures(window)

    def _one_step(self) -> dict[str, float]:
        config, device = self.config, self.device
        torch.manual_seed(config.seed + self.step)  # of dropout and drop path; the images are drawn by step
        self.net.train()
        if isinstance(self.net, Network):
            self.net.set_drop_path(
                config.drop_path_prob * (self.step // config.steps_per_epoch) / max(config.epochs, 1)
            )
        images, targets = self.images.batch(self.step)
        images, targets = images.to(device), targets.to(device)
        self.optimizers.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=config.amp):
            answer: Any = self.net(images)
        logits, loss = self._loss(answer, targets)
        if not torch.isfinite(loss):
            raise RuntimeFailure(f"step {self.step}: the loss is {float(loss.detach())}; lower --lr or --grad_clip")
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(list(self.optimizers.parameters.values()), config.grad_clip)
        rate = net_learning_rate(config, self.step)
        self.optimizers.step(rate)
        top1 = 100 * float((logits.detach().argmax(dim=1) == targets).float().mean())
        return {"loss": float(loss.detach()), "top1": top1, "grad_norm": float(norm), "lr": rate}

    def _loss(self, answer: Any, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and loss, the auxiliary classifier's included where there is one."""
        logits, second = answer if isinstance(answer, tuple) else (answer, None)
        smoothing = self.config.label_smoothing
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=smoothing)
        if second is not None:
            loss = loss + self.config.auxiliary_weight * F.cross_entropy(
                second.float(), targets, label_smoothing=smoothing
            )
        return logits, loss
