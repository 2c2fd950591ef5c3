"""What is searched, and what is done with the best, as `onnx-ghn nas` asks for it. No torch."""

from __future__ import annotations

import dataclasses
from typing import Literal

from onnx_ghn.settings import Settings, made, setting
from onnx_ghn.training.nets.settings import SPLITS, NetSettings
from onnx_ghn.training.settings import ImageData

__all__ = ["Cost", "SearchConfig", "Trained", "published_protocol"]

#: What a front may weigh a property against; each also has a limit.
Cost = Literal["latency_ms", "n_params", "n_macs"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig(Settings):
    """What to draw, and what to prefer."""

    split: str = setting("search", "Split whose rules draw the architectures.", choices=SPLITS)
    file: str | None = setting(None, "DeepNets-1M architectures (.hdf5 or .jsonl); without one they are drawn.")
    count: int = setting(10_000, "Number of architectures.", aliases=["-n", "--n"], least=1)
    seed: int = setting(1111, "Seed of all draws.", "-s", least=0)
    channels: int | None = setting(
        None, "Width of the networks; by default that of the networks behind the predictor.", least=16
    )
    predictor: str | None = setting(None, "Predictor to use instead of the bundled one.", metavar="FOLDER")
    by: str = setting("accuracy", "Property to rank by.")
    against: Cost = setting("latency_ms", "Cost that the Pareto front weighs against it.")
    max_latency_ms: float | None = setting(None, "Limit on the predicted latency.")
    max_params: float | None = setting(None, "Limit on parameters.")
    max_macs: float | None = setting(None, "Limit on the multiply-accumulates of one image.")
    max_percentile: float = setting(
        95.0,
        "Leave out networks that lie further from the networks behind the predictor than this percentage of those do.",
    )
    top: int = setting(10, "Number of the best to list and export.", least=1)

    def limits(self) -> dict[str, float | None]:
        """The most that a candidate may have of each column; None where it may have any."""
        return {
            "latency_ms": self.max_latency_ms,
            "n_params": self.max_params,
            "n_macs": self.max_macs,
            "percentile": self.max_percentile,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained(ImageData):
    """Which of the best are trained, and how."""

    compare: int | None = setting(None, "Number of the best to train briefly, beside as many random ones.", least=1)
    compare_steps: int = setting(400, "Training steps of --compare.", least=1)
    n_images: int = setting(1500, "Validation images that --compare measures on.", least=1)
    train: int | None = setting(None, "Number of the best to train as `train-net` does.", least=1)
    epochs: int = setting(600, "Epochs of --train.", "-e", least=0)
    dataset: str = setting("cifar10", "Data set of --train and --compare.", "-d")


def published_protocol(config: SearchConfig, trained: Trained, index: int, channels: int) -> NetSettings:
    """How the best are trained: with cutout, drop path and an auxiliary classifier (facebookresearch/ppuda).

    Args:
        index: of the architecture.
        channels: the width that it gets.
    """
    return made(
        NetSettings,
        {
            "split": config.split, "file": config.file, "arch": str(index), "arch_seed": config.seed,
            "init_channels": channels, "dataset": trained.dataset, "data_dir": trained.data_dir,
            "epochs": trained.epochs, "cutout": True, "drop_path_prob": 0.2, "auxiliary": True,
        },
    )  # fmt: skip
