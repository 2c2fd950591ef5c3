"""Where the figures of a run are shown beside its log: TensorBoard, Weights & Biases, MLflow or Trackio.

Each is its own adapter: it begins a run, describes and logs it, and closes it. One that is asked for by name is
imported at once, so that what is missing or broken is told before any work.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import json
import logging
import math
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.installing import NotInstalledError, install_command, require_installed
from onnx_ghn.json_types import Json
from onnx_ghn.onnx_io import write_file
from onnx_ghn.settings import Settings, setting

__all__ = ["TRACKERS", "OpenTracker", "Tracked", "Tracker", "TrackerName", "Tracking", "end", "open_tracker"]

logger = logging.getLogger(__name__)

TrackerName = Literal["tensorboard", "wandb", "mlflow", "trackio", "none"]

_PROJECT = "onnx-ghn"  # of the runs, where the package's own variable of the environment names no other
_RECORD = "tracker.json"  # in the run's folder: which run of the tracker it is


class Tracker(Protocol):
    """A run at a tracker."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Keep the figures of a step."""

    def close(self, *, failed: bool) -> None:
        """End the run; nothing is logged after that."""


class _Adapter(Tracker, Protocol):
    """A run at one kind of tracker. Making it begins the run there."""

    @property
    def known_as(self) -> str | None:
        """What the tracker calls the run, None where it needs no such name to go on with it."""

    def describe(self, run: Tracked) -> None:
        """Tell the settings of a run, where that is not done by beginning it."""


