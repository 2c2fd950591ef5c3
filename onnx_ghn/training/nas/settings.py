"""What is searched, and what is done with the best, as `onnx-ghn nas` asks for it. No torch."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from onnx_ghn.errors import OptionError
from onnx_ghn.json_types import Json
from onnx_ghn.settings import Settings, made, setting
from onnx_ghn.training.nets.settings import SPLITS, NetSettings
from onnx_ghn.training.settings import ImageData

__all__ = ["Cost", "Deployed", "Method", "SearchConfig", "Trained", "published_protocol", "ranking_settings"]

#: How networks to predict come up.
Method = Literal["ranking", "evolution"]
_POPULATION = 100
#: What a front may weigh a property against; each also has a limit.
Cost = Literal["latency_ms", "n_params", "n_macs"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig(Settings):
    """What to draw, and what to prefer."""

    split: str = setting("search", "Split whose rules draw the architectures.", choices=SPLITS)
    file: str | None = setting(None, "DeepNets-1M architectures (.hdf5 or .jsonl); without one they are drawn.")
    method: Method = setting(
        "ranking",
        "Predict --count networks that are drawn (ranking), or that come of the best so far by NSGA-II (evolution).",
    )
    population: int = setting(_POPULATION, "Number of networks that --method evolution begins with and keeps.", least=4)
    count: int = setting(10_000, "Number of architectures.", aliases=["-n", "--n"], least=1)
    seed: int = setting(1111, "Seed of all draws.", "-s", least=0)
    channels: int | None = setting(
        None, "Width of the networks; by default that of the networks behind the predictor.", least=16
    )
    predictor: str | None = setting(None, "Predictor to use instead of the bundled one.", metavar="FOLDER")
    by: str = setting("accuracy", "Property to rank by.")
    against: Cost = setting("latency_ms", "Cost that the Pareto front weighs against it.")
    max_latency_ms: float | None = setting(None, "Limit on the predicted latency, in milliseconds.", above=0)
    max_params: float | None = setting(None, "Limit on parameters.", above=0)
    max_macs: float | None = setting(None, "Limit on the multiply-accumulates of one image.", above=0)
    max_percentile: float = setting(
        95.0,
        "Leave out networks that lie further from the networks behind the predictor than this percentage of those do.",
        least=0,
        most=100,
    )
    top: int = setting(10, "Number of the best to list and export.", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method != "evolution" and self.population != _POPULATION:
            raise OptionError(f"`population` {self.population}: a ranking has none; set `method` to evolution")

    def limits(self) -> dict[str, float | None]:
        """The most that a candidate may have of each column; None where it may have any."""
        return {
            "latency_ms": self.max_latency_ms,
            "n_params": self.max_params,
            "n_macs": self.max_macs,
            "percentile": self.max_percentile,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deployed(Settings):
    """Which of the best are fast enough where they are to run, measured there."""

    latency_below: float | None = setting(
        None,
        "Keep the best whose latency, measured on this machine for one image, lies below this many milliseconds with "
        "its whole 95 % interval.",
        above=0,
        below=math.inf,
    )
    provider: str = setting("cpu", "Execution provider of --latency-below: cpu, cuda:1, …", metavar="NAME")
    threads: int = setting(1, "Threads within an operator, of --latency-below.", least=1)
    measured_seconds: float = setting(
        1.0,
        "Seconds for which --latency-below measures each network, in turn with the first of the ranking.",
        above=0,
        below=600,
    )
    most_measured: int = setting(100, "Number of the best that --latency-below measures at most.", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.latency_below is None:
            for field in dataclasses.fields(self):
                if getattr(self, field.name) != field.default:
                    raise OptionError(f"`{field.name}`: of latencies that are measured; set `latency_below`")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained(ImageData):
    """Which of the best are trained, and how."""

    compare: int | None = setting(None, "Number of the best to train briefly, beside the random ones.", least=1)
    random: int = setting(
        10, "Number of random networks within the limits beside the best, of --compare and --latency-below.", least=1
    )
    compare_steps: int = setting(400, "Training steps of --compare.", least=1)
    n_images: int = setting(1500, "Validation images that --compare measures on.", least=1)
    train: int | None = setting(None, "Number of the best to train as `train-net` does.", least=1)
    epochs: int = setting(600, "Epochs of --train.", "-e", least=0)
    dataset: str = setting("cifar10", "Data set of --train and --compare.", "-d")


def ranking_settings(config: SearchConfig) -> Json:
    """What the names and the order of a search's networks depend on, apart from their width; kept beside results."""
    found: Json = {"split": config.split, "file": config.file, "seed": config.seed, "by": config.by}
    if config.method == "evolution":
        found |= {"predictor": config.predictor, "population": config.population, "against": config.against}
        found |= {f"most_{name}": limit for name, limit in config.limits().items()}
    return found


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
