"""The results of profiling. Units are in the names of the fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from onnx_ghn.profiling.settings import Point, Settings

__all__ = [
    "Binding",
    "Check",
    "Comparison",
    "CudaGraph",
    "DeviceMemory",
    "Energy",
    "Generation",
    "Latency",
    "LengthProfile",
    "Machine",
    "Memory",
    "Operator",
    "OperatorProfile",
    "PointResult",
    "ProfileReport",
    "Ratio",
    "Source",
    "TensorInfo",
]

#: Where a figure that is held to something comes from; see `Check`.
Source = Literal["point", "session", "machine", "baseline", "turn"]


_CPU = "CPUExecutionProvider"


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """An input as it was fed."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Latency:
    """Latency of single runs without the warm-up. With several streams, all of their runs count."""

    n_runs: int
    wall_s: float  # from the first measured run's begin to the last one's end
    cpu_s: float  # processor time of the process in it; less than wall_s if other processes had the processor
    first_run_ms: float  # the very first run of the session, before the warm-up
    mean_ms: float
    std_ms: float  # of the sample (n - 1); 0 for a single run
    min_ms: float
    max_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p99_9_ms: float
    runs_per_s: float
    items_per_s: float  # runs_per_s × batch
    samples_ms: tuple[float, ...]  # in order of time; beyond 5000, evenly spaced ones


@dataclasses.dataclass(frozen=True)
class Binding:
    """Plain runs, and runs whose inputs and outputs stay on the device (I/O binding), in turn."""

    device: str  # as onnxruntime names it
    n_pairs: int
    plain_p50_ms: float
    bound_p50_ms: float
    copies_ms: float  # the difference: copies to and from the device, and arrays made of outputs
    ratio: float  # plain / bound
    low: float  # 95 % bootstrap interval
    high: float


@dataclasses.dataclass(frozen=True)
class CudaGraph:
    """Runs with I/O binding, and replays of a CUDA graph that was recorded of them, in turn."""

    n_pairs: int
    capture_ms: float  # of the run that records
    outputs_agree: bool  # a replay gives what a run gave, to 2 % of the largest magnitude
    bound_p50_ms: float
    graph_p50_ms: float
    ratio: float  # bound / graph
    low: float  # 95 % bootstrap interval
    high: float


@dataclasses.dataclass(frozen=True)
class DeviceMemory:
    """Memory of the GPU, of all processes on it together but for `process_bytes`."""

    name: str
    source: str  # what tells: NVML or nvidia-smi
    total_bytes: int
    baseline_bytes: int  # before the session
    loaded_bytes: int  # the session created
    peak_bytes: int  # behind the runs: onnxruntime's arena gives nothing back
    process_bytes: int | None  # of this process alone, behind the runs; None where the driver does not tell


@dataclasses.dataclass(frozen=True)
class Energy:
    """What the processor's packages took in the measured runs (by RAPL), or a GPU (by NVML), whoever used them."""

    packages: int  # 1 for a GPU
    joules: float
    watts: float
    mj_per_run: float  # millijoules


@dataclasses.dataclass(frozen=True)
class Generation:
    """Text generated token by token. The point's `latency` is that of the tokens after the first, one run each."""

    context: int  # tokens of the prompt
    new_tokens: int
    n_generations: int
    prefill_ms: float | None  # p50 of the run over the prompt; None where the file cannot do it
    prefill_tokens_per_s: float | None  # of all items of the batch
    time_to_first_token_ms: float | None  # p50: the prefill, making its inputs, and choosing the token
    time_to_first_token_p95_ms: float | None
    decode_p50_ms: float  # of a token after the first: making inputs, the run, and choosing the token
    decode_p95_ms: float
    decode_tokens_per_s: float  # of all items of the batch
    total_p50_ms: float  # of a whole generation
    cache_bytes: int  # behind the prompt
    cache_bytes_at_end: int
    cache_bytes_per_token: float  # of all items of the batch


