"""Fixtures: a calibration of the synthetic machine, and the path of its module."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

for _folder in (Path(__file__).parent, Path(__file__).resolve().parents[2] / "cli"):
    if str(_folder) not in sys.path:
        sys.path.append(str(_folder))

from synthetic_machine import lines  # noqa: E402

from onnx_ghn.properties.machine.calibrated import Calibration  # noqa: E402
from onnx_ghn.properties.machine.calibration import fitted  # noqa: E402
from onnx_ghn.properties.machine.identity import Identity, identity_here  # noqa: E402

CPU = "CPUExecutionProvider"


@pytest.fixture(scope="session")
def identity() -> Identity:
    """Of this machine, on one thread."""
    return identity_here(CPU, 1)


@pytest.fixture(scope="session")
def calibration(identity: Identity) -> Calibration:
    """Of the synthetic machine, as if it were this one."""
    return fitted(identity, lines())


@pytest.fixture
def elsewhere(calibration: Calibration) -> Calibration:
    """The same, of a machine that is another one."""
    identity = dataclasses.replace(calibration.identity, processor="Another Processor 9000")
    return dataclasses.replace(calibration, identity=identity)
