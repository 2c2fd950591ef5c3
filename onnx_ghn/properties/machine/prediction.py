"""Latency and peak memory of a model on this machine, which is not run."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from onnx_ghn.errors import CheckpointError, RuntimeFailure
from onnx_ghn.json_types import Json
from onnx_ghn.limits import available_cores
from onnx_ghn.profiling import rewriting
from onnx_ghn.profiling.feeds import point_inputs
from onnx_ghn.profiling.lost_data import completed
from onnx_ghn.profiling.machine import measure_machine
from onnx_ghn.profiling.measuring import estimate_point
from onnx_ghn.profiling.providers import provider_name
from onnx_ghn.profiling.recording import scratch
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import ModelSpec, model_spec
from onnx_ghn.properties.machine.calibrated import Calibration
from onnx_ghn.properties.machine.features import kind_and_sizes
from onnx_ghn.properties.machine.identity import Identity, identity_here
from onnx_ghn.properties.machine.places import FITTED, calibrations_folder
from onnx_ghn.properties.machine.running import RunGraph, read_graph, write_graph
from onnx_ghn.properties.machine.storage import load_calibration

__all__ = ["KindShare", "MachineReport", "MachineValue", "calibrated_threads", "predict_on_machine"]


@dataclasses.dataclass(frozen=True)
class MachineValue:
    """A predicted figure, and the ends of the interval that nine of ten networks like the measured ones fall into."""

    value: float
    low: float | None
    high: float | None

    def to_dict(self) -> Json:
        """For JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class KindShare:
    """Operators of a kind in a model."""

    kind: str
    count: int
    ms: float
    is_known: bool  # measured on the machine


@dataclasses.dataclass(frozen=True)
class MachineReport:
    """What is predicted of a model.

    Attributes:
        latency: milliseconds, the median of runs.
        peak_memory: bytes of a process that runs the model, as `profile` measures it; None without a calibration.
        identity: of this machine.
        calibrated: of the machine that the calibration is of; None: the latency is the roofline's estimate.
        measured: date of the calibration.
        n_probes: networks that it has measured.
        mape: mean absolute error of those that were left out of it.
        inputs: shapes, by name.
        n_nodes: operators that run.
        kinds: where the time goes, longest first.
        is_sized: all sizes are known without running; if not, operators of unknown size count as small ones.
    """

    latency: MachineValue
    peak_memory: MachineValue | None
    identity: Identity
    calibrated: Identity | None
    measured: str | None
    n_probes: int
    mape: float | None
    inputs: Mapping[str, tuple[int, ...]]
    n_nodes: int
    kinds: tuple[KindShare, ...]
    is_sized: bool

    @property
    def is_off(self) -> bool:
        """The calibration is another machine's, version's or setting's: what it says of this one is a guess."""
        return self.calibrated is not None and self.calibrated != self.identity

    @property
    def unknown_share(self) -> float:
        """Share of the predicted time of operators that the calibration has not measured."""
        total = sum(entry.ms for entry in self.kinds)
        return sum(entry.ms for entry in self.kinds if not entry.is_known) / total if total else 0.0

    def to_dict(self) -> Json:
        """For JSON."""
        return {
            "latency_ms": self.latency.to_dict(),
            "peak_memory_bytes": None if self.peak_memory is None else self.peak_memory.to_dict(),
            "predicted_by": "roofline" if self.calibrated is None else "calibration",
            "machine": self.identity.to_dict(),
            "calibrated": None if self.calibrated is None else self.calibrated.to_dict(),
            "off": self.is_off,
            "measured": self.measured,
            "n_probes": self.n_probes,
            "mape": self.mape,
            "inputs": {name: list(shape) for name, shape in self.inputs.items()},
            "n_nodes": self.n_nodes,
            "all_sizes_known": self.is_sized,
            "unknown_share": self.unknown_share,
            "kinds": [dataclasses.asdict(entry) for entry in self.kinds],
        }


def calibrated_threads(provider: str = "cpu") -> list[int]:
    """Numbers of threads, up to that of the cores, at which this machine is calibrated."""
    here = identity_here(provider_name(provider), 1)
    several = (dataclasses.replace(here, threads=threads) for threads in range(1, len(available_cores()) + 1))
    return [one.threads for one in several if os.path.isfile(_fitted_file(one))]


