"""The settings that every training run has; those of one kind of model extend them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from onnx_ghn.settings import Settings, setting

__all__ = ["OPTIMIZERS", "ImageData", "OptimizerConfig", "RunConfig", "RunFolder"]

#: The optimisers that a run can choose from.
OPTIMIZERS = ("sgd", "adam", "adamw", "muon")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageData(Settings):
    """Where the images come from."""

    dataset: str = setting("cifar10", "The data set: cifar10, imagenet, or a folder or zip archive.", "-d")
    data_dir: str = setting("./data", "The folder of data sets.", "-D")
    download: bool = setting(False, "Fetch CIFAR-10 or CIFAR-100 into --data-dir where it is absent.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunFolder(Settings):
    """Where a run is kept, and how far it goes for now."""

    save_dir: str = setting("./out", "Folder of all runs, each with its log and the state to resume from.", "-S")
    name: str = setting("RUN", "Name of the run, a folder in --save-dir.")
    until: int | None = setting(None, "The step to stop at for now; the schedule stays that of the whole run.", least=1)

    @property
    def folder(self) -> Path:
        """Of the log and the state."""
        return Path(self.save_dir) / self.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Settings):
    """How the weights are updated."""

    opt: str = setting("sgd", "Optimiser.", choices=OPTIMIZERS)
    lr: float = setting(0.025, "Learning rate.", above=0, below=math.inf)
    wd: float = setting(0.0, "Weight decay.", least=0, below=math.inf)  # published: Adam's L2 penalty
    grad_clip: float = setting(math.inf, "Largest gradient norm.", above=0)  # infinite: gradients stay as they are


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Pace(Settings):
    amp: bool = setting(False, "Compute in bfloat16.")
    seed: int = setting(1111, "Random seed.", "-s", least=0)
    save_interval: int = setting(500, "Steps between saved states.", least=1)
    log_interval: int = setting(100, "Steps between lines of the log.", "-l", least=1)
    patience: float = 0.02  # share of skipped steps above which the run stops


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(OptimizerConfig, _Pace):
    """How a run goes on, whatever it trains."""
