"""A long run's state on disk, so that it goes on where it was stopped."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn

__all__ = ["KeptState", "Progress"]


@dataclasses.dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: steps that are done.
        losses: one of each step.
        found: (percent, loss) at the marks that were passed, by the name of the part.
    """

    step: int = 0
    losses: list[float] = dataclasses.field(default_factory=list)
    found: dict[str, list[tuple[float, float]]] = dataclasses.field(default_factory=lambda: {"choose": [], "judge": []})


@dataclasses.dataclass(frozen=True)
class KeptState:
    """Where the state of a run is kept, and after how many steps it is written anew.

    Batches are not kept: they follow from the seed, and whoever goes on draws those again that are done.
    """

    path: Path
    interval: int = 200

    def restore(self, module: nn.Module, rule: torch.optim.Optimizer) -> Progress:
        """Take up what was kept, generator of random numbers included; the start of a run where there is nothing."""
        if not self.path.exists():
            return Progress()
        state = torch.load(self.path, weights_only=True)
        module.load_state_dict(state["module"])
        rule.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        found = {part: [(percent, loss) for percent, loss in scores] for part, scores in state["found"].items()}
        return Progress(state["step"], state["losses"], found)

    def write(self, progress: Progress, module: nn.Module, rule: torch.optim.Optimizer) -> None:
        """Keep the state, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(self.path.name + ".new")
        state = {"module": module.state_dict(), "optimizer": rule.state_dict(), "random": torch.get_rng_state()}
        torch.save({**state, **dataclasses.asdict(progress)}, beside)
        beside.replace(self.path)

    def due(self, step: int) -> bool:
        return step % self.interval == 0
