"""Energy of the processor's packages by RAPL, where Linux lets this user read it (often root alone).

https://www.kernel.org/doc/html/latest/power/powercap/powercap.html
"""

from __future__ import annotations

import re
from pathlib import Path

from onnx_ghn.profiling.report import Energy

__all__ = ["EnergyMeter", "energy_of"]

_ROOT = Path("/sys/class/powercap")
_PACKAGE = re.compile(r"intel-rapl:\d+")  # AMD's processors have it under that name, too; deeper ones are parts of it


class EnergyMeter:
    """Counts from when it is made."""

    def __init__(self, root: Path = _ROOT) -> None:
        self._begun = {
            folder: found for folder in _packages(root) if (found := _number(folder / "energy_uj")) is not None
        }

    def since(self, wall_s: float, n_runs: int) -> Energy | None:
        """What all packages took since then; None where nothing tells.

        Args:
            wall_s: seconds since then.
            n_runs: runs in them.
        """
        total_uj = 0
        for folder, begun in self._begun.items():
            now = _number(folder / "energy_uj")
            if now is None:
                return None
            # The counter begins anew at its range: within minutes, on large processors.
            total_uj += now - begun if now >= begun else now - begun + (_number(folder / "max_energy_range_uj") or 0)
        if not self._begun or not total_uj:
            return None
        return energy_of(len(self._begun), total_uj / 1e6, wall_s, n_runs)


def energy_of(packages: int, joules: float, wall_s: float, n_runs: int) -> Energy:
    """Energy in joules as the power over so many seconds, in watts, and that of a run, in millijoules."""
    return Energy(packages, joules, joules / wall_s, 1e3 * joules / n_runs)


def _packages(root: Path) -> list[Path]:
    return sorted(folder for folder in root.glob("intel-rapl:*") if _PACKAGE.fullmatch(folder.name))


def _number(file: Path) -> int | None:
    """The number in a file; None where it is absent or not for this user."""
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
