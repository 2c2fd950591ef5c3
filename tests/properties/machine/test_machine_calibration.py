"""Calibrating the synthetic machine: in turns, after cuts, and what becomes of probes that fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from synthetic_machine import network

from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.properties.machine import calibration as module
from onnx_ghn.properties.machine.calibration import calibrate_machine
from onnx_ghn.properties.machine.identity import identity_here
from onnx_ghn.properties.machine.memory import PARTS, MemoryMeasured
from onnx_ghn.properties.machine.places import calibrations_folder
from onnx_ghn.properties.machine.storage import load_calibration

CPU = "CPUExecutionProvider"


class Machine:
    """Stands for the measurements: a second each by its own clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("ONNX_GHN_CACHE", str(tmp_path / "cache"))
        self.measured: list[int] = []
        self.sessions: list[int] = []
        self.cut_at = -1
        self.fails: set[int] = set()
        self.now = 0.0
        monkeypatch.setattr(module, "probe", lambda number: number)
        monkeypatch.setattr(module, "measure_probe", self.measure)
        monkeypatch.setattr(module, "_memory", self.session)
        monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)

    def measure(self, number: int, point: object, folder: object) -> object:
        self.now += 1
        if number == self.cut_at:
            raise KeyboardInterrupt
        if number in self.fails:
            raise RuntimeFailure("a probe cannot be run")
        self.measured.append(number)
        return network(number)

    def session(self, number: int, point: object, folder: object) -> MemoryMeasured:
        self.now += 1
        self.sessions.append(number)
        parts = dict.fromkeys(PARTS, 0.0) | {"session": 2.0**20, "live": 1e6 * number**2}
        return MemoryMeasured(parts, 100, 100 + int(2**21 + 2e6 * number**2))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


def test_it_measures_for_as_long_as_it_is_told(machine: Machine) -> None:
    told: list[tuple[int, int]] = []
    found = calibrate_machine(threads=1, seconds=40, progress=lambda *one: told.append(one))
    assert len(machine.measured) + len(machine.sessions) == 40
    assert found.n_probes == len(machine.measured)
    assert told == [(second, 40) for second in range(40)]
    folder = calibrations_folder() / identity_here(CPU, 1).folder_name
    assert load_calibration(folder).n_probes == found.n_probes


@pytest.mark.parametrize("cut_at", [0, 1, 17, 30])
def test_after_a_cut_it_goes_on_with_what_was_cut(machine: Machine, cut_at: int) -> None:
    machine.cut_at = cut_at
    with pytest.raises(KeyboardInterrupt):
        calibrate_machine(threads=1, seconds=50)
    machine.cut_at = -1
    cut = calibrate_machine(threads=1, seconds=50)
    assert machine.measured == list(range(len(machine.measured)))  # each once, in order
    assert cut.seconds == 50
    assert machine.sessions == list(range(len(machine.sessions)))


def test_a_longer_time_adds_to_what_there_is(machine: Machine) -> None:
    first = calibrate_machine(threads=1, seconds=30)
    more = calibrate_machine(threads=1, seconds=60)
    assert more.n_probes > first.n_probes
    again = calibrate_machine(threads=1, seconds=60)
    assert again.n_probes == more.n_probes
    assert len(machine.measured) == more.n_probes


def test_each_number_of_threads_has_its_own(machine: Machine) -> None:
    calibrate_machine(threads=1, seconds=30)
    calibrate_machine(threads=2, seconds=30)
    assert len(list(calibrations_folder().iterdir())) == 2


def test_probes_that_fail_are_left_out(machine: Machine) -> None:
    machine.fails = {2, 5}
    found = calibrate_machine(threads=1, seconds=40)
    assert 2 not in machine.measured
    assert found.n_probes == len(machine.measured)
    folder = calibrations_folder() / identity_here(CPU, 1).folder_name
    kept = [json.loads(line) for line in (folder / "probes.jsonl").read_text().splitlines()]
    assert sum("failed" in line for line in kept) == 2


def test_a_machine_on_which_none_runs_is_told(machine: Machine) -> None:
    machine.fails = set(range(100))
    with pytest.raises(RuntimeFailure, match="a probe cannot be run"):
        calibrate_machine(threads=1, seconds=40)


def test_too_short_a_time_is_told(machine: Machine) -> None:
    with pytest.raises(RuntimeFailure, match="give more `seconds`"):
        calibrate_machine(threads=1, seconds=5)
