"""What the training of a detector is made from, as `onnx-ghn train-detector` asks for it. No torch."""

from __future__ import annotations

import dataclasses
from typing import Literal

from onnx_ghn.settings import setting
from onnx_ghn.training.nets.settings import StartingNet
from onnx_ghn.training.settings import ImageData, RunConfig, RunFolder

__all__ = ["DetectorConfig", "DetectorRunFolder", "DetectorSettings", "DetectorShape"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorConfig(RunConfig):
    """How to train. Defaults are published for Penn-Fudan: of torchvision's tutorial and its reference scripts."""

    epochs: int = setting(10, "Passes over the images; 0 evaluates only.", "-e", least=0)
    batch_size: int = setting(2, "Images per step.", "-b", least=1)
    opt: str = "sgd"
    lr: float = 0.005
    wd: float = 5e-4
    lr_step: int = setting(3, "Epochs between decays of the rate.", least=1)
    gamma: float = setting(0.1, "Factor of each decay.", above=0, most=1)
    save_interval: int = 100
    log_interval: int = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Images(ImageData):
    dataset: str = setting("PennFudanPed", "Folder of the data set, or its name in --data-dir.", "-d")
    test_images: int = setting(50, "Number of images to judge on.", least=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorShape(StartingNet):
    """The detector and its backbone."""

    detector: Literal["faster", "mask"] = setting("faster", "Faster or Mask R-CNN.")
    imsize: int = setting(224, "Image size that the network's stem is made for.", choices=(32, 224))
    min_size: int = setting(800, "Shorter side to which images are scaled.", least=32)
    max_size: int = setting(1333, "Largest longer side of scaled images.", least=32)
    anchors: str = setting("32,64,128,256,512", "Sides of the anchor boxes in pixels.")
    regions: int = setting(512, "Regions of an image that the head learns from per step.", least=8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorSettings(_Images, DetectorShape, DetectorConfig):
    """The images, the detector and the way to train it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorRunFolder(RunFolder):
    """A run of this training."""

    name: str = "DETECTOR"
