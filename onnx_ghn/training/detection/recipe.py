"""The trainer of a detector, made from its settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from onnx_ghn.errors import OptionError
from onnx_ghn.json_types import Json
from onnx_ghn.settings import values
from onnx_ghn.training.detection.detectors import Features, make_detector
from onnx_ghn.training.detection.pedestrians import find_pedestrians
from onnx_ghn.training.detection.settings import DetectorConfig, DetectorSettings
from onnx_ghn.training.detection.trainer import DetectorTrainer
from onnx_ghn.training.logs import Report
from onnx_ghn.training.nets.starting_net import chosen, make_net, starting_ghn

__all__ = ["DetectorRun"]

#: Settings whose values tell one detector from another.
_SHAPE = ("arch", "detector", "imsize", "min_size", "max_size", "anchors", "regions", "init_channels", "layers")
_N_CLASSES = 1000  # of the backbone's classifier, which is dropped


class DetectorRun:
    """The training of a detector.

    Attributes:
        trainer: its trainer.
        name: of the backbone.
        origin: what the backbone's weights are.
        resumed: it goes on with the run that is in the folder.

    Args:
        settings: the images, the detector and the way to train it.
        folder: of the log, the state, the trained weights and the result.
        device: to train on.

    Raises:
        OnnxGhnError: images, a network or weights that cannot be read, or settings that make no sense.
    """

    def __init__(self, settings: DetectorSettings, folder: Path, device: torch.device | str) -> None:
        home = Path(settings.dataset)
        home = home if home.is_dir() else Path(settings.data_dir) / settings.dataset
        train, test = find_pedestrians(home, settings.test_images, settings.seed)
        net, self.name, self.origin = _detector(settings)
        shape = ", ".join(str(getattr(settings, setting)) for setting in (*_SHAPE, "test_images"))
        self.trainer = DetectorTrainer(
            net.to(device),
            train,
            test,
            DetectorConfig(**values(settings, DetectorConfig)),
            folder,
            f"{self.origin}; {shape}; {home.name}",
            masks=settings.detector == "mask",
        )
        self.resumed = self.trainer.resume()

    def run(
        self,
        report: Report | None = None,
        until: int | None = None,
        on_epoch: Callable[[dict[str, float]], None] | None = None,
    ) -> Json:
        """Train, judging after each epoch; after the last step, result.json of the folder says what came of it, too.

        Args:
            report, until, on_epoch: see `DetectorTrainer.run`.

        Returns:
            name, init, step, train (the figures of the last steps), and the figures of all epochs.
        """
        trainer = self.trainer
        figures = trainer.run(report, until, on_epoch)
        told = {"name": self.name, "init": self.origin, "step": trainer.step, "train": figures}
        return trainer.tell({**told, "epochs": trainer.judged})


def _detector(settings: DetectorSettings) -> tuple[nn.Module, str, str]:
    """The detector, its backbone's name, and what the backbone's weights are."""
    ghn = starting_ghn(settings)
    anchors = _sides(settings.anchors)
    if settings.min_size > settings.max_size:
        raise OptionError(f"`min_size` {settings.min_size} is above `max_size` {settings.max_size}")
    choice = chosen(settings)
    num_classes = ghn.config.num_classes if ghn is not None else _N_CLASSES
    net, origin = make_net(settings, choice, ghn, num_classes, settings.seed)
    features = Features(net, choice)
    torch.manual_seed(settings.seed)  # the head's weights are the same whatever the backbone drew
    detector = make_detector(
        features,
        settings.detector,
        min_size=settings.min_size,
        max_size=settings.max_size,
        anchors=anchors,
        regions=settings.regions,
    )
    preposition = "" if ghn is not None or settings.pretrained else "with "
    return detector, choice.name, f"backbone {preposition}{origin}"


def _sides(anchors: str) -> tuple[int, ...]:
    texts = anchors.split(",")
    sides = tuple(int(text) for text in texts if text.strip().isdigit())
    if len(sides) != len(texts) or not all(sides):
        raise OptionError(f"`anchors` {anchors}: write sides in pixels, as 32,64,128")
    return sides
