"""How to tune, as `onnx-ghn finetune` asks for it. No torch."""

from __future__ import annotations

import dataclasses
import math

from onnx_ghn.settings import patterns_setting, setting
from onnx_ghn.training.settings import RunConfig

__all__ = ["FinetuneOptions", "StartOptions"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneOptions(RunConfig):
    """How to tune. Defaults: two epochs of SGD with momentum, a rate of 0.01 that falls to 0 along a cosine."""

    val: str = setting(
        "test",
        "Images to judge on: the data's test images, a share of each class held out, or others.",
        metavar="test|SHARE|FOLDER|ZIP",
    )  # see `images.load_images`
    epochs: int = setting(2, "Passes over the images.", "-e", least=1)
    steps: int | None = setting(None, "Number of training steps, instead of epochs.", least=1)
    batch_size: int = setting(64, "Images per step.", "-b", least=1)
    opt: str = "sgd"
    lr: float = setting(0.01, "Initial learning rate, which falls to 0 along a cosine.", above=0, below=math.inf)
    wd: float = 3e-4
    grad_clip: float = 5.0
    label_smoothing: float = setting(0.0, "Label smoothing.", least=0, below=1)
    augment: bool = setting(True, "Train on random windows and mirrored images.")
    freeze: tuple[str, ...] = patterns_setting("Leave tensors whose names match as they are.")
    train: tuple[str, ...] = patterns_setting("Train only tensors whose names match.")
    device: str = "cpu"
    save_interval: int = 200
    log_interval: int = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartOptions(FinetuneOptions):
    """How to train in a race of starts: as from scratch, and judged on training images that are held out."""

    val: str = "0.2"
    lr: float = 0.05
