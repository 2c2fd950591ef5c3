"""onnxruntime sessions with errors of one line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from onnx_ghn.errors import RuntimeFailure

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["open_session", "run_session"]

_SILENT = 4  # onnxruntime's severity for fatal errors only: what fails is raised, and said once


def open_session(path: str | os.PathLike[str], providers: Sequence[str] = ("CPUExecutionProvider",)) -> Any:
    """An InferenceSession. Raises RuntimeFailure where onnxruntime refuses the model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    try:
        return onnxruntime.InferenceSession(os.fspath(path), options, providers=list(providers))
    except _failures(onnxruntime) as error:
        raise RuntimeFailure(f"onnxruntime cannot load {os.path.basename(path)}: {_first_line(error)}") from error


def run_session(
    session: onnxruntime.InferenceSession, feed: Mapping[str, npt.NDArray[Any]], outputs: Sequence[str] | None = None
) -> list[npt.NDArray[Any]]:
    """Run once. Raises RuntimeFailure."""
    import onnxruntime

    try:
        found: list[npt.NDArray[Any]] = session.run(None if outputs is None else list(outputs), dict(feed))
    except _failures(onnxruntime) as error:
        raise RuntimeFailure(f"onnxruntime cannot run the model: {_first_line(error)}") from error
    return found


def _failures(onnxruntime: Any) -> tuple[type[Exception], ...]:
    """What onnxruntime raises: one class for each status code, without a common root of its own."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel", "NoSuchFile", "NotImplemented")
    names += ("RuntimeException", "EPFail", "EngineError", "ModelLoaded", "ModelLoadCanceled")
    return (*(getattr(state, name) for name in names if hasattr(state, name)), ValueError)


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 300 else text[:297] + "..."
