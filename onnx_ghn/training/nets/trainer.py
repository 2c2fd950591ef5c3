"""Training a network: its settings, its state and its step."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from torch import nn

from onnx_ghn.deepnets1m.network import Network
from onnx_ghn.json_types import JsonView
from onnx_ghn.settings import required
from onnx_ghn.training.classifiers import ImageSource, classifier_step
from onnx_ghn.training.loop import TrainingLoop
from onnx_ghn.training.nets.settings import NetTraining
from onnx_ghn.training.optimizers import Optimizers
from onnx_ghn.training.schedule import Schedule, by_epoch, constant, cosine, exponential
from onnx_ghn.training.state import Settings, TrainingState

__all__ = ["NetTrainConfig", "NetTrainer"]

_DECAY_OF_AN_EPOCH = 0.97  # published for ImageNet


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetTrainConfig(NetTraining):
    """How to train, on images of which an epoch has so many batches."""

    steps_per_epoch: int = required("Number of batches in an epoch.", least=1)
    label_smoothing: float = 0.0

    @property
    def steps(self) -> int:
        """How many there are in all."""
        return self.epochs * self.steps_per_epoch

    def schedule(self) -> Schedule:
        """The learning rate of each step: constant within an epoch, as published."""
        rates = {
            "constant": constant(self.lr),
            "cosine": cosine(self.lr, self.epochs),
            "exponential": exponential(self.lr, _DECAY_OF_AN_EPOCH),
        }
        return by_epoch(rates[self.scheduler], self.steps_per_epoch)


class NetTrainer(TrainingLoop):
    """The training of a network.

    Args:
        net: classifier of images, on its device, with the weights to start from.
        images: gives the batch of a step from its number alone.
        config: how to train.
        folder: of the checkpoint, the log and the trained weights; None keeps nothing.
        origin: what the weights to start from are; a checkpoint of another origin is refused.
        data: what images are drawn by; a checkpoint of others is refused.
    """

    def __init__(
        self,
        net: nn.Module,
        images: ImageSource,
        config: NetTrainConfig,
        folder: Path | None = None,
        origin: str = "",
        data: JsonView | None = None,
    ) -> None:
        self.net, self.images, self.config = net, images, config
        settings = {"settings": Settings.of(config, origin=origin), "data": Settings(data or {}, late=True)}
        state = TrainingState(net, Optimizers(net, config), settings)
        super().__init__(
            self._train_step,
            config.schedule(),
            state,
            config,
            steps=config.steps,
            folder=folder,
            weights_name="net.safetensors",
        )

    def _train_step(self, step: int) -> dict[str, float]:
        config = self.config
        if isinstance(self.net, Network):
            self.net.set_drop_path(config.drop_path_prob * (step // config.steps_per_epoch) / max(config.epochs, 1))
        return classifier_step(
            self.net,
            self.state.optimizers,
            self.images,
            step,
            amp=config.amp,
            label_smoothing=config.label_smoothing,
            auxiliary_weight=config.auxiliary_weight,
        )
