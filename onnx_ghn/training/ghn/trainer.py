"""Training a GHN: the loop, its optimiser, resuming, and what it says."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from onnx_ghn.errors import CheckpointError, OptionError, RuntimeFailure
from onnx_ghn.ghn import GHN, save_ghn
from onnx_ghn.training.checkpoint_state import load_state, save_state
from onnx_ghn.training.ghn.architectures import ArchitectureStream
from onnx_ghn.training.ghn.step import ghn_step
from onnx_ghn.training.group import Group
from onnx_ghn.training.logs import RunLog, mean_figures
from onnx_ghn.training.optimizers import OPTIMIZERS, Optimizers

__all__ = ["GHNTrainer", "ImageSource", "TrainConfig", "learning_rate"]

logger = logging.getLogger(__name__)

_STATE = "state.safetensors"


class ImageSource(Protocol):
    """Training images by step."""

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) float images and (B,) classes of a step, the same ones each time it is asked."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train. Published defaults: Adam, rate 1e-3, weight decay 1e-5, clipping at 5."""

    steps: int  # optimiser steps in all
    meta_batch_size: int = 1  # nets per step, over all processes
    opt: str = "adam"  # adam, adamw, sgd or muon
    lr: float = 1e-3
    wd: float = 1e-5
    grad_clip: float = 5.0  # largest gradient norm
    net_clip: float = math.inf  # largest norm of one net's gradient with respect to its weights
    scheduler: str = "step"  # step, cosine or constant
    lr_steps: tuple[int, ...] = ()  # steps at which "step" multiplies the rate by gamma
    gamma: float = 0.1
    warmup: int = 0  # steps of linear warm-up
    amp: bool = False  # nets in bfloat16
    label_smoothing: float = 0.0
    ema: float = 0.0  # decay of the average of weights that is saved; 0: none
    accumulate: int = 1  # batches of images and nets per optimiser step
    own_images: bool = False  # each net of a step gets images of its own; published: all get the same
    seed: int = 1111
    save_interval: int = 500  # steps
    log_interval: int = 100
    patience: float = 0.02  # share of skipped steps above which the run stops

    def __post_init__(self) -> None:
        if self.opt not in OPTIMIZERS:
            raise OptionError(f"--opt {self.opt!r} must be one of {', '.join(OPTIMIZERS)}")
        if self.scheduler not in ("step", "cosine", "constant"):
            raise OptionError(f"--scheduler {self.scheduler!r} must be step, cosine or constant")
        for name in ("steps", "meta_batch_size", "accumulate", "save_interval", "log_interval"):
            if getattr(self, name) < 1:
                raise OptionError(f"--{name} {getattr(self, name)} must be at least 1")
        if not (self.lr > 0 and self.grad_clip > 0 and 0 <= self.ema < 1):
            raise OptionError(
                f"--lr {self.lr}, --grad_clip {self.grad_clip} must be positive, --ema {self.ema} below 1"
            )