@dataclasses.dataclass(frozen=True)
class LengthProfile:
    """The sizes of a symbol that were drawn from a file, over the measured runs."""

    symbol: str
    n_in_file: int
    n_drawn: int  # in a round; rounds follow each other until the measurement ends
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    largest: int
    per_s: float  # the sum of the lengths a second, times the batch
    by_length: tuple[Mapping[str, float], ...]  # length, n_runs, first_run_ms, p50_ms; from the shortest


@dataclasses.dataclass(frozen=True)
class Memory:
    """Resident memory of the process that ran this point alone."""

    baseline_bytes: int  # onnxruntime loaded, no session
    loaded_bytes: int  # the session created
    peak_bytes: int  # the highest until the measurement's end


@dataclasses.dataclass(frozen=True)
class Machine:
    """What onnxruntime reaches on this machine with one provider and number of threads, float32."""

    provider: str
    threads: int
    peak_flops: float  # multiplications and additions a second: a square MatMul
    memory_bytes_per_s: float  # c = a + b over arrays larger than any cache
    cache_bytes_per_s: float  # the same over arrays that fit in a core's cache
    dispatch_us: float  # of an operator that has nothing to do
    last_level_cache_bytes: int  # 0 if the system does not say


@dataclasses.dataclass(frozen=True)
class Operator:
    """One node of the graph as onnxruntime runs it; `covers` names the nodes of the file that it stands for."""

    name: str
    op_type: str
    domain: str
    provider: str
    covers: tuple[str, ...]
    fused: str  # the operators of `covers`: "Conv+BatchNormalization+Relu"
    output_shape: tuple[int, ...] | None
    calls: float | None  # in a run; None if nothing was measured
    p50_ms: float | None  # in a run, over the repetitions; without the time of operators inside it (Loop, If)
    p10_ms: float | None
    p90_ms: float | None
    mean_ms: float | None
    std_ms: float | None
    device_p50_ms: float | None  # of its kernels on the device, in a run; None where the trace has none at all
    device_mean_ms: float | None
    share: float | None  # of the sum of all operators: of device_p50_ms where there are kernels, else of p50_ms
    macs: int | None  # None if the operator or a shape is unknown
    flops: int | None  # 2 × MACs, or one an element for other arithmetic
    parameters: int  # weights in the stored tensors that it reads
    parameter_bytes: int
    bytes: int | None  # inputs, parameters and outputs, each once
    intensity: float | None  # flops / bytes
    estimate_ms: float | None  # the roofline: max(flops / peak, bytes / bandwidth), and the dispatch


@dataclasses.dataclass(frozen=True)
class OperatorProfile:
    """Operators, in the order in which they first run."""

    operators: tuple[Operator, ...]
    repetitions: int  # 0 if nothing was run
    run_ms: float | None  # mean of the recorded runs, slower than others by the recording between operators
    operators_ms: float | None  # sum of the operators' means
    operators_p50_ms: float | None  # sum of the operators' p50: less, if other processes got in between
    coverage: float | None  # operators_ms / run_ms
    device_ms: float | None  # sum of the operators' device_mean_ms
    device_coverage: float | None  # device_ms / run_ms
    macs: int
    flops: int
    parameters: int  # each stored tensor once
    parameter_bytes: int
    bytes: int
    estimate_ms: float | None
    unknown: int  # operators whose work or shapes are not known: they count as nothing


