"""What NVIDIA's driver tells of a GPU: memory in use and energy, by NVML (nvidia-ml-py), else by nvidia-smi.

CUDA numbers devices otherwise than these two, which count by bus: CUDA's driver is asked for a device's place on it.
https://docs.nvidia.com/deploy/nvml-api/ and https://docs.nvidia.com/deploy/nvidia-smi/
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Protocol

from onnx_ghn.installed_runtime import CUDA_PROVIDERS

__all__ = ["Gpu", "bus_id", "open_gpu"]

_MIB = 1 << 20
_SMI_SECONDS = 10.0


class Gpu(Protocol):
    """A GPU that tells of itself. Counters are of the whole device, whoever uses it."""

    name: str
    source: str  # what tells: NVML or nvidia-smi
    total_bytes: int

    def used_bytes(self) -> int:
        """Memory in use by all processes."""

    def process_bytes(self, pid: int) -> int | None:
        """Memory in use by one process; None where the driver does not tell (Windows, containers)."""

    def energy_mj(self) -> int | None:
        """Millijoules since the driver was loaded; None where the GPU does not count them (before Volta)."""


def open_gpu(provider: str, device: int | None) -> tuple[Gpu | None, str]:
    """The GPU that a provider runs on; None with the reason, which is empty for providers that use none of NVIDIA's.

    Args:
        device: CUDA's number of it; None: the first.
    """
    if provider not in CUDA_PROVIDERS:
        return None, ""
    place = bus_id(device or 0)
    if place is None:
        return None, "CUDA's driver does not tell which one it is"
    try:
        import pynvml
    except ModuleNotFoundError:
        told = "nvidia-ml-py is not installed (pip install nvidia-ml-py)"
    else:
        try:
            return _NvmlGpu(pynvml, place), ""
        except pynvml.NVMLError as error:
            told = f"NVML says {' '.join(str(error).split())[:100]}"
    try:
        return _SmiGpu(place), ""
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return None, f"{told}, and nvidia-smi fails ({' '.join(str(error).split())[:100]})"


def bus_id(device: int, load: Callable[[str], Any] = ctypes.CDLL) -> str | None:
    """The place on the bus of the device that CUDA gives a number, such as 0000:3B:00.0; None without a driver.

    Args:
        load: opens a library by name.
    """
    try:
        cuda = load("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    handle, text = ctypes.c_int(), ctypes.create_string_buffer(32)
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(handle), device):
        return None
    if cuda.cuDeviceGetPCIBusId(text, len(text), handle):
        return None
    return text.value.decode("ascii")


class _NvmlGpu:
    source = "NVML"

    def __init__(self, nvml: ModuleType, place: str) -> None:
        self._nvml = nvml
        nvml.nvmlInit()
        self._handle = nvml.nvmlDeviceGetHandleByPciBusId(place)
        self.name = str(nvml.nvmlDeviceGetName(self._handle))
        self.total_bytes = int(nvml.nvmlDeviceGetMemoryInfo(self._handle).total)

    def used_bytes(self) -> int:
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)

    def process_bytes(self, pid: int) -> int | None:
        try:
            running = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._nvml.NVMLError:
            return None
        return next((one.usedGpuMemory for one in running if one.pid == pid), None)

    def energy_mj(self) -> int | None:
        try:
            return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        except self._nvml.NVMLError:
            return None


class _SmiGpu:
    source = "nvidia-smi"

    def __init__(self, place: str) -> None:
        self._place = place
        # A name may hold commas; the numbers do not.
        (line,) = self._ask("--query-gpu=name,memory.total")
        self.name, _, total = (part.strip() for part in line.rpartition(","))
        self.total_bytes = int(total) * _MIB

    def used_bytes(self) -> int:
        (line,) = self._ask("--query-gpu=memory.used")
        return int(line) * _MIB

    def process_bytes(self, pid: int) -> int | None:
        for line in self._ask("--query-compute-apps=pid,used_memory"):
            number, _, used = (part.strip() for part in line.partition(","))
            if number == str(pid) and used.isdigit():
                return int(used) * _MIB
        return None

    def energy_mj(self) -> int | None:
        return None  # it tells watts of one moment alone

    def _ask(self, query: str) -> list[str]:
        command = ["nvidia-smi", f"--id={self._place}", query, "--format=csv,noheader,nounits"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_SECONDS, check=True)
        return found.stdout.strip().splitlines()
