"""What a training run of a GHN is made from, as `onnx-ghn train` asks for it. No torch."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from onnx_ghn.ghn.config import DecoderKind, Hypernet
from onnx_ghn.settings import Settings, ghn_setting, setting
from onnx_ghn.training.settings import ImageData, RunConfig, RunFolder

__all__ = ["GHNRun", "GHNSettings", "GHNShape", "GHNTraining", "NetLimits"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GHNShape(Settings):
    """The settings of a GHN that its config has by the same names."""

    hypernet: Hypernet = setting("gatedgnn", "Kind of GHN.", "-H")
    decoder: DecoderKind = setting("conv", "Kind of decoder.")
    weight_norm: bool = setting(False, "Normalise predicted weights by fan-in.", "-n")
    hid: int = setting(32, "Size of node embeddings.")
    layers: int = setting(3, "Number of layers of the graphormer.")
    heads: int = setting(8, "Number of attention heads of the graphormer.")
    dirac: bool = setting(False, "Add a decoded multiple of the identity to each weight.")
    pooled_flatten: bool = setting(False, "Decode the weight behind a flattened map as that of its mean.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetLimits(Settings):
    """Which networks are drawn; the defaults give the whole published distribution."""

    max_cells: int = setting(10_000, "Largest number of cells of a drawn network.", least=1, shown=False)
    max_params: int = setting(
        10**9, "Largest number of parameters of a drawn network.", least=1, shown=False
    )  # trainable elements, at the drawn width
    transformers: float = setting(0.0, "Share of plain transformers of 3 to 9 cells.", least=0, most=1)
    families: float = setting(
        0.0,
        "Share of small networks of torchvision's families (MobileNet, ResNeXt, …) and of tutorials.",
        least=0,
        most=1,
    )  # see `family_nets`
    channels: int | None = setting(None, "Initial channels of all networks, instead of the published draw.", least=1)
    any_size: bool = False  # only networks that take images of any size: those with global pooling


@dataclasses.dataclass(frozen=True, kw_only=True)
class GHNTraining(RunConfig):
    """How to train. Published defaults: Adam, rate 1e-3, weight decay 1e-5, clipping at 5."""

    opt: str = "adam"
    lr: float = 1e-3
    wd: float = 1e-5
    grad_clip: float = 5.0
    net_clip: float = setting(
        math.inf, "Largest norm of the gradient of one network (default: unlimited).", above=0, shown=False
    )
    scheduler: Literal["step", "cosine", "constant"] = setting("step", "Learning rate schedule.")
    gamma: float = setting(0.1, "Factor of each decay of the step schedule.", "-g", above=0, most=1)
    warmup: int = setting(0, "Number of steps of linear warm-up.", least=0)
    label_smoothing: float = setting(
        0.0, "Label smoothing (default: 0, for imagenet 0.1).", least=0, below=1, imagenet=0.1
    )
    ema: float = setting(0.0, "Decay of the saved average of weights; 0 for none.", least=0, below=1)
    meta_batch_size: int = setting(1, "Networks per step.", "-m", least=1)  # over all processes
    accumulate: int = setting(1, "Batches of networks per optimiser step.", least=1)
    own_images: bool = setting(False, "Give each network of a step its own images.")  # published: all get the same
    also_share: float = setting(0.5, "Share of the networks that learn from the data sets of --also.", least=0, most=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _GHNData(ImageData):
    also: tuple[str, ...] = setting(
        (), "A further data set, a folder or zip archive with classes of its own; may be given several times.",
        metavar="DATA",
    )  # fmt: skip
    batch_size: int = setting(
        64, "Images that a network sees in a step (default: 64, for imagenet 256).", "-b", least=1, imagenet=256
    )
    image_size: int | None = setting(None, "Scale images to this size.", least=1)
    epochs: int = setting(300, "Passes over the images.", "-e", least=1)
    steps: int | None = setting(None, "Number of optimiser steps, instead of epochs.", least=1)
    lr_steps: str = setting("200,250", "Epochs at which the step schedule decays.")
    ckpt: str | None = ghn_setting("GHN to start from")
    virtual_edges: int = setting(1, "Length of the longest virtual edge; 1 for no virtual edges.", "-v", least=0)
    ln: bool = setting(False, "Apply layer norm to node embeddings.")
    max_shape: int = setting(64, "Largest number of decoded channels.")
    split: str = setting("train", "Split of DeepNets-1M whose rules draw the networks.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GHNSettings(_GHNData, GHNShape, NetLimits, GHNTraining):
    """The images, the GHN, the networks and the way to train it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GHNRun(RunFolder):
    """A run of this training."""

    name: str = "EXP"  # of the GHN, too