def learning_rate(config: TrainConfig, step: int) -> float:
    """The rate of a step, counted from 0."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    if config.scheduler == "cosine":
        share = (step - config.warmup) / max(1, config.steps - config.warmup)
        return config.lr * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
    if config.scheduler == "step":
        return config.lr * config.gamma ** sum(step >= boundary for boundary in config.lr_steps)
    return config.lr


class GHNTrainer:
    """A run that can be killed at any moment and goes on from its last checkpoint as if nothing had happened.

    Args:
        ghn: to train, on its device.
        nets, images: both give the data of a step from its number alone.
        folder: of the checkpoint and the log; None keeps nothing.
        group: of processes; each takes its share of the nets of a step.
    """

    def __init__(
        self,
        ghn: GHN,
        nets: ArchitectureStream,
        images: ImageSource,
        config: TrainConfig,
        folder: Path | None = None,
        group: Group | None = None,
    ) -> None:
        self.ghn, self.nets, self.images, self.config = ghn, nets, images, config
        self.folder, self.group = folder, group or Group()
        self.optimizers = Optimizers(ghn, config.opt, config.lr, config.wd)
        self.average = {name: p.detach().clone() for name, p in ghn.named_parameters()} if config.ema else {}
        self.step = 0
        self.skipped = 0

    # -- state -------------------------------------------------------------------------------------------

    def resume(self) -> bool:
        """Take up the run in `folder`, if there is one. Raises CheckpointError where it is another run's."""
        if self.folder is None or not (self.folder / _STATE).exists():
            return False
        path = self.folder / _STATE
        tensors, record = load_state(path, self.ghn.device)
        for part, config in (("ghn", self.ghn.config), ("train", self.config)):
            # A run of an older version has no record of newer settings, whose defaults are what it did.
            defaults = {f.name: f.default for f in dataclasses.fields(config) if f.default is not dataclasses.MISSING}
            ours, theirs = dataclasses.asdict(config), defaults | record.get(part, {})
            differ = sorted(
                key for key in ours if key not in _FREE and json.dumps(ours[key]) != json.dumps(theirs.get(key))
            )
            if differ:
                raise CheckpointError(f"{path}: a run with other settings ({', '.join(differ)}); choose another --name")
        weights = {n.removeprefix("ghn."): t for n, t in tensors.items() if n.startswith("ghn.")}
        self.ghn.load_state_dict(weights)
        self.average = {n.removeprefix("ema."): t for n, t in tensors.items() if n.startswith("ema.")}
        self.optimizers.restore({n.removeprefix("opt."): t for n, t in tensors.items() if n.startswith("opt.")})
        self.step, self.skipped = int(record["step"]), int(record["skipped"])
        return True

    def save(self) -> None:
        """Write the state, and beside it the GHN as `load_ghn` reads it (the average of weights, where one is kept)."""
        if self.folder is None or self.group.rank:
            return
        tensors = {f"ghn.{name}": tensor for name, tensor in self.ghn.state_dict().items()}
        tensors |= {f"ema.{name}": tensor for name, tensor in self.average.items()}
        tensors |= {f"opt.{name}": tensor for name, tensor in self.optimizers.state().items()}
        record = {
            "step": self.step,
            "skipped": self.skipped,
            "ghn": json.loads(self.ghn.config.to_json()),
            "train": dataclasses.asdict(self.config),
        }
        save_state(self.folder / _STATE, tensors, record)
        save_ghn(self.averaged(), self.folder / "ghn")

    def averaged(self) -> GHN:
        """The GHN to evaluate: with the average of weights where one is kept."""
        config = dataclasses.replace(self.ghn.config, trained=True)
        ghn = GHN(config)
        ghn.load_state_dict(self.ghn.state_dict() | self.average)
        return ghn.eval()

    # -- training ----------------------------------------------------------------------------------------

    def run(self, on_step: Callable[[int, dict[str, float]], None] | None = None, until: int | None = None) -> None:
        """Train to the last step (or `until`), saving as it goes.

        Raises:
            RuntimeFailure: more steps than `patience` allows had to be skipped.
        """
        last = min(self.config.steps, until or self.config.steps)
        self.ghn.train()
        log = RunLog(None if self.group.rank else self.folder, self.step)
        window: list[dict[str, float]] = []
        while self.step < last:
            start = time.perf_counter()
            figures = self._one_step()
            figures["seconds"] = time.perf_counter() - start
            window.append(figures)
            self.step += 1
            if self.step % self.config.log_interval == 0 or self.step == last:
                log.write(self.step, mean_figures(window))
                window.clear()
            if self.step % self.config.save_interval == 0 or self.step == last:
                self.save()
            if on_step is not None:
                on_step(self.step, figures)
            self._check_patience()

    def _one_step(self) -> dict[str, float]:
        config = self.config
        self.optimizers.zero_grad()
        loss, correct, n_images, n_finite, n_nets = 0.0, 0, 0, 0, 0
        failed = False
        torch.manual_seed(config.seed + self.step)  # of dropout alone; all else is drawn by step
        for part in range(config.accumulate):
            number = self.step * config.accumulate + part
            nets = self.nets.meta_batch(number, config.meta_batch_size)
            mine = self.group.share(list(enumerate(nets)), [len(net.graph) for net in nets])
            try:
                result = ghn_step(
                    self.ghn,
                    [net for _, net in mine],
                    self._batches(number, [index for index, _ in mine]),
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
        parameters = [p for p in self.ghn.parameters() if p.requires_grad]
        totals = self.group.reduce(parameters, [loss, correct, n_images, n_finite, float(failed)])
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, config.grad_clip))
        # A net that gave nothing finite is left out of the step's mean; a step is lost where no net is left.
        if totals[3] and not totals[4] and math.isfinite(norm):
            self.optimizers.step(learning_rate(config, self.step))
            self._update_average()
        else:
            self.skipped += 1
            logger.warning(
                "step %d skipped: %d of %d nets finite, gradient norm %s", self.step, totals[3], n_nets, norm
            )
        return {
            "loss": totals[0] / max(totals[3], 1),
            "top1": 100 * totals[1] / max(totals[2], 1),
            "grad_norm": norm,
            "lr": learning_rate(config, self.step),
            "skipped": float(self.skipped),
        }

    def _batches(self, number: int, nets: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Images and classes of nets of a meta-batch, by their indices in it."""

        def batch(step: int) -> tuple[Tensor, Tensor]:
            images, targets = self.images.batch(step)
            dtype = torch.bfloat16 if self.config.amp else torch.float32
            images = images.to(self.ghn.device, dtype).contiguous(memory_format=torch.channels_last)
            return images, targets.to(self.ghn.device)

        if self.config.own_images:
            return [batch(number * self.config.meta_batch_size + index) for index in nets]
        return [batch(number)] * len(nets)

    @torch.no_grad()
    def _update_average(self) -> None:
        if not self.average:
            return
        # Early on the average follows quickly: the first thousands of steps would weigh it down for long.
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for name, parameter in self.ghn.named_parameters():
            self.average[name].lerp_(parameter, 1 - decay)

    def _check_patience(self) -> None:
        if self.skipped > 20 and self.skipped > self.config.patience * self.config.steps:
            raise RuntimeFailure(
                f"{self.skipped} of {self.step} steps had no finite loss or ran out of memory; lower --lr or the batch"
            )


#: Settings that a resumed run may change.
_FREE = frozenset({"save_interval", "log_interval", "patience", "trained", "name", "dataset", "seed"})
