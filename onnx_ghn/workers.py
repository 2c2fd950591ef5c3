"""Worker processes that end when the process that started them does, however that ended."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import threading
import time

__all__ = ["end_with", "process_pool"]

_INTERVAL_S = 0.5
_watching = threading.Event()


def end_with(parent: int) -> None:
    """End this process soon after its parent `parent` has ended, killed or not. Does nothing outside POSIX."""
    if _watching.is_set() or os.name != "posix":
        return
    _watching.set()
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def process_pool(jobs: int) -> concurrent.futures.ProcessPoolExecutor:
    """Fresh processes, as torch needs them; where this one is killed, none is left that writes on."""
    spawn = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(jobs, spawn, end_with, (os.getpid(),))


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_INTERVAL_S)
    os._exit(1)