def predict_on_machine(
    source: str | os.PathLike[str],
    *,
    threads: int | None = None,
    provider: str = "cpu",
    batch: int | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    sizes: Mapping[str, int] | None = None,
    calibration: str | os.PathLike[str] | Calibration | None = None,
) -> MachineReport:
    """Latency and peak memory of a model on this machine, from what its operators cost here; the model is not run.

    Without a calibration, the latency is the estimate of the roofline, for which the machine's peaks are measured.

    Args:
        source: a model file, of any kind.
        threads: within an operator; unless told, those of the given calibration, else all cores.
        provider: an execution provider of onnxruntime, such as cpu.
        batch, shapes, sizes: of the inputs, by input and by symbol, as `profile` takes them.
        calibration: the folder of one, or a loaded one; this machine's unless told.

    Raises:
        ModelReadError, OptionError, RuntimeFailure: a model that cannot be read, fed or loaded.
        CheckpointError: a calibration that is damaged, or is not there.
    """
    given = _given(calibration)
    point = Point(
        batch=batch,
        threads=threads or (len(available_cores()) if given is None else given.identity.threads),
        provider=provider_name(provider),
        sizes=tuple((sizes or {}).items()),
    )
    settings = Settings(shapes=dict(shapes or {}))
    identity = identity_here(point.provider, point.threads)
    found = given or _own(identity)
    spec = model_spec(source, allow_absent=True)
    with scratch() as folder:
        if spec.is_incomplete:  # sizes are needed, values are not
            spec = dataclasses.replace(spec, path=completed(spec.path, folder))
        if found is None:
            return _estimated(spec, point, settings, identity)
        return _predicted(_run_graph(spec, point, settings), found, identity)


def _run_graph(spec: ModelSpec, point: Point, settings: Settings) -> RunGraph:
    """The graph that onnxruntime would run of a file, at the shapes of a point.

    Raises:
        RuntimeFailure: it loads the model at none of the shapes that are tried; the reason is the first one's.
        OptionError: shapes that do not fit.
    """
    folder = os.path.dirname(spec.path) or os.curdir
    failure: RuntimeFailure | None = None
    for inputs in point_inputs(spec.inputs, point, settings):
        proto = rewriting.load_structure(spec.path)
        rewriting.set_input_shapes(proto, {name: shape for name, (_, shape) in inputs.items()})
        rewriting.name_nodes(proto)
        with scratch() as room:
            try:
                write_graph(rewriting.serialized(proto, spec.path), point, folder, room / "optimized.onnx", settings)
                return read_graph(room / "optimized.onnx", point, settings)
            except RuntimeFailure as error:
                failure = failure or error
    assert failure is not None  # there is one candidate at least
    raise failure


def _given(calibration: str | os.PathLike[str] | Calibration | None) -> Calibration | None:
    """A calibration that is named. Raises CheckpointError: it is not there."""
    if calibration is None or isinstance(calibration, Calibration):
        return calibration
    path = Path(calibration)
    if not os.path.exists(path):
        raise CheckpointError(f"{path}: no such calibration; name a folder that `--calibrate-machine` has written")
    return load_calibration(path)


def _own(identity: Identity) -> Calibration | None:
    """This machine's calibration, if there is one."""
    file = _fitted_file(identity)
    return load_calibration(file) if os.path.isfile(file) else None


def _fitted_file(identity: Identity) -> Path:
    # Asked for by `os.path`: a file of pathlib raises where this user may not look into the folder.
    return calibrations_folder() / identity.folder_name / FITTED


def _predicted(graph: RunGraph, calibration: Calibration, identity: Identity) -> MachineReport:
    costs = calibration.costs
    nodes = [kind_and_sizes(node) for node in graph.nodes]
    times_us = costs.nodes_us(nodes, graph.streamed_bytes)
    total_ms = (costs.run_us + float(times_us.sum())) / 1e3
    sums: dict[str, list[float]] = collections.defaultdict(list)
    for (kind, _), us in zip(nodes, times_us.tolist(), strict=True):
        sums[kind].append(us)
    kinds = [KindShare(kind, len(own), sum(own) / 1e3, costs.knows(kind)) for kind, own in sums.items()]
    kinds.sort(key=lambda entry: -entry.ms)
    peak = None
    if calibration.memory is not None:
        value = calibration.memory.peak_bytes(graph)
        peak = MachineValue(value, *calibration.memory.interval(value))
    return MachineReport(
        latency=MachineValue(total_ms, total_ms * calibration.low, total_ms * calibration.high),
        peak_memory=peak,
        identity=identity,
        calibrated=calibration.identity,
        measured=calibration.measured,
        n_probes=calibration.n_probes,
        mape=calibration.mape,
        inputs={value.name: value.shape for value in graph.inputs},
        n_nodes=len(graph.nodes),
        kinds=tuple(kinds),
        is_sized=graph.is_sized,
    )


def _estimated(spec: ModelSpec, point: Point, settings: Settings, identity: Identity) -> MachineReport:
    """By the roofline."""
    machine = measure_machine(point, settings)
    found = estimate_point(spec.path, spec.inputs, point, settings, machine)
    operators = found.operators
    assert operators is not None
    assert operators.estimate_ms is not None
    sums: dict[str, list[float]] = collections.defaultdict(list)
    for entry in operators.operators:
        sums[entry.op_type].append(entry.estimate_ms or 0.0)
    kinds = [KindShare(kind, len(own), sum(own), True) for kind, own in sums.items()]
    return MachineReport(
        latency=MachineValue(operators.estimate_ms, None, None),
        peak_memory=None,
        identity=identity,
        calibrated=None,
        measured=None,
        n_probes=0,
        mape=None,
        inputs={entry.name: tuple(entry.shape) for entry in found.inputs},
        n_nodes=len(operators.operators),
        kinds=tuple(sorted(kinds, key=lambda entry: -entry.ms)),
        is_sized=operators.unknown == 0,
    )
