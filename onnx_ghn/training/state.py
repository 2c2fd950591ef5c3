"""All that the next step of a run depends on: weights and their average, optimiser, counters and settings."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from onnx_ghn.errors import CheckpointError
from onnx_ghn.json_types import JsonView
from onnx_ghn.training.checkpoint_state import load_state, save_state
from onnx_ghn.training.optimizers import Optimizers

#: torch has no types for it.
_ema: Callable[[float], Callable[..., None]] = get_ema_multi_avg_fn

__all__ = ["Settings", "TrainingState", "follow"]

#: Settings that a resumed run may change, whatever it trains.
_FREE = frozenset({"save_interval", "log_interval", "patience"})
_MOST_RECENT = 1000  # steps whose figures are kept: a file's record is no place for more


@dataclasses.dataclass(frozen=True)
class Settings:
    """One section of what a run was asked for; a state of other settings is refused.

    Args:
        values: the settings.
        defaults: what a run did whose version did not have a setting yet.
        free: those that a resumed run may change.
        late: states of earlier versions do not have the section, and go on without it.
    """

    values: Mapping[str, object]
    defaults: Mapping[str, object] = dataclasses.field(default_factory=dict)
    free: frozenset[str] = frozenset()
    late: bool = False

    @classmethod
    def of(cls, config: Any, free: frozenset[str] = frozenset(), **more: object) -> Settings:
        """Those of a config (a dataclass), and more."""
        fields = dataclasses.fields(config)
        defaults = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
        return cls(dataclasses.asdict(config) | more, defaults, free)

    def differing(self, recorded: JsonView) -> list[str]:
        """The settings that were others in the record of a run: names, both values."""
        theirs = {**self.defaults, **recorded}
        if "steps_per_epoch" in theirs:  # fine-tuning was recorded as epochs of one step
            theirs.setdefault("steps", theirs["epochs"] * theirs["steps_per_epoch"])
        told = {name: (json.dumps(value), json.dumps(theirs.get(name))) for name, value in self.values.items()}
        return [
            f"{name} {json.loads(ours)} instead of {json.loads(before)}"
            for name, (ours, before) in sorted(told.items())
            if name not in _FREE | self.free and ours != before
        ]


class TrainingState:
    """The state of a run, which `save` keeps and `load` takes up to the bit.

    Attributes:
        step: how many steps are done.
        skipped: how many of them changed nothing.
        extra: what else a kind of run remembers, in the forms of JSON.
        recent: the figures of the last steps, over which the next line of the log averages.

    Args:
        model: that is trained, on its device.
        optimizers: of the model.
        settings: by section of the record.
        part: what the names of the model's tensors begin with in the file.
        average: of the model's weights, where one is kept.
        extra: the first value of the attribute; the names stay.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Optimizers,
        settings: Mapping[str, Settings],
        *,
        part: str = "net",
        average: AveragedModel | None = None,
        extra: JsonView | None = None,
    ) -> None:
        self.model, self.optimizers, self.average = model, optimizers, average
        self.step = 0
        self.skipped = 0
        self.extra: dict[str, Any] = dict(extra or {})
        self.recent: list[dict[str, float]] = []
        self._settings, self._part = settings, part

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def record(self) -> dict[str, object]:
        """All of it but the tensors."""
        sections = {name: dict(settings.values) for name, settings in self._settings.items()}
        counted = {"step": self.step, "skipped": self.skipped, "recent": self.recent[-_MOST_RECENT:]}
        return {**counted, **self.extra, **sections}

    def save(self, path: Path) -> None:
        """Write the state, whole or not at all. Raises CheckpointError."""
        parts = {self._part: self.model.state_dict(), "ema": self.averaged(), "opt": self.optimizers.state()}
        tensors = {f"{part}.{name}": t for part, named in parts.items() for name, t in named.items()}
        save_state(path, tensors, self.record())

    def load(self, path: Path) -> None:
        """Take up a run.

        Raises:
            CheckpointError: the state is damaged, or of a run with other settings or another network.
        """
        tensors, record = load_state(path, self.device)
        differing = [
            told
            for section, settings in self._settings.items()
            if section in record or not settings.late
            for told in settings.differing(record.get(section, {}))
        ]
        if differing:
            raise CheckpointError(
                f"{path}: a run with other settings ({', '.join(differing)}); choose another folder for this one"
            )
        try:
            self.model.load_state_dict(_named(tensors, self._part))
            if self.average is not None:
                _copy(_named(tensors, "ema"), self.averaged())
        except (RuntimeError, KeyError) as error:
            raise CheckpointError(
                f"{path}: the weights of another network; choose another folder for this one"
            ) from error
        self.optimizers.restore(_named(tensors, "opt"))
        self.step, self.skipped = int(record["step"]), int(record.get("skipped", 0))
        self.recent = list(record.get("recent", []))
        self.extra = {name: record[name] for name in self.extra}

    def averaged(self) -> dict[str, Tensor]:
        """The average of each parameter by its name; empty where none is kept."""
        return {} if self.average is None else dict(self.average.module.named_parameters())


def follow(model: nn.Module, decay: Callable[[], float]) -> AveragedModel:
    """An average of a model's weights that begins with those that it has.

    Args:
        model: the model, which is copied.
        decay: how much of the average the next update keeps.
    """
    average = AveragedModel(
        model, multi_avg_fn=lambda averages, weights, n: _ema(decay())(averages, weights, n)
    ).requires_grad_(False)
    assert isinstance(average.n_averaged, Tensor)
    average.n_averaged.fill_(1)  # of none, the first update would be a copy
    return average


def _named(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}."): t for name, t in tensors.items() if name.startswith(f"{part}.")}


@torch.no_grad()
def _copy(tensors: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> None:
    for name, target in targets.items():
        target.copy_(tensors[name])
