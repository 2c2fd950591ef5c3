"""What calibrations tell of a model, if there are any."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from onnx_ghn.properties.machine.places import FITTED, calibrations_folder

if TYPE_CHECKING:
    from onnx_ghn.properties.machine.prediction import MachineReport

__all__ = ["is_calibrated", "predict_where_calibrated"]


def is_calibrated() -> bool:
    """Whether anything is calibrated, of whichever machine; onnxruntime is not imported for less."""
    try:
        return any(calibrations_folder().glob(f"*/{FITTED}"))
    except OSError:  # of a folder that this user may not read, as where the home is another user's
        return False


def predict_where_calibrated(source: str | os.PathLike[str]) -> list[MachineReport]:
    """Latency and memory on this machine's CPU at each number of threads at which it is calibrated: none, mostly.

    Raises:
        ModelReadError, OptionError, RuntimeFailure, CheckpointError: as `predict_on_machine` does.
    """
    if not is_calibrated():
        return []
    from onnx_ghn.properties.machine.prediction import calibrated_threads, predict_on_machine

    return [predict_on_machine(source, threads=threads) for threads in calibrated_threads()]
