"""Sessions of onnxruntime whose errors are one line."""

from __future__ import annotations

import functools
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from onnx_ghn.arrays import Array
from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.installed_runtime import preload_cuda, require_onnxruntime
from onnx_ghn.lagging_runtime import declared_lower
from onnx_ghn.limits import memory_bytes

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["failures", "load_as_known", "open_session", "reason_of", "run_session"]

T = TypeVar("T")

_MAX_RUN_S = 600.0  # a loop in a foreign file may never end, nor what is folded of it
_MAX_REFUSALS = 2  # for the opset and for the IR version
_LIMIT_STEP = 1 << 28
#: What onnxruntime writes before the reason: its status, the place in its source, and the file, which may be a copy.
_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |/onnxruntime_src/\S+ [^()]*\([^()]*\) |Load model from .+? failed: ?"
)
#: A rewrite of weights in float16 that onnxruntime 1.32.0 does not always survive, nor the process that it runs in.
_FALLIBLE = "FuseFp16InitializerToFp32NodeTransformer"
_SILENT = 4  # onnxruntime's severity for fatal errors only: failures are raised, not logged too


def open_session(
    path: str | os.PathLike[str],
    providers: Sequence[str] = ("CPUExecutionProvider",),
    *,
    packed: bool = True,
    threads: int | None = None,
) -> onnxruntime.InferenceSession:
    """A session of a model.

    Args:
        threads: within an operator; as many as there are cores, unless told.
        packed: make runs fast: store a second copy of the weights, which takes longer than a run does, and apply all
            of onnxruntime's rewrites.

    Raises:
        RuntimeFailure: onnxruntime refuses the model (one that is newer than onnxruntime, and uses nothing new, is
            tried as one of an older opset), takes more than ten minutes to load it, or cannot be used itself.
    """
    require_onnxruntime()
    import onnxruntime

    preload_cuda(providers)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = threads or 0
    # What a limit of addresses leaves changes all the time: in steps, the allocator is made once.
    _limit_memory(max(1, memory_bytes() // _LIMIT_STEP) * _LIMIT_STEP)
    options.add_session_config_entry("session.use_env_allocators", "1")
    left_out = {} if packed else {"disabled_optimizers": [_FALLIBLE]}
    if not packed:
        options.add_session_config_entry("session.disable_prepacking", "1")
    # Weights stay out of the shared allocator, which would keep their room when the session is gone.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    name = os.path.basename(path)

    # Where bytes are loaded, external data lie there.
    folder = os.path.dirname(os.path.abspath(path))
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)

    def session(model: str | bytes) -> onnxruntime.InferenceSession:
        return _watched(
            lambda: onnxruntime.InferenceSession(model, options, providers=list(providers), **left_out),
            lambda: _cancel(options),
        )

    try:
        return load_as_known(os.fspath(path), session)
    except TimeoutError as error:
        raise RuntimeFailure(
            f"onnxruntime cannot load {name}: still folds its constants after {_MAX_RUN_S:g} s; simplify the model"
        ) from error
    except failures() as error:
        raise RuntimeFailure(f"onnxruntime cannot load {name}: {_first_line(error)}") from error


def load_as_known(model: str | bytes, load: Callable[[str | bytes], T]) -> T:
    """What `load` gives for a model, or for the same one declared lower where onnxruntime does not know its opset yet.

    Args:
        load: makes a session; where it is given bytes, external data lie beside the model.

    Raises:
        RuntimeFailure: operators of an opset that is too new are used. What else `load` raises is raised.
    """
    for _ in range(_MAX_REFUSALS):
        try:
            return load(model)
        except failures() as error:
            lower = declared_lower(model, str(error))
            if lower is None:
                raise
            model = lower
    return load(model)


def _watched(make: Callable[[], T], cancel: Callable[[], None]) -> T:
    """What `make` gives, waited for as long as a run is.

    It works in a thread of its own, since onnxruntime computes what is constant while it makes a session, and heeds a
    cancellation only between passes over the graph. A thread that goes on all the same does not keep the process.

    Raises:
        TimeoutError: it takes longer; `cancel` has been called.
    """
    found: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            found.append(make())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            errors.append(error)

    thread = threading.Thread(target=work, name="onnx-ghn session", daemon=True)
    thread.start()
    try:
        thread.join(_MAX_RUN_S)
    finally:
        if thread.is_alive():
            cancel()
    if thread.is_alive():
        raise TimeoutError
    if errors:
        raise errors[0]
    return found[0]


def _cancel(options: onnxruntime.SessionOptions) -> None:
    if hasattr(options, "set_load_cancellation_flag"):  # not in onnxruntime before 1.21
        options.set_load_cancellation_flag(True)


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


def reason_of(error: Exception) -> str:
    """Why onnxruntime failed, on one line, without its status and its places."""
    return _NOISE.sub("", " ".join(str(error).split()))


def _first_line(error: Exception) -> str:
    text = reason_of(error)
    return text if len(text) < 300 else text[:297] + "..."
