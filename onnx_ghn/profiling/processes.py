"""A job in a process of its own: whatever becomes of it is one line.

A process for each point makes its peak memory its own, and whatever happens to it (a crash, a kill for want of
memory, a run that never ends) happens to that point alone.
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import TypeVar

from onnx_ghn.errors import OnnxGhnError, RuntimeFailure
from onnx_ghn.profiling.own_process import bound_memory

__all__ = ["main", "run_job"]

T = TypeVar("T")

# The parent's module path comes first, so that the child imports the same packages; `-P` keeps out modules that happen
# to lie in the working directory.
_PROGRAM = "import sys, pickle; sys.path[:] = pickle.load(sys.stdin.buffer)\n"
_PROGRAM += "from onnx_ghn.profiling.processes import main; main()"


def run_job(
    function: Callable[..., T],
    arguments: tuple[object, ...],
    timeout_s: float,
    *,
    bounded: bool = True,
    environment: Mapping[str, str] | None = None,
) -> T:
    """function(*arguments), from a process of its own.

    Args:
        function: a function of a module.
        bounded: let allocations fail before the machine's memory is full.
        environment: variables of the process, beside those of this one.

    Raises:
        RuntimeFailure: it failed, crashed, was killed, or took longer than `timeout_s`, after which it is gone.
    """
    path = [entry for entry in map(_absolute, sys.path) if entry is not None]
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=None if environment is None else {**os.environ, **environment},
        start_new_session=True,  # Ctrl-C is for us; we end it
    )
    try:
        out, err = process.communicate(pickle.dumps(path) + pickle.dumps((function, arguments, bounded)), timeout_s)
    except subprocess.TimeoutExpired as error:
        raise RuntimeFailure(
            f"still runs after {timeout_s:g} s; raise `timeout_s` or choose a smaller shape"
        ) from error
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    text = err.decode("utf-8", "replace")
    if process.returncode:
        raise RuntimeFailure(_death(process.returncode, text))
    result: T | OnnxGhnError = pickle.loads(out)
    if isinstance(result, OnnxGhnError):
        reason = re.search(r"with error: ([^\n]+)", text) if "cannot be used on this machine" in str(result) else None
        raise RuntimeFailure(str(result) + (f" ({reason[1].strip()})" if reason else ""))
    return result


def _absolute(entry: str) -> str | None:
    """An entry of the module path for a process that may begin elsewhere; None: the working directory is no more."""
    if entry:
        return entry
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def _death(code: int, text: str) -> str:
    if code == -signal.SIGKILL:
        return "was killed by the system, as for want of memory; choose a smaller batch or shape"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1][:300] if lines else "it left no message"
    if "bad_alloc" in last or "MemoryError" in last:
        return "out of memory; choose a smaller batch or shape"
    if code < 0:
        name = signal.Signals(-code).name
        return f"onnxruntime crashed ({name}; {last}); try the `optimization` none or another onnxruntime"
    return f"the measuring process failed: {last}"


def main() -> None:
    """The child's side: do the job that stdin holds; its result, or an `OnnxGhnError`, is all that goes to stdout."""
    result_fd = os.dup(1)
    os.dup2(2, 1)  # libraries may print
    # All of onnxruntime is loaded before anything of it is measured.
    import onnxruntime  # noqa: F401

    function, arguments, bounded = pickle.load(sys.stdin.buffer)
    try:
        if bounded:
            bound_memory()
        result = function(*arguments)
    except OnnxGhnError as error:
        result = error
    except MemoryError:
        result = RuntimeFailure("out of memory; choose a smaller batch or shape, or a machine with more")
    with os.fdopen(result_fd, "wb") as out:
        pickle.dump(result, out)
    sys.stderr.flush()
