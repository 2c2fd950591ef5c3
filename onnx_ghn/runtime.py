"""Sessions of onnxruntime whose errors are one line."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from onnx_ghn.arrays import Array
from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.installed_runtime import require_onnxruntime
from onnx_ghn.limits import memory_bytes

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["failures", "open_session", "run_session"]

_MAX_RUN_S = 600.0  # a loop in a foreign file may never end
_SILENT = 4  # onnxruntime's severity for fatal errors only: failures are raised, not logged too


def open_session(
    path: str | os.PathLike[str],
    providers: Sequence[str] = ("CPUExecutionProvider",),
    *,
    packed: bool = True,
) -> onnxruntime.InferenceSession:
    """A session of a model.

    Args:
        packed: store a second copy of the weights that makes runs faster, which takes longer than a run does.

    Raises:
        RuntimeFailure: onnxruntime refuses the model, or cannot be used itself.
    """
    require_onnxruntime()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    _limit_memory(memory_bytes())
    options.add_session_config_entry("session.use_env_allocators", "1")
    if not packed:
        options.add_session_config_entry("session.disable_prepacking", "1")
    # Weights stay out of the shared allocator, which would keep their room when the session is gone.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    try:
        return onnxruntime.InferenceSession(os.fspath(path), options, providers=list(providers))
    except failures() as error:
        raise RuntimeFailure(f"onnxruntime cannot load {os.path.basename(path)}: {_first_line(error)}") from error


def run_session(
    session: onnxruntime.InferenceSession, feed: Mapping[str, Array], outputs: Sequence[str] | None = None
) -> list[Array]:
    """Run once. Raises RuntimeFailure, also if the run takes more than ten minutes."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = _SILENT
    # The allocator outlives the session: what it holds is given back after each run.
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    watch = threading.Timer(_MAX_RUN_S, setattr, (options, "terminate", True))
    watch.daemon = True
    watch.start()
    try:
        wanted = None if outputs is None else list(outputs)
        found: list[Array] = session.run(wanted, dict(feed), options)
    except failures() as error:
        reason = f"still runs after {_MAX_RUN_S:g} s" if options.terminate else _first_line(error)
        raise RuntimeFailure(f"onnxruntime cannot run the model: {reason}") from error
    finally:
        watch.cancel()
    return found


@functools.lru_cache(maxsize=1)
def _limit_memory(limit_bytes: int) -> None:
    """Sessions share an allocator that fails above the limit: a few bytes of a file can ask for terabytes."""
    import onnxruntime

    where = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(where, onnxruntime.OrtArenaCfg({"max_mem": int(limit_bytes * 0.8)}))


def failures() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: one class for each status code, without a common root of its own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names: tuple[str, ...] = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel", "NoSuchFile")
    names += ("NotImplemented", "RuntimeException", "EPFail", "EngineError", "ModelLoaded", "ModelLoadCanceled")
    # The bindings raise Python's own for what they find themselves, and for what C++ throws.
    own = (ValueError, RuntimeError, TypeError, IndexError, OverflowError, MemoryError)
    return (*(getattr(state, name) for name in names if hasattr(state, name)), *own)


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 300 else text[:297] + "..."
