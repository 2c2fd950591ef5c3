"""Timed sessions with the settings of a deployment: provider, threads, level of optimisation, custom operators."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.installed_runtime import preload_cuda, require_onnxruntime
from onnx_ghn.profiling.optimization_levels import OPTIMIZATIONS
from onnx_ghn.profiling.providers import add_provider, short_name
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.runtime import failures, load_as_known, reason_of

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["one_line_failures", "timed_session"]

_SILENT = 4  # onnxruntime's severity for fatal errors only: failures are raised, not logged too


def timed_session(
    model: str | bytes,
    point: Point,
    settings: Settings,
    *,
    folder: str = "",
    profile_prefix: str | None = None,
    optimized: Path | None = None,
    packed: bool = True,
) -> tuple[onnxruntime.InferenceSession, float]:
    """A session and the milliseconds that its creation took.

    Args:
        model: a path, or the bytes of a model whose external data lie in `folder`.
        profile_prefix: the prefix of the file of onnxruntime's trace; without one, no trace is recorded.
        optimized: where to write the graph as onnxruntime runs it (its large tensors beside it).
        packed: store a second copy of weights that makes runs faster; a session that is never run needs none.

    Raises:
        RuntimeFailure: a provider that is absent, a model that onnxruntime refuses (one that is newer than onnxruntime,
            and uses nothing new, is loaded as one of an older opset).
    """
    require_onnxruntime()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = point.threads
    options.inter_op_num_threads = point.inter_threads
    if point.inter_threads > 1:
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, OPTIMIZATIONS[point.optimization])
    if len(settings.pin) >= point.threads > 1:
        # One processor for each thread of the pool; the caller is the first thread. onnxruntime counts from 1.
        places = ";".join(str(core + 1) for core in settings.pin[1 : point.threads])
        options.add_session_config_entry("session.intra_op_thread_affinities", places)
    # Where bytes are loaded, external data lie there.
    beside = folder if isinstance(model, bytes) else os.path.dirname(os.path.abspath(model))
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", beside)
    if not packed:
        options.add_session_config_entry("session.disable_prepacking", "1")
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    if optimized is not None:
        options.optimized_model_filepath = os.fspath(optimized)
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", f"{optimized.name}.data"
        )
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    for library in settings.custom_op_libraries:
        with one_line_failures(f"custom operators: {library} cannot be loaded"):
            options.register_custom_ops_library(os.path.realpath(library))
    told = preload_cuda([point.provider])
    providers = add_provider(options, point, settings, one_line_failures)
    with one_line_failures("onnxruntime cannot load the model"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a provider that is dropped: an error is raised below
        session, creation_ms = load_as_known(model, lambda known: _timed(known, options, providers))
    if short_name(session.get_providers()[0]) != short_name(point.provider):
        why = f" ({told})" if told else ""
        raise RuntimeFailure(
            f"provider {point.provider} cannot be used on this machine: no device, or no libraries{why}"
        )
    return session, creation_ms


def _timed(
    model: str | bytes, options: onnxruntime.SessionOptions, providers: list[tuple[str, dict[str, str]]] | None
) -> tuple[onnxruntime.InferenceSession, float]:
    import onnxruntime

    began = time.perf_counter()
    # A plugin's devices are in the options already.
    more = {} if providers is None else {"providers": providers}
    # Without this, a provider that fails is replaced by the CPU's, which would be measured in its name.
    session = onnxruntime.InferenceSession(model, options, enable_fallback=0, **more)
    return session, (time.perf_counter() - began) * 1e3


@contextlib.contextmanager
def one_line_failures(what: str) -> Iterator[None]:
    """Turn whatever onnxruntime raises into a RuntimeFailure of one line, with a remedy if one is known."""
    try:
        yield
    except failures() as error:
        full = " ".join(str(error).split())
        text = reason_of(error)
        text = text if len(text) < 300 else f"{text[:147]} ... {text[-147:]}"  # providers put the reason last
        raise RuntimeFailure(f"{what}: {text}{_remedy(full, error)}") from error


def _remedy(text: str, error: Exception) -> str:
    lowered = text.lower()
    if isinstance(error, MemoryError) or "allocate memory" in lowered or "bad_alloc" in lowered:
        return "; out of memory: choose a smaller batch or shape"
    if "is not a registered function/op" in lowered or "no opset import for domain" in lowered:
        return "; give the library of a custom operator in `custom_op_libraries`"
    if "invalid dimensions" in lowered or "unexpected input data type" in lowered or "invalid rank" in lowered:
        return "; choose another `batch`, or other `shapes`"
    return ""
