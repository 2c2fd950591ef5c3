"""What is measured of networks, and how, as `property_prediction.py measure` asks for it. No torch."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from onnx_ghn.json_types import Json
from onnx_ghn.parallel import Jobs
from onnx_ghn.settings import Settings, ghn_setting, setting, values
from onnx_ghn.training.settings import OPTIMIZERS

__all__ = ["Brief", "MeasureConfig"]

_SIDES = (8, 16, 32)  # the networks halve 32 pixels up to twice before a head of fixed size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Brief(Settings):
    """How each network is trained and judged. All of it is part of what a predicted accuracy means."""

    dataset: str = setting("cifar10", "cifar10, or a folder or zip file of images.", "-d")
    channels: int = setting(16, "Width of the networks.", least=1)
    image_size: int = setting(16, "Scale training images to this size.", choices=_SIDES)
    steps: int = setting(100, "Steps of training.", least=1)
    batch_size: int = setting(32, "Images of a training step.", "-b", least=1)
    #: In so few steps Adam brings more networks off their start than the published SGD.
    opt: str = setting("adam", "Optimiser.", choices=OPTIMIZERS)
    lr: float = setting(0.002, "Highest learning rate.", above=0, below=math.inf)  # cosine over the run
    wd: float = 3e-4
    n_images: int = setting(1500, "Validation images to judge on.", least=1)  # the same number of each class
    amp: bool = True  # bfloat16
    seed: int = setting(1111, "Seed of training.", "-s", least=0)  # of initial weights and batches


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasureConfig(Brief, Jobs):
    """Which networks are measured, and how. Their width is that of the timed networks, too."""

    kind: Literal["training", "speed", "ghn"] = setting(
        "training", "What to measure: brief training, latency, or accuracy with predicted weights.", option="--only"
    )
    count: int = setting(104, "Number of networks in each split.", aliases=["-n"], least=1)
    file: str | None = setting(None, "DeepNets-1M architectures (.hdf5 or .jsonl); without one they are sampled.")
    arch_seed: int = setting(1111, "Seed of the sampled networks.", least=0)
    data_dir: str = setting("./data", "The folder of data sets.", "-D")
    ckpt: str | None = ghn_setting("GHN of --only ghn instead of the default one")
    rounds: int = setting(5, "Visits to each network.", least=1)
    runs: int = setting(20, "Runs of a network at each visit.", least=1)
    latency_batch: int = setting(1, "Images of a timed run.", least=1)

    @property
    def brief(self) -> Brief:
        """How each network is trained, alone."""
        return Brief(**values(self, Brief))

    def settings(self) -> Json:
        """What the results depend on; a file of other settings is refused."""
        shared = {"file": self.file, "arch_seed": self.arch_seed, "channels": self.channels}
        match self.kind:
            case "training":
                return shared | values(self, Brief)
            case "ghn":
                judged = {key: getattr(self, key) for key in ("dataset", "image_size", "n_images")}
                return shared | judged | {"ckpt": self.ckpt}
            case "speed":
                return shared | {"latency_batch": self.latency_batch, "runs": self.runs}
