"""Energy from the files that Linux has it in."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnx_ghn.profiling.energy import EnergyMeter
from onnx_ghn.profiling.report import Energy


def package(root: Path, name: str, uj: int, most: int = 1_000_000) -> Path:
    folder = root / name
    folder.mkdir(exist_ok=True)
    (folder / "energy_uj").write_text(f"{uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder


def test_packages_are_added_and_counters_begin_anew(tmp_path) -> None:
    package(tmp_path, "intel-rapl:0", 100_000)
    package(tmp_path, "intel-rapl:1", 900_000)
    package(tmp_path, "intel-rapl:0:0", 5)  # a part of the first, which has it already
    meter = EnergyMeter(tmp_path)
    package(tmp_path, "intel-rapl:0", 400_000)
    package(tmp_path, "intel-rapl:1", 100_000)
    package(tmp_path, "intel-rapl:0:0", 999_999)
    # 0.3 J and 0.2 J, in two seconds and ten runs.
    assert meter.since(2.0, 10) == Energy(2, pytest.approx(0.5), pytest.approx(0.25), pytest.approx(50.0))


def test_where_nothing_tells(tmp_path) -> None:
    assert EnergyMeter(tmp_path / "absent").since(1.0, 1) is None
    folder = package(tmp_path, "intel-rapl:0", 1)
    (folder / "energy_uj").write_text("no number")
    assert EnergyMeter(tmp_path).since(1.0, 1) is None
    package(tmp_path, "intel-rapl:0", 1)
    meter = EnergyMeter(tmp_path)
    (folder / "energy_uj").unlink()
    assert meter.since(1.0, 1) is None
