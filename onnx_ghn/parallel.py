"""Independent jobs: in this process, or on several processes or machines through joblib, Dask or Ray.

This is the one place that knows the engines. Each gives the results of one process, to the bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from onnx_ghn.errors import OptionError
from onnx_ghn.installing import install_command
from onnx_ghn.limits import available_cores
from onnx_ghn.settings import Settings, setting
from onnx_ghn.workers import end_with

__all__ = ["BACKENDS", "Jobs", "in_order"]

BACKENDS = ("loky", "threading", "ray", "dask")
_PACKAGES = {"loky": "joblib", "ray": "ray", "dask": "distributed"}
_IDLE_SECONDS = 10  # after which a process of loky that has no work ends
_LOOK_SECONDS = 5  # between two looks at whether anything still minds the processes of loky
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_AHEAD = 3  # jobs that are handed out for each worker before the first result is taken
_QUEUED = 2  # likewise on loky, whose queue holds one more: what has not come that far cannot be taken back

_LOST = "a worker process was killed; run again with fewer workers: what is written is kept"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Jobs(Settings):
    """How independent jobs are spread; see `in_order`."""

    workers: int = setting(1, "Jobs that run at once; -1 for one per core.")
    backend: str | None = setting(
        None,
        "Engine that runs the jobs (default: joblib's loky). dask and ray start a cluster on this machine, or "
        "use the one at DASK_SCHEDULER_ADDRESS or RAY_ADDRESS.",
        choices=BACKENDS,
    )


T = TypeVar("T")
F = TypeVar("F")


def in_order(
    function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], workers: int = 1, backend: str | None = None
) -> Generator[T]:
    """Yield function(*task) for each task, in the order of the tasks, as soon as each is there.

    Args:
        function: a function of a module, which the workers can import. It must not assume that it has its process
            for itself: several jobs share one with threading, and on Dask workers with several threads.
        workers: how many jobs run at once; -1 for one a core. A cluster that is already running (see `backend`)
            uses all that it has.
        backend: the engine: loky, threading, dask or ray; loky unless told, and this process alone for one worker.
            Dask uses the cluster at DASK_SCHEDULER_ADDRESS and Ray the one at RAY_ADDRESS, where these are set;
            otherwise each starts one on this machine and stops it at the end.

    Raises:
        OptionError: workers out of range, no such backend, a package that is not installed, or a worker that died.
    """
    if workers == 0 or workers < -1:
        raise OptionError(f"{workers} workers: give a number of processes, or -1 for one a core")
    if backend is not None and backend not in BACKENDS:
        raise OptionError(f"no backend {backend!r}; there are {', '.join(BACKENDS)}")
    if workers == 1 and backend is None:
        return (function(*task) for task in tasks)
    backend = backend or "loky"
    _check_installed(backend)
    run = {"loky": _on_loky, "threading": _on_threads, "dask": _on_dask, "ray": _on_ray}[backend]
    return run(function, tasks, workers)


def _check_installed(backend: str) -> None:
    """Raises OptionError, which names what to install."""
    package = _PACKAGES.get(backend)
    try:
        if package is not None:
            importlib.import_module(package)
    except ImportError as error:
        if backend == "loky":
            raise OptionError(f"several workers need joblib: {install_command('train')}, or take one") from error
        raise OptionError(f"`backend` {backend} needs {package}: pip install {package}") from error


def _on_threads(function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], workers: int) -> Generator[T]:
    workers = workers if workers > 0 else len(available_cores())
    with ThreadPoolExecutor(workers) as pool:
        yield from _window(lambda *task: pool.submit(function, *task), Future.result, Future.cancel, tasks,
                           _AHEAD * workers)  # fmt: skip


def _on_loky(function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], workers: int) -> Generator[T]:
    """Loky itself rather than loky below joblib's Parallel, which waits for ever where the thread ends that minds the
    processes. It ends where warnings are errors and a process stops for want of work as jobs come (joblib 1.6).
    """
    from joblib import cpu_count
    from joblib.externals.loky import get_reusable_executor

    workers = workers if workers > 0 else cpu_count()
    if workers == 1:
        yield from (function(*task) for task in tasks)
        return
    share = str(max(1, cpu_count() // workers))  # threads of a worker: together they have no more than the cores
    threads = {name: os.environ.get(name, share) for name in _THREADS}
    pool = get_reusable_executor(workers, timeout=_IDLE_SECONDS, env=threads)

    def submit(*task: Any) -> Future[T]:
        return pool.submit(_in_child, os.getpid(), function, *task)  # type: ignore[no-any-return]

    def take(future: Future[T]) -> T:
        while not wait([future], timeout=_LOOK_SECONDS).done:
            minder = getattr(pool, "_executor_manager_thread", None)
            if minder is not None and not minder.is_alive() and not future.done():
                raise OptionError(_LOST)
        return future.result()

    ended = False
    try:
        yield from _window(submit, take, lambda future: None, tasks, _QUEUED * workers)
        ended = True
    except BrokenExecutor as error:
        raise OptionError(_LOST) from error
    finally:
        # Nobody waits for what still runs. The next call would take the request to end it back: so it is waited for.
        if not ended:
            pool.shutdown(wait=True, kill_workers=True)


def _in_child(parent: int, function: Callable[..., T], *task: Any) -> T:
    """Runs in a process of loky, which would outlive a parent that is killed and wait for ever: this one ends."""
    end_with(parent)
    return function(*task)


def _window(
    submit: Callable[..., F], take: Callable[[F], T], cancel: Callable[[F], object], tasks: Sequence[tuple[Any, ...]],
    n_ahead: int,
) -> Generator[T]:  # fmt: skip
    """Results in the order of the tasks, of which no more than `n_ahead` are handed out before they are taken."""
    waiting: deque[F] = deque()
    try:
        for task in tasks:
            waiting.append(submit(*task))
            if len(waiting) >= n_ahead:
                yield take(waiting.popleft())
        while waiting:
            yield take(waiting.popleft())
    finally:
        for future in waiting:
            cancel(future)


def _on_dask(function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], workers: int) -> Generator[T]:
    """Dask itself rather than Dask below joblib, which waits for ever where a worker dies (joblib 1.6)."""
    from distributed import KilledWorker

    with _dask_client(workers) as client:
        n_ahead = _AHEAD * max(1, sum(client.nthreads().values()))

        def submit(*task: Any) -> Any:
            return client.submit(function, *task, pure=False)

        try:
            yield from _window(submit, lambda future: future.result(), lambda future: future.cancel(), tasks, n_ahead)
        except KilledWorker as error:
            raise OptionError(_LOST) from error


@contextlib.contextmanager
def _dask_client(workers: int) -> Iterator[Any]:
    """A Dask client: of the configured scheduler, or of processes that are started here."""
    import logging

    import dask
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        address = dask.config.get("scheduler-address", None)
        if address is None:
            # A job that kills its worker is told at once, as loky does, and not tried on others.
            stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": 0}))
            # One thread a process: jobs are then alone in theirs, as with loky. No port is opened for a dashboard.
            address = stack.enter_context(
                LocalCluster(
                    n_workers=None if workers == -1 else workers,
                    threads_per_worker=1,
                    dashboard_address=None,
                    silence_logs=logging.CRITICAL,  # a worker that is killed is told as an error
                )
            )
        yield stack.enter_context(Client(address, set_as_default=False))


def _on_ray(function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], workers: int) -> Generator[T]:
    """Ray itself rather than Ray below joblib, which cannot give results before all are there (joblib 1.6)."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    with _ray_cluster(workers):
        job = ray.remote(max_retries=0)(function)  # a job that kills its worker is told at once, as loky does
        n_ahead = _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))

        def result(reference: Any) -> Any:
            return ray.get(reference)

        try:
            yield from _window(job.remote, result, ray.cancel, tasks, n_ahead)
        except RayTaskError as error:
            raise error.cause from error  # what the function raised, without a traceback in its message
        except RayError as error:
            raise OptionError(_LOST) from error


@contextlib.contextmanager
def _ray_cluster(workers: int) -> Iterator[None]:
    """The Ray cluster that this process is connected to already, that of RAY_ADDRESS, or processes started here."""
    import ray

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    try:
        if os.environ.get("RAY_ADDRESS"):
            ray.init(**quiet)
        else:
            n_cpus = None if workers == -1 else workers
            ray.init("local", num_cpus=n_cpus, include_dashboard=False, **quiet)
        yield
    finally:
        ray.shutdown()
