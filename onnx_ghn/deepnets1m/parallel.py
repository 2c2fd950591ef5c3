"""Independent jobs, here or through joblib, whose backend can be a Ray or Dask cluster."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any, TypeVar

from onnx_ghn.errors import OptionError
from onnx_ghn.workers import end_with

__all__ = ["BACKENDS", "in_order"]

BACKENDS = ("loky", "threading", "ray", "dask")
_IDLE_SECONDS = 10  # after which a process without work ends

T = TypeVar("T")


def in_order(
    function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], workers: int = 1, backend: str | None = None
) -> Generator[T]:
    """function(*task) for each task, in the tasks' order, as they come.

    Args:
        workers: at once; -1 for as many as there are cores (in the cluster).
        backend: joblib's; without one and with one worker, all happens here.

    Raises:
        OptionError: workers out of range; joblib or the backend's package is absent.
    """
    if workers == 0 or workers < -1:
        raise OptionError(f"{workers} workers: give a number of processes, or -1 for one a core")
    if backend is not None and backend not in BACKENDS:
        raise OptionError(f"no backend {backend!r}; there are {', '.join(BACKENDS)}")
    if workers == 1 and backend is None:
        return (function(*task) for task in tasks)
    backend = backend or "loky"
    try:
        import joblib

        client = _connected(backend)
    except ImportError as error:
        package = {"ray": "ray", "dask": "distributed"}.get(backend)
        if package is None:
            raise OptionError("several workers need joblib: pip install 'onnx-ghn[train]', or take one") from error
        raise OptionError(f"backend {backend} needs joblib and {package}: pip install joblib {package}") from error
    return _by_joblib(joblib, function, tasks, workers, backend, client)


def _by_joblib(
    joblib: Any, function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], workers: int, backend: str, client: Any
) -> Generator[T]:
    options = {"idle_worker_timeout": _IDLE_SECONDS} if backend == "loky" else {}
    try:
        with joblib.parallel_config(backend=backend, n_jobs=workers, **options):
            parallel = joblib.Parallel(return_as="generator", batch_size=1, pre_dispatch="3*n_jobs")
            if backend == "loky":
                results = parallel(joblib.delayed(_in_child)(os.getpid(), function, *task) for task in tasks)
            else:
                results = parallel(joblib.delayed(function)(*task) for task in tasks)
        with contextlib.closing(results):
            yield from results
    except BrokenExecutor as error:
        raise OptionError(
            "a worker process was killed; run again with fewer --workers: what is written is kept"
        ) from error
    finally:
        if client is not None:
            client.close()


def _in_child(parent: int, function: Callable[..., T], *task: Any) -> T:
    """Runs in a loky process. Those outlive a parent that is killed, waiting for ever: this one does not."""
    if os.getpid() != parent:  # one job at a time needs no child
        end_with(parent)
    return function(*task)


def _connected(backend: str) -> Any:
    """Prepare a cluster's backend; what is to be closed at the end. Raises ImportError."""
    if backend == "ray":
        from ray.util.joblib import register_ray

        register_ray()
    elif backend == "dask":
        from distributed import Client

        # That of DASK_SCHEDULER_ADDRESS, or a new one on this machine.
        return Client(set_as_default=True)
    return None