#: Opens a tracker for a run that goes on from a step (0: a new one).
OpenTracker = Callable[[Path, int], Tracker | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tracked:
    """A run as its tracker is told of it.

    Attributes:
        name: of the run.
        folder: of the run.
        resumed_at: the step that it goes on from; 0 begins it.
        known_as: what the tracker calls it, where it goes on.
        config: its settings.
    """

    name: str
    folder: Path
    resumed_at: int
    known_as: str | None
    config: Json


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tracking(Settings):
    """What shows the figures of a run.

    Raises:
        NotInstalledError: the package of a tracker that is asked for is not installed.
        RuntimeFailure: it is installed and cannot be imported.
    """

    tracker: TrackerName | None = setting(
        None,
        "What shows the figures of the run beside its log: tensorboard (the default where it is installed; its files "
        "lie in the folder of the run), wandb, mlflow, trackio, or none. Their own environment variables say where to, "
        "such as WANDB_MODE=offline.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tracker is not None and self.tracker != "none":
            _imported(self.tracker)

    def opener(self, config: Mapping[str, object]) -> OpenTracker:
        """What opens the tracker.

        Args:
            config: the settings of the run, for the tracker to show.
        """

        return functools.partial(open_tracker, self.tracker, config=config)


def open_tracker(
    name: TrackerName | None, folder: Path, resumed_at: int = 0, config: Mapping[str, object] | None = None
) -> Tracker | None:
    """Open a run at a tracker; one that goes on is the same run there.

    Args:
        name: None is TensorBoard where it works, and nothing (with a warning) where it is absent or broken.
        folder: of the run, which is made. The tracker's run bears its name.
        resumed_at: the step that the run goes on from.
        config: the settings of the run.

    Raises:
        NotInstalledError: the package is not installed.
        RuntimeFailure: its package cannot be imported, or the tracker cannot begin a run (nobody has logged in, for
            instance).
        ModelWriteError: the folder cannot be written.
    """
    if name == "none":
        return None
    known_as = _recalled(name, folder) if resumed_at and name is not None else None
    run = Tracked(
        name=folder.name, folder=folder, resumed_at=resumed_at, known_as=known_as, config=_plain(config or {})
    )
    if name is not None:
        return _begun(name, run)
    try:
        return _begun("tensorboard", run)
    except NotInstalledError:
        reason, remedy = "no TensorBoard", install_command("train")
    except RuntimeFailure as error:  # nobody asked for it, and the log has every figure
        reason, remedy = str(error), "the run goes on"
    logger.warning("%s, so %s alone is written: %s", reason, folder / "log.jsonl", remedy)
    return None


def _begun(name: str, run: Tracked) -> Tracker:
    """Begin a run, note its name, describe it. It is ended where one of these fails. Raises as `open_tracker` does."""
    _imported(name)
    with _told(name, "cannot begin a run"):
        adapter = _ADAPTERS[name](run)
    tracker = _Guarded(name, adapter)
    try:
        if adapter.known_as is not None:
            _remember(name, run.folder, adapter.known_as)
        with _told(name, "cannot begin a run"):
            adapter.describe(run)
    except BaseException:
        end(tracker, failed=True)
        raise
    return tracker


def end(tracker: Tracker, *, failed: bool) -> None:
    """Close a run whatever its tracker says to that: nothing is lost but what it shows, so a failure is a warning."""
    try:
        tracker.close(failed=failed)
    except RuntimeFailure as failure:
        logger.warning("%s", failure)


def _imported(name: str) -> None:
    """Import what a tracker needs. Raises NotInstalledError: it is absent; RuntimeFailure: it is broken."""
    require_installed(name)
    try:
        for module in _MODULES[name]:
            importlib.import_module(module)
    except Exception as error:
        raise RuntimeFailure(
            f"{name} is installed and cannot be imported ({_one_line(error)}); install it anew, or choose another "
            "`tracker`, or none"
        ) from error


class _Guarded:
    """A tracker whose errors are RuntimeFailures of one line.

    Args:
        name: of the tracker.
        tracker: may raise anything: a server that is gone, a disk that is full.
    """

    def __init__(self, name: str, tracker: Tracker) -> None:
        self._name, self._tracker = name, tracker

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Keep the figures of a step. Raises RuntimeFailure."""
        with _told(self._name, f"cannot keep the figures of step {step}"):
            self._tracker.log(step, figures)

    def close(self, *, failed: bool) -> None:
        """End the run. Raises RuntimeFailure."""
        with _told(self._name, "cannot end the run"):
            self._tracker.close(failed=failed)


class _TensorBoard:
    def __init__(self, run: Tracked) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.resumed_at + 1)
        self.known_as: str | None = None  # its files are in the folder

    def describe(self, run: Tracked) -> None:
        if run.config and not run.resumed_at:
            rows = "\n".join(f"| {name} | {value} |" for name, value in run.config.items())
            self._writer.add_text("config", f"| setting | value |\n|---|---|\n{rows}", 0)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, *, failed: bool) -> None:
        self._writer.close()


class _WandB:
    def __init__(self, run: Tracked) -> None:
        wandb: Any = importlib.import_module("wandb")
        self.known_as = run.known_as or uuid.uuid4().hex[:8]
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=run.name,
            id=self.known_as,
            resume="allow",
            dir=str(run.folder),
            config=dict(run.config),
        )

    def describe(self, run: Tracked) -> None:
        pass  # it was told when the run began

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class _MLflow:
    def __init__(self, run: Tracked) -> None:
        mlflow: Any = importlib.import_module("mlflow")
        self._entities: Any = importlib.import_module("mlflow.entities")
        self._client = mlflow.MlflowClient()
        if run.known_as is not None:
            self.known_as = run.known_as
            self._client.update_run(self.known_as, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        number = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        self.known_as = str(self._client.create_run(number, run_name=run.name).info.run_id)

    def describe(self, run: Tracked) -> None:
        if run.known_as is None:
            parameters = [self._entities.Param(key, str(value)) for key, value in run.config.items()]
            self._client.log_batch(self.known_as, params=parameters)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        now_ms = int(time.time() * 1000)
        metrics = [self._entities.Metric(name, value, now_ms, step) for name, value in figures.items()]
        self._client.log_batch(self.known_as, metrics=metrics)

    def close(self, *, failed: bool) -> None:
        self._client.set_terminated(self.known_as, "FAILED" if failed else "FINISHED")


class _Trackio:
    def __init__(self, run: Tracked) -> None:
        self._trackio: Any = importlib.import_module("trackio")
        project = os.environ.get("TRACKIO_PROJECT", _PROJECT)
        self.known_as = run.known_as or f"{run.name}-{uuid.uuid4().hex[:8]}"  # it knows runs by their names alone
        with _printed_on_stderr():
            self._run = self._trackio.init(project=project, name=self.known_as, config=dict(run.config), resume="allow")

    def describe(self, run: Tracked) -> None:
        pass  # it was told when the run began

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self, *, failed: bool) -> None:
        with _printed_on_stderr():
            self._trackio.finish()  # that of the run alone would be repeated at the end of the process


_ADAPTERS: Mapping[str, Callable[[Tracked], _Adapter]] = {
    "tensorboard": _TensorBoard,
    "wandb": _WandB,
    "mlflow": _MLflow,
    "trackio": _Trackio,
}
#: What is imported for each before any work.
_MODULES: Mapping[str, tuple[str, ...]] = {
    "tensorboard": ("torch.utils.tensorboard",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow", "mlflow.entities"),
    "trackio": ("trackio",),
}
#: The packages that show the figures of runs.
TRACKERS = tuple(_ADAPTERS)


@contextlib.contextmanager
def _told(name: str, what: str) -> Iterator[None]:
    """Tell whatever a tracker's package raises, what it imports late included, as a RuntimeFailure."""
    try:
        yield
    except Exception as error:
        raise RuntimeFailure(
            f"{name} {what} ({_one_line(error)}); mend that, or choose another `tracker`, or none"
        ) from error


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


@contextlib.contextmanager
def _printed_on_stderr() -> Iterator[None]:
    """Standard output is for results."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _plain(config: Mapping[str, object]) -> Json:
    """Settings as JSON has them: paths and infinite numbers as text."""
    plain: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, list | tuple):
            plain[name] = [str(item) for item in value]
        elif value is None or (isinstance(value, bool | int | str | float) and not _is_infinite(value)):
            plain[name] = value
        else:
            plain[name] = str(value)
    return plain


def _is_infinite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _recalled(name: str, folder: Path) -> str | None:
    """What a tracker calls the run; None where another one showed it, or none: it begins at this one."""
    try:
        record = json.loads((folder / _RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    is_its_own = isinstance(record, dict) and record.get("tracker") == name
    return str(record["run"]) if is_its_own and "run" in record else None


def _remember(name: str, folder: Path, known_as: str) -> None:
    """Note it for the next time. Raises ModelWriteError."""
    record = json.dumps({"tracker": name, "run": known_as}, indent=2) + "\n"
    write_file(folder / _RECORD, record.encode(), force=True, what="a record")
