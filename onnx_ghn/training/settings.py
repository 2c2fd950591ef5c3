"""The settings that every training run has; those of one kind of model extend them."""

from __future__ import annotations

import dataclasses
import math

from onnx_ghn.errors import OptionError

__all__ = ["OPTIMIZERS", "OptimizerConfig", "RunConfig"]

#: The optimisers that a run can choose from.
OPTIMIZERS = ("adam", "adamw", "sgd", "muon")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How the weights are updated."""

    opt: str = "sgd"  # one of `OPTIMIZERS`
    lr: float = 0.025
    wd: float = 0.0  # weight decay (published: Adam's L2 penalty)
    grad_clip: float = math.inf  # largest gradient norm; infinite: gradients stay as they are

    def __post_init__(self) -> None:
        if self.opt not in OPTIMIZERS:
            raise OptionError(f"`opt` {self.opt!r} must be one of {', '.join(OPTIMIZERS)}")
        if not self.lr > 0:
            raise OptionError(f"`lr` {self.lr} must be positive")
        if not self.wd >= 0:
            raise OptionError(f"`wd` {self.wd} must be at least 0")
        if not self.grad_clip > 0:
            raise OptionError(f"`grad_clip` {self.grad_clip} must be positive")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(OptimizerConfig):
    """How a run goes on, whatever it trains."""

    amp: bool = False  # compute in bfloat16
    seed: int = 1111
    save_interval: int = 500  # steps
    log_interval: int = 100  # steps
    patience: float = 0.02  # share of skipped steps above which the run stops

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("save_interval", "log_interval"):
            if getattr(self, name) < 1:
                raise OptionError(f"`{name}` {getattr(self, name)} must be at least 1")
