"""Running a job in a process of its own: whatever becomes of it is one line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping

from onnx_ghn.errors import RuntimeFailure

__all__ = ["run_job"]

# The parent's module path, so that the child imports the same packages; `-P` and the first line keep out modules that
# happen to lie in the working directory.
_PROGRAM = "import sys, json; job = json.load(sys.stdin); sys.path[:] = job.pop('path')\n"
_PROGRAM += "from onnx_ghn.profiling.worker import main; main(job)"


def run_job(job: Mapping[str, object], timeout_s: float) -> dict[str, object]:
    """The result of a job of `onnx_ghn.profiling.worker`, both as JSON has them.

    Raises:
        RuntimeFailure: it failed, crashed, was killed, or took longer than `timeout_s`, after which it is gone.
    """
    path = [entry if entry else os.getcwd() for entry in sys.path]
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us; we end it
    )
    try:
        out, err = process.communicate(json.dumps({**job, "path": path}).encode(), timeout_s)
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
    result: dict[str, object] = json.loads(out)
    if result.get("error") is not None and "point" not in result:
        message = str(result["error"])
        reason = re.search(r"with error: ([^\n]+)", text) if "cannot be used on this machine" in message else None
        raise RuntimeFailure(message + (f" ({reason[1].strip()})" if reason else ""))
    return result


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
