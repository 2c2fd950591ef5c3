"""What a process of its own is asked to do, as a record that travels as JSON."""

from __future__ import annotations

import dataclasses
from typing import Literal

from onnx_ghn.profiling.report import Machine
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import InputSpec

__all__ = ["Job", "Kind"]

Kind = Literal["machine", "measure", "estimate", "pair", "compare"]


@dataclasses.dataclass(frozen=True)
class Job:
    """One job of `onnx_ghn.profiling.worker`."""

    kind: Kind
    point: Point
    settings: Settings
    paths: tuple[str, ...] = ()  # one model, or the two that are compared
    specs: tuple[tuple[InputSpec, ...], ...] = ()  # the inputs of each
    machine: Machine | None = None  # for the estimates of operators
    trace_file: str | None = None  # for the events of the profiled runs
