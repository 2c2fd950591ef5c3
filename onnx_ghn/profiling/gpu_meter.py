"""Memory and energy of the GPU that a point runs on."""

from __future__ import annotations

import os
from collections.abc import Callable

from onnx_ghn.profiling.energy import energy_of
from onnx_ghn.profiling.gpu_driver import Gpu, open_gpu
from onnx_ghn.profiling.report import DeviceMemory, Energy
from onnx_ghn.profiling.settings import Point

__all__ = ["GpuMeter"]

Opener = Callable[[str, int | None], tuple[Gpu | None, str]]


class GpuMeter:
    """Readings between the steps of a measurement, none in it; it tells nothing of points that use no GPU of NVIDIA's.

    onnxruntime's arena keeps the memory that it has taken, so that what is in use after the runs is the most that they
    used at a time.
    """

    def __init__(self, point: Point, opener: Opener = open_gpu) -> None:
        self._gpu, self._reason = opener(point.provider, point.device)
        self._used: list[int] = []
        self._process_bytes: int | None = None
        self._begun_mj: int | None = None

    @property
    def notes(self) -> list[str]:
        """Why nothing is known of a GPU that is used."""
        return [f"memory and energy of the GPU are not known: {self._reason}"] if self._reason else []

    def read_memory(self) -> None:
        """Look at the memory: before the session, behind its creation, behind the runs."""
        if self._gpu is not None:
            self._used.append(self._gpu.used_bytes())
            self._process_bytes = self._gpu.process_bytes(os.getpid())

    def memory(self) -> DeviceMemory | None:
        """What the readings show; None where there are not three of them."""
        if self._gpu is None or len(self._used) < 3:
            return None
        baseline, loaded = self._used[:2]
        gpu, peak = self._gpu, max(self._used)
        return DeviceMemory(gpu.name, gpu.source, gpu.total_bytes, baseline, loaded, peak, self._process_bytes)

    def begin_energy(self) -> None:
        """Count from now on."""
        self._begun_mj = None if self._gpu is None else self._gpu.energy_mj()

    def energy(self, wall_s: float, n_runs: int) -> Energy | None:
        """What the whole GPU took since `begin_energy`; None where nothing tells.

        Args:
            wall_s: seconds since then.
            n_runs: runs in them.
        """
        now = None if self._gpu is None else self._gpu.energy_mj()
        if now is None or self._begun_mj is None or now <= self._begun_mj:  # it is updated a few times a second
            return None
        return energy_of(1, (now - self._begun_mj) / 1e3, wall_s, n_runs)
