"""The loop of every training run: it steps, logs and saves, and goes on after an interruption to the bit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.json_types import Json
from onnx_ghn.training.bfloat16 import warn_where_slower
from onnx_ghn.training.checkpoint_state import save_state
from onnx_ghn.training.group import Group
from onnx_ghn.training.logs import Report, RunLog, mean_figures, write_record
from onnx_ghn.training.schedule import Schedule
from onnx_ghn.training.settings import RunConfig
from onnx_ghn.training.state import TrainingState
from onnx_ghn.training.trackers import OpenTracker, Tracking

__all__ = ["TakeStep", "TrainingLoop"]

_STATE = "state.safetensors"
_FORGIVEN = 20  # skipped steps, however short the run

#: Trains one step, whose number it is given and from which alone it draws its data; says its figures. A step that can
#: fail without harm says `skipped`, 1 or 0, among them; the loop counts these.
TakeStep = Callable[[int], dict[str, float]]


class TrainingLoop:
    """A run that can be killed at any moment and goes on from its last checkpoint as if nothing had happened.

    A trainer of one kind of model extends this: it builds the state and gives the step and the schedule.

    Attributes:
        steps: how many steps the whole run has.
        state: what a checkpoint keeps.

    Args:
        take_step: trains one step on `state`.
        schedule: the learning rate of each step.
        state: what the run begins with.
        config: when to save, to log and to give up.
        steps: how many steps the whole run has.
        folder: of the checkpoint and the log; None keeps nothing.
        weights_name: of a file beside the checkpoint that gets the trained weights alone after the last step.
        group: of processes, the first of which writes.
    """

    def __init__(
        self,
        take_step: TakeStep,
        schedule: Schedule,
        state: TrainingState,
        config: RunConfig,
        *,
        steps: int,
        folder: Path | None = None,
        weights_name: str | None = None,
        group: Group | None = None,
    ) -> None:
        self.state, self.steps, self.folder, self.group = state, steps, folder, group or Group()
        self._take_step, self._schedule, self._run_config = take_step, schedule, config
        self._weights_name = weights_name
        self._open_tracker: OpenTracker = Tracking().opener({})
        if config.amp and not self.group.rank:
            warn_where_slower(state.device)

    def track(self, tracking: Tracking, config: Mapping[str, object]) -> None:
        """Show the figures of the run at a tracker, too; without this call TensorBoard has them, where it works.

        Args:
            tracking: names the tracker.
            config: the settings of the run, which the tracker shows.
        """
        self._open_tracker = tracking.opener(config)

    @property
    def step(self) -> int:
        """How many steps are done."""
        return self.state.step

    @property
    def skipped(self) -> int:
        """How many of them changed nothing."""
        return self.state.skipped

    def resume(self) -> bool:
        """Take up the run in `folder`, if there is one. Raises CheckpointError where it is another run's."""
        if self.folder is None or not (self.folder / _STATE).exists():
            return False
        self.state.load(self.folder / _STATE)
        return True

    def save(self) -> None:
        """Write the state, and beside it the trained weights as others read them. Raises CheckpointError."""
        if self.folder is None or self.group.rank:
            return
        self.state.save(self.folder / _STATE)
        self.publish(self.folder)

    def publish(self, folder: Path) -> None:
        """Write the trained weights beside the state: here those alone after the last step. Raises CheckpointError."""
        if self._weights_name is not None and self.step == self.steps:
            save_state(folder / self._weights_name, self.state.model.state_dict(), self.state.record())

    def tell(self, result: Json) -> Json:
        """What the run came to; after its last step it is written into the folder, as result.json, too."""
        if self.folder is not None and self.step == self.steps:
            write_record(self.folder / "result.json", result)
        return result

    def after_step(self) -> Mapping[str, float] | None:
        """Do what follows some steps; the figures of such a step, which is logged and saved, or None."""
        return None

    def run(self, report: Report | None = None, until: int | None = None) -> dict[str, float]:
        """Train to the last step, saving as it goes.

        Args:
            report: is called with the number of steps done and the figures of each step.
            until: stop after this step for now.

        Returns:
            the mean figures of the last `log_interval` steps, those before an interruption among them.

        Raises:
            RuntimeFailure: more steps than `patience` allows had to be skipped, or a step failed.
        """
        config, state = self._run_config, self.state
        last = self.steps if until is None else min(until, self.steps)
        folder = None if self.group.rank or state.step >= last else self.folder
        window = state.recent
        with RunLog(folder, state.step, self._open_tracker) as log:
            while state.step < last:
                window.append(self._timed_step())
                del window[: -config.log_interval]
                state.step += 1
                if report is not None:
                    report(state.step, window[-1])
                more = self.after_step()
                is_due = more is not None or state.step == last
                if is_due or state.step % config.log_interval == 0:
                    log.write(state.step, mean_figures(window) | dict(more or {}))
                if is_due or state.step % config.save_interval == 0:
                    self.save()
                self._check_patience()
        return mean_figures(window)

    def _timed_step(self) -> dict[str, float]:
        start, state = time.perf_counter(), self.state
        torch.manual_seed(self._run_config.seed + state.step)  # of what layers draw; the data are drawn by step
        rate = self._schedule(state.step)
        state.optimizers.set_rate(rate)
        figures = self._take_step(state.step)
        is_skipped = figures.pop("skipped", None)
        figures["lr"] = rate
        if is_skipped is not None:
            state.skipped += int(is_skipped)
            figures["skipped"] = float(state.skipped)
        figures["seconds"] = time.perf_counter() - start
        return figures

    def _check_patience(self) -> None:
        skipped = self.state.skipped
        if skipped > _FORGIVEN and skipped > self._run_config.patience * self.steps:
            raise RuntimeFailure(
                f"{skipped} of {self.step} steps had no finite loss or ran out of memory; lower `lr` or the batch size"
            )
