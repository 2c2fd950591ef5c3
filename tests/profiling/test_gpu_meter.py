"""Memory and energy of a GPU through NVML and nvidia-smi, both stood in for: there is no GPU to ask."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from typing import Any

import pytest

from onnx_ghn.profiling import gpu_driver
from onnx_ghn.profiling.gpu_driver import bus_id, open_gpu
from onnx_ghn.profiling.gpu_meter import GpuMeter
from onnx_ghn.profiling.report import DeviceMemory, Energy
from onnx_ghn.profiling.settings import Point

CUDA = "CUDAExecutionProvider"
PLACE = "0000:3B:00.0"
MIB = 1 << 20


class Driver:
    """CUDA's, of two devices that NVML would count the other way round."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails

    def __getattr__(self, name: str) -> Any:
        def call(*given: Any) -> int:
            if name == self.fails:
                return 100
            if name == "cuDeviceGet":
                given[0]._obj.value = given[1]
            elif name == "cuDeviceGetPCIBusId":
                given[0].value = (b"0000:AF:00.0", PLACE.encode())[given[2].value]
            return 0

        return call


def fake_nvml(used: list[int], energy_mj: list[int], running: list[Any] | None = None) -> types.ModuleType:
    """A module pynvml whose readings are taken from the lists."""
    module = types.ModuleType("pynvml")

    class NVMLError(Exception):
        pass

    def energy(handle: str) -> int:
        assert handle == f"handle of {PLACE}"
        if not energy_mj:
            raise NVMLError("Not Supported")
        return energy_mj.pop(0)

    def processes(handle: str) -> list[Any]:
        if running is None:
            raise NVMLError("Insufficient Permissions")
        return running

    def memory(handle: str) -> Any:
        return types.SimpleNamespace(total=80 * MIB, used=used.pop(0) if used else 0)

    members = {"NVMLError": NVMLError, "nvmlInit": lambda: None, "nvmlDeviceGetName": lambda handle: "Some GPU"}
    members |= {"nvmlDeviceGetHandleByPciBusId": lambda place: f"handle of {place}"}
    members |= {"nvmlDeviceGetMemoryInfo": memory, "nvmlDeviceGetTotalEnergyConsumption": energy}
    members |= {"nvmlDeviceGetComputeRunningProcesses": processes}
    for name, value in members.items():
        setattr(module, name, value)
    return module


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's driver tells where device 1 is."""
    monkeypatch.setattr(gpu_driver, "bus_id", lambda device: PLACE if device == 1 else "0000:AF:00.0")


def test_cudas_number_of_a_device_is_its_place_on_the_bus() -> None:
    assert bus_id(1, lambda name: Driver()) == PLACE
    assert bus_id(0, lambda name: Driver()) == "0000:AF:00.0"
    for fails in ("cuInit", "cuDeviceGet", "cuDeviceGetPCIBusId"):
        assert bus_id(1, lambda name, fails=fails: Driver(fails)) is None

    def absent(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    assert bus_id(0, absent) is None


@pytest.mark.usefixtures("placed")
def test_memory_and_energy_by_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    own = types.SimpleNamespace(pid=os.getpid(), usedGpuMemory=7 * MIB)
    other = types.SimpleNamespace(pid=1, usedGpuMemory=3 * MIB)
    used = [0, 10 * MIB, 14 * MIB, 19 * MIB]  # the first is read for the total
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(used, [5_000, 11_000], [other, own]))
    meter = GpuMeter(Point(provider=CUDA, device=1))
    for _ in range(2):
        meter.read_memory()
        assert meter.memory() is None
    meter.begin_energy()
    # 6 J in two seconds and 20 runs.
    assert meter.energy(2.0, 20) == Energy(1, pytest.approx(6.0), pytest.approx(3.0), pytest.approx(300.0))
    meter.read_memory()
    expected = DeviceMemory("Some GPU", "NVML", 80 * MIB, 10 * MIB, 14 * MIB, 19 * MIB, 7 * MIB)
    assert meter.memory() == expected
    assert meter.notes == []


@pytest.mark.usefixtures("placed")
def test_what_a_gpu_does_not_tell_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml([0, 1, 2, 3], [], None))
    meter = GpuMeter(Point(provider=CUDA, device=1))
    meter.begin_energy()
    assert meter.energy(1.0, 1) is None
    for _ in range(3):
        meter.read_memory()
    found = meter.memory()
    assert found is not None
    assert found.process_bytes is None
    counter = fake_nvml([], [400, 400])  # not updated in between
    monkeypatch.setitem(sys.modules, "pynvml", counter)
    meter = GpuMeter(Point(provider=CUDA, device=1))
    meter.begin_energy()
    assert meter.energy(1e-3, 1) is None


@pytest.mark.usefixtures("placed")
def test_nvidia_smi_where_nvml_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def answered(command: list[str], **_: Any) -> Any:
        asked.append(command)
        answers = {
            "--query-gpu=name,memory.total": "NVIDIA H200, 141 GB, 143771\n",
            "--query-gpu=memory.used": "512\n",
            "--query-compute-apps=pid,used_memory": f"1, [N/A]\n{os.getpid()}, 300\n",
        }
        return types.SimpleNamespace(stdout=answers[command[2]])

    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(subprocess, "run", answered)
    gpu, told = open_gpu(CUDA, 1)
    assert told == ""
    assert gpu is not None
    assert (gpu.name, gpu.source, gpu.total_bytes) == ("NVIDIA H200, 141 GB", "nvidia-smi", 143771 * MIB)
    assert (gpu.used_bytes(), gpu.process_bytes(os.getpid()), gpu.process_bytes(1)) == (512 * MIB, 300 * MIB, None)
    assert gpu.energy_mj() is None
    assert {command[1] for command in asked} == {f"--id={PLACE}"}


@pytest.mark.usefixtures("placed")
def test_where_nothing_tells_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(command: list[str], **_: Any) -> Any:
        raise FileNotFoundError(2, "No such file or directory", command[0])

    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(subprocess, "run", absent)
    meter = GpuMeter(Point(provider=CUDA, device=1))
    meter.read_memory()
    assert meter.memory() is None
    (note,) = meter.notes
    assert note.startswith("memory and energy of the GPU are not known: nvidia-ml-py is not installed (pip install ")
    assert "), and nvidia-smi fails (" in note
    broken = fake_nvml([], [])

    def unloaded() -> None:
        raise broken.NVMLError("NVML Shared Library Not Found")

    monkeypatch.setattr(broken, "nvmlInit", unloaded)
    monkeypatch.setitem(sys.modules, "pynvml", broken)
    assert "NVML says NVML Shared Library Not Found" in GpuMeter(Point(provider=CUDA, device=1)).notes[0]
    monkeypatch.setattr(gpu_driver, "bus_id", lambda device: None)
    assert "CUDA's driver does not tell" in GpuMeter(Point(provider=CUDA)).notes[0]


def test_other_providers_have_no_gpu_of_nvidias() -> None:
    meter = GpuMeter(Point())
    meter.read_memory()
    meter.begin_energy()
    assert (meter.notes, meter.memory(), meter.energy(1.0, 1)) == ([], None, None)
