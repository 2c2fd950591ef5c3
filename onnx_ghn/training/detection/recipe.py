"""All that the training of a detector is made from, as `onnx-ghn train-detector` asks for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from onnx_ghn.errors import OptionError
from onnx_ghn.training.detection.detectors import Features, make_detector
from onnx_ghn.training.detection.pedestrians import find_pedestrians
from onnx_ghn.training.detection.trainer import DetectorConfig, DetectorTrainer
from onnx_ghn.training.nets.starting_net import StartingNet

__all__ = ["DetectorRecipe", "DetectorRun"]

#: Settings whose values tell one detector from another.
_SHAPE = ("arch", "detector", "imsize", "min_size", "max_size", "anchors", "regions", "init_channels", "layers")
_N_CLASSES = 1000  # of the backbone's classifier, which is dropped


class DetectorRun(NamedTuple):
    """A trainer, and what it trains."""

    trainer: DetectorTrainer
    name: str  # of the backbone
    origin: str  # what the backbone's weights are


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorRecipe(StartingNet):
    """The images, the detector and the way to train it; its fields are the options of the command."""

    dataset: str  # a folder, or one in `data_dir`
    data_dir: str
    test_images: int
    # The detector, see `make_detector`.
    detector: str
    min_size: int
    max_size: int
    anchors: str  # sides in pixels, such as 32,64,128
    regions: int
    # Training, see `DetectorConfig`.
    batch_size: int
    epochs: int
    opt: str
    lr: float
    wd: float
    lr_step: int
    gamma: float
    amp: bool
    save_interval: int
    log_interval: int

    def trainer(self, folder: Path, device: torch.device | str) -> DetectorRun:
        """Find the images and make the trainer.

        Raises:
            OnnxGhnError: images, a network or weights that cannot be read, or settings that make no sense.
        """
        home = Path(self.dataset)
        home = home if home.is_dir() else Path(self.data_dir) / self.dataset
        train, test = find_pedestrians(home, self.test_images, self.seed)
        net, name, origin = self._net()
        shape = ", ".join(str(getattr(self, setting)) for setting in (*_SHAPE, "test_images"))
        trainer = DetectorTrainer(
            net.to(device),
            train,
            test,
            self._config(),
            folder,
            f"{origin}; {shape}; {home.name}",
            masks=self.detector == "mask",
        )
        return DetectorRun(trainer, name, origin)

    def _net(self) -> tuple[nn.Module, str, str]:
        """The detector, its backbone's name, and what the backbone's weights are."""
        ghn = self.load_ghn()
        anchors = self._sides()
        if self.min_size > self.max_size:
            raise OptionError(f"`min_size` {self.min_size} is above `max_size` {self.max_size}")
        choice = self.choose()
        net, origin = self.make(choice, ghn, ghn.config.num_classes if ghn is not None else _N_CLASSES)
        features = Features(net, choice)
        torch.manual_seed(self.seed)  # the head's weights are the same whatever the backbone drew
        detector = make_detector(
            features,
            self.detector,
            min_size=self.min_size,
            max_size=self.max_size,
            anchors=anchors,
            regions=self.regions,
        )
        preposition = "" if ghn is not None or self.pretrained else "with "
        return detector, choice.name, f"backbone {preposition}{origin}"

    def _sides(self) -> tuple[int, ...]:
        texts = self.anchors.split(",")
        sides = tuple(int(text) for text in texts if text.strip().isdigit())
        if len(sides) != len(texts) or not all(sides):
            raise OptionError(f"`anchors` {self.anchors}: write sides in pixels, as 32,64,128")
        return sides

    def _config(self) -> DetectorConfig:
        return DetectorConfig(
            epochs=self.epochs,
            batch_size=self.batch_size,
            opt=self.opt,
            lr=self.lr,
            wd=self.wd,
            lr_step=self.lr_step,
            gamma=self.gamma,
            amp=self.amp,
            seed=self.seed,
            save_interval=self.save_interval,
            log_interval=self.log_interval,
        )
