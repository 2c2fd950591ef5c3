"""Calibrations in files: measured probes as lines, which a cut leaves whole, and what is fitted to them."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.errors import CheckpointError
from onnx_ghn.json_types import Json
from onnx_ghn.locks import try_lock
from onnx_ghn.onnx_io.transaction import write_file
from onnx_ghn.properties.machine.calibrated import FIGURES, Calibration
from onnx_ghn.properties.machine.costs import Costs
from onnx_ghn.properties.machine.identity import Identity
from onnx_ghn.properties.machine.measured import Measured
from onnx_ghn.properties.machine.memory import PARTS, MemoryCosts, MemoryMeasured
from onnx_ghn.properties.machine.places import FITTED
from onnx_ghn.properties.machine.regression import Smooth
from onnx_ghn.reading import read_regular

__all__ = ["ProbeLog", "load_calibration", "probe_log", "save_calibration"]

_PROBES = "probes.jsonl"
_MOST_BYTES = 2**28
_ARRAYS = ("mean", "scale", "line", "lengths", "points", "dual", "left_out")


class ProbeLog:
    """Lines of measured probes; a line that a cut has left in the middle is measured again."""

    def __init__(self, file: Any, lines: Sequence[Json], path: Path) -> None:
        self._file, self._path = file, path
        self.lines = list(lines)

    def add(self, line: Json) -> None:
        """Keep a line, on the disk before this returns. Raises CheckpointError: the disk is full."""
        try:
            data = (json.dumps(line) + "\n").encode()
            if self._file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _not_written(self._path, error) from error
        self.lines.append(line)


@contextlib.contextmanager
def probe_log(folder: Path, anew: bool = False) -> Iterator[ProbeLog]:
    """The lines of a folder, to add to.

    Raises:
        CheckpointError: another process calibrates, or the folder cannot be written.
    """
    path = folder / _PROBES
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+b", buffering=0)  # noqa: SIM115 - closed below, with its lock
    except OSError as error:
        raise _not_written(path, error) from error
    with file:
        if try_lock(file.fileno()) is False:
            raise CheckpointError(f"{path}: another process calibrates this machine; wait until it has done so")
        file.seek(0)
        lines, n_whole = _whole_lines(b"" if anew else file.read())
        file.truncate(n_whole)
        file.seek(0, os.SEEK_END)
        yield ProbeLog(file, lines, path)


def _not_written(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"{path}: cannot be written ({error.strerror}); set ONNX_GHN_CACHE to another folder")


def _whole_lines(data: bytes) -> tuple[list[Json], int]:
    """Lines up to the first that is not whole, and their bytes."""
    found: list[Json] = []
    n_whole = 0
    for line in data.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        try:
            told = json.loads(line)
        except ValueError:
            break
        if not _is_measurement(told):
            break
        found.append(told)
        n_whole += len(line)
    return found, n_whole


def _is_measurement(told: object) -> bool:
    """Whether a line is one that a calibration wrote: the time it took, and a probe, a session or why there is none."""
    if not isinstance(told, dict):
        return False
    try:
        numbers = [float(told["seconds"])]
        if "probe" in told:
            probe = Measured.from_dict(told["probe"])
            numbers += [probe.run_us, *(number for _, sizes, us in probe.nodes for number in (*sizes, us))]
        elif "memory" in told:
            memory = MemoryMeasured(**told["memory"])
            numbers += [memory.baseline_bytes, memory.peak_bytes, *(memory.parts[name] for name in PARTS)]
    except (KeyError, TypeError, ValueError, OverflowError):
        return False
    return all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)


def save_calibration(calibration: Calibration, folder: Path) -> Path:
    """Write what is fitted; it appears whole, in the place of an older one."""
    from safetensors.numpy import save

    costs = calibration.costs
    smooths = {"any": costs.any_light, **{f"kind {kind}": smooth for kind, smooth in costs.kinds.items()}}
    tensors: dict[str, Array] = {
        f"{name}/{key}": np.ascontiguousarray(getattr(smooth, key), np.float64)
        for name, smooth in smooths.items()
        for key in _ARRAYS
    }
    record = {
        "identity": calibration.identity.to_dict(),
        "smears": dict(costs.smears),
        "numbers": {name: [smooth.noise, smooth.variance] for name, smooth in smooths.items()},
        "run_us": costs.run_us,
        "traced_us": costs.traced_us,
        "memory": None if calibration.memory is None else dataclasses.asdict(calibration.memory),
        **{name: getattr(calibration, name) for name in FIGURES},
    }
    data = save(tensors, metadata={"calibration": json.dumps(record)})
    return write_file(folder / FITTED, data, force=True, what="a calibration")


def load_calibration(folder: Path) -> Calibration:
    """Read what `save_calibration` wrote.

    Args:
        folder: the folder, or the file in it.

    Raises:
        CheckpointError: absent, damaged or of another version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = folder / FITTED if os.path.isdir(folder) else folder
    try:
        data = read_regular(path, _MOST_BYTES)
        tensors = load(data)
        record = json.loads(_metadata(data)["calibration"])
    except (OSError, ValueError, KeyError, RecursionError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: not a readable calibration ({_reason(error)}); run `onnx-ghn properties --calibrate-machine`"
        ) from error
    try:
        return _assembled(record, tensors)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise CheckpointError(
            f"{path}: a damaged calibration ({type(error).__name__}: {error}); run `onnx-ghn properties "
            "--calibrate-machine --anew`"
        ) from error


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _metadata(data: bytes) -> Json:
    """safetensors gives the metadata of files alone: eight bytes of length, then JSON."""
    length = int.from_bytes(data[:8], "little")
    header: Json = json.loads(data[8 : 8 + length])
    told: Json = header["__metadata__"]
    return told


def _assembled(record: Json, tensors: dict[str, Array]) -> Calibration:
    smooths = {}
    for name, (noise, variance) in record["numbers"].items():
        arrays: dict[str, Any] = {key: tensors[f"{name}/{key}"] for key in _ARRAYS}
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError(f"arrays of {name} hold what is not finite")
        d = len(arrays["mean"])
        if arrays["points"].shape[1:] != (d,) or arrays["line"].shape != (1 + d,) or arrays["lengths"].shape != (d,):
            raise ValueError(f"arrays of {name} do not belong together")
        if len(arrays["dual"]) not in (0, len(arrays["points"])):
            raise ValueError(f"arrays of {name} do not belong together")
        smooths[name] = Smooth(noise=_finite(noise), variance=_finite(variance), **arrays)
    kinds = {name.removeprefix("kind "): smooth for name, smooth in smooths.items() if name.startswith("kind ")}
    smears = {str(kind): _finite(value) for kind, value in record["smears"].items()}
    costs = Costs(kinds, smears, smooths["any"], _finite(record["run_us"]), _finite(record["traced_us"]))
    memory = None if record["memory"] is None else _memory_costs(record["memory"])
    figures = {name: record[name] if name == "measured" else _finite(record[name]) for name in FIGURES}
    return Calibration(Identity.from_dict(record["identity"]), costs, memory, **figures)


def _memory_costs(told: Json) -> MemoryCosts:
    factors = {name: _finite(told["factors"][name]) for name in PARTS}
    return MemoryCosts(_finite(told["baseline_bytes"]), factors, _finite(told["deviation"]))


def _finite(value: Any) -> Any:
    """A number, as it is. Raises ValueError, TypeError: it is none, or not finite."""
    if isinstance(value, str) or not math.isfinite(value):
        raise ValueError(f"{value} is no finite number")
    return value