@dataclasses.dataclass(frozen=True)
class PointResult:
    """One point of a sweep: either `error`, or all the rest."""

    point: Point
    error: str | None = None
    inputs: tuple[TensorInfo, ...] = ()
    notes: tuple[str, ...] = ()
    session_creation_ms: float | None = None
    session_shared: bool = False  # the session is that of an earlier point, and so is the time of its creation
    latency: Latency | None = None
    generation: Generation | None = None  # where the point has a context
    lengths: LengthProfile | None = None  # where sizes are drawn
    energy: Energy | None = None  # of the processor, where the system lets it be read
    device_energy: Energy | None = None  # of the GPU, where its driver tells
    binding: Binding | None = None  # where it was asked for
    cuda_graph: CudaGraph | None = None  # where it was asked for, and the provider records any
    memory: Memory | None = None  # None where several points share a process
    device_memory: DeviceMemory | None = None  # likewise, and where the GPU's driver tells
    operators: OperatorProfile | None = None
    machine: Machine | None = None
    events: tuple[Mapping[str, Any], ...] = dataclasses.field(default=(), repr=False)  # of the trace, where it is kept

    @property
    def batch(self) -> int:
        """Items in a run: the first dimension of the first input that has any."""
        return next((info.shape[0] for info in self.inputs if info.shape), 1)

    @property
    def left_to_cpu(self) -> tuple[str, ...] | None:
        """Operators that another provider left to the CPU, as type and name; None where that was not recorded."""
        if self.operators is None or not self.operators.repetitions or self.point.provider == _CPU:
            return None
        return tuple(f"{one.op_type} {one.name}" for one in self.operators.operators if one.provider == _CPU)

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        found = dataclasses.asdict(dataclasses.replace(self, events=()))
        del found["events"]
        found["left_to_cpu"] = self.left_to_cpu
        found["point"] |= {"shapes": dict(self.point.shapes), "sizes": dict(self.point.sizes)}
        return {**found.pop("point"), **found, "batch": self.batch if self.inputs else self.point.batch}


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Two models in one process, their runs in turn: p50 of the model / p50 of the other."""

    point: Point
    error: str | None = None
    n_pairs: int = 0
    model_p50_ms: float | None = None
    against_p50_ms: float | None = None
    ratio: float | None = None
    low: float | None = None  # 95 % bootstrap interval
    high: float | None = None
    wall_s: float | None = None  # of the runs of both, with their warm-up


@dataclasses.dataclass(frozen=True)
class Check:
    """What one point was held to, and whether it kept to it.

    Attributes:
        source: of the figure: the point itself; the session of an earlier point, which this one shares; the machine,
            measured once for all points of its provider and threads; the point beside the baseline, which is of another
            day; or both models in turn.
    """

    point: Point
    requirement: str  # "p95_ms at most 12"
    passed: bool
    told: str  # what was found
    value: float | None = None  # the figure, or the ratio of the medians
    low: float | None = None  # 95 % interval of the ratio
    high: float | None = None
    source: Source = "point"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Outputs of all nodes of two models on the same inputs, in the order of the graph."""

    rows: tuple[Mapping[str, Any], ...]  # value, node, op_type, shape, max_abs, max_rel, close
    first_divergence: str | None  # the first value that is not close
    unmatched: int  # values that only one of the models has
    rtol: float
    atol: float


@dataclasses.dataclass(frozen=True)
class ProfileReport:
    """All points of a sweep."""

    model: str
    size_bytes: int  # with external data
    parameters: int  # weights in stored tensors, quantised and packed ones too
    settings: Settings
    system: Mapping[str, Any]
    points: tuple[PointResult, ...]
    against: str | None = None
    against_points: tuple[PointResult, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    comparison: Comparison | None = None
    checks: tuple[Check, ...] = ()
    interrupted: bool = False
    trace_events: Sequence[Mapping[str, Any]] = dataclasses.field(default=(), repr=False)

    @property
    def sides(self) -> list[tuple[str, tuple[PointResult, ...]]]:
        """The model and its points, then the other model and its points, where there is one."""
        other = [] if self.against is None else [(self.against, self.against_points)]
        return [(self.model, self.points), *other]

    @property
    def errors(self) -> list[str]:
        """One line for each point that failed."""
        found: list[PointResult | Ratio] = [*self.points, *self.against_points, *self.ratios]
        return [f"{entry.point.label}: {entry.error}" for entry in found if entry.error is not None]

    @property
    def failures(self) -> list[str]:
        """One line for each requirement that a point did not keep to."""
        return [f"{check.point.label}: {check.told}" for check in self.checks if not check.passed]

    def to_dict(self) -> dict[str, object]:
        """For JSON; docs/profiling.md describes the keys."""
        found = dataclasses.asdict(dataclasses.replace(self, points=(), against_points=(), trace_events=()))
        del found["trace_events"]
        sides = {"points": self.points, "against_points": self.against_points}
        return found | {side: [point.to_dict() for point in points] for side, points in sides.items()}
