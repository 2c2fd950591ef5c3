"""Run rows, each with each network in a process of its own, and say what came of it."""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from compatibility_runs.cells import Cell, Result
from compatibility_runs.rows import ENVIRONMENTS, Row

__all__ = ["interpreter", "run_row"]

_ROOT = Path(__file__).resolve().parents[2]
_FAILED = re.compile(r"^(\w*(?:Error|Exception|Failure|Warning))\b.*")
_VERSIONS = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def interpreter(prefix: str, row: Row) -> Path:
    """The Python of a row's environment; `prefix` is what stands before the environments' names."""
    return Path(prefix + ENVIRONMENTS[row.group]).absolute() / "bin" / "python"


def run_row(row: Row, networks: Sequence[str], prefix: str, prepared: Path) -> Iterator[Result]:
    """Measure a row with some of its networks.

    Args:
        prefix: what stands before the environments' names.
        prepared: the files that tools, trainers and runtimes are given.
    """
    python, today = interpreter(prefix, row), datetime.date.today().isoformat()
    reason = _why_absent(prefix, row)
    versions = {} if reason else _versions(python, row)
    missing = [name for name in row.packages if name not in versions]
    if not reason and missing:
        reason = f"{missing[0]} is not installed in the environment"
    for network in networks:
        cells = {"outputs": Cell("absent", reason)} if reason else _measured(row, network, python, prepared)
        yield Result(row.key, network, today, versions, cells)


def _why_absent(prefix: str, row: Row) -> str:
    """Why a row cannot be measured here; empty where it can."""
    failed = Path(f"{prefix}{ENVIRONMENTS[row.group]}.failed")
    if failed.exists():
        return failed.read_text().strip()
    return "" if interpreter(prefix, row).exists() else "its environment is not made: make compat"


def _versions(python: Path, row: Row) -> dict[str, str]:
    done = subprocess.run([python, "-c", _VERSIONS, *row.packages], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _measured(row: Row, network: str, python: Path, prepared: Path) -> dict[str, Cell]:
    """The cells of one network. A crash and a time limit are cells as well."""
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(_ROOT), str(_ROOT / "benchmarks")]),
        "ONNX_GHN_PYTHON": sys.executable,
        "ONNX_GHN_PREPARED": str(prepared),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "JAX_PLATFORMS": "cpu",
        **dict(row.environ),
    }
    with tempfile.TemporaryDirectory(prefix="onnx-ghn-compat-") as folder:
        command = [str(python), "-m", "compatibility_runs.measure_row", row.key, network, folder]
        with open(Path(folder) / "log.txt", "w+") as log:
            process = subprocess.Popen(
                command,
                env=environ,
                cwd=folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                code = process.wait(row.seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # of the session that was started here, with its children
                process.wait()
                return {"outputs": Cell("slow", f"not done after {row.seconds} s")}
            log.seek(0)
            text = log.read()
        if code < 0:
            return {"outputs": Cell("crashes", f"the process ends by {signal.Signals(-code).name}")}
        if code:
            return {"outputs": Cell("crashes", _last_error(text))}
        cells = json.loads((Path(folder) / "cells.json").read_text())
    return {name: Cell(**cell) for name, cell in cells.items()}


def _last_error(text: str) -> str:
    lines = [line for line in text.splitlines() if _FAILED.match(line)] or text.strip().splitlines() or ["no message"]
    return re.sub(r"(/[\w.+-]+){2,}/", "", lines[-1])[:160]
