"""What is measured (a point of a sweep) and how (the settings that all points share)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from onnx_ghn.errors import OptionError
from onnx_ghn.limits import available_cores
from onnx_ghn.profiling.optimization_levels import OPTIMIZATIONS
from onnx_ghn.settings import Settings as _Settings
from onnx_ghn.settings import setting

__all__ = ["Axes", "Point", "Settings"]


@dataclasses.dataclass(frozen=True)
class Point:
    """One way to run a model."""

    batch: int | None = None  # None: what the file or the inputs declare, or 1 if that is free
    threads: int = 1  # within an operator
    inter_threads: int = 1  # between operators; above 1 onnxruntime's parallel executor runs
    streams: int = 1  # concurrent runs of one session
    provider: str = "CPUExecutionProvider"
    optimization: str = "all"
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()  # of inputs, where they differ from point to point
    sizes: tuple[tuple[str, int], ...] = ()  # of symbols
    context: int | None = None  # tokens of the prompt of a model with a key-value cache; None: it is run as it is
    device: int | None = None  # of the provider; None: its first

    def __post_init__(self) -> None:
        for name in ("batch", "threads", "inter_threads", "streams", "context"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionError(f"`{name}` {value}: must be 1 or more")
        for name, size in self.sizes:
            if size < 0:
                raise OptionError(f"`size` {name}={size}: must be 0 or more")
        if self.optimization not in OPTIMIZATIONS:
            raise OptionError(f"`optimization` {self.optimization!r}: choose of {', '.join(OPTIMIZATIONS)}")

    @property
    def label(self) -> str:
        """The point in a few words, for messages and legends."""
        device = "" if self.device is None else f":{self.device}"
        parts = [self.provider.removesuffix("ExecutionProvider") + device, f"{self.threads} threads"]
        parts += [f"batch {self.batch}"] if self.batch is not None else []
        parts += [f"context {self.context}"] if self.context is not None else []
        parts += [f"{name} {'×'.join(map(str, shape)) or 'scalar'}" for name, shape in self.shapes]
        parts += [f"{name} {size}" for name, size in self.sizes]
        parts += [f"{self.inter_threads} inter-op"] if self.inter_threads > 1 else []
        parts += [f"{self.streams} streams"] if self.streams > 1 else []
        parts += [self.optimization] if self.optimization != "all" else []
        return ", ".join(parts).replace(" 1 threads", " 1 thread")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axes(_Settings):
    """The values whose combinations are the points of a sweep, and what is done at each."""

    batch: tuple[int, ...] = setting((), "Batch sizes (default: as the file says).", form="numbers", metavar="N,…")
    threads: tuple[int, ...] = setting(
        (), "Threads within an operator (default: all cores).", form="numbers", metavar="N,…"
    )
    inter_threads: tuple[int, ...] = setting(
        (1,), "Threads between operators (default: 1).", form="numbers", metavar="N,…"
    )
    streams: tuple[int, ...] = setting(
        (1,), "Concurrent runs of a session (default: 1).", form="numbers", metavar="N,…"
    )
    provider: tuple[str, ...] = setting(
        ("cpu",),
        "Execution providers, with the number of a device: cpu, cuda:1, tensorrt, … (default: cpu).",
        form="words",
        metavar="NAME,…",
    )
    optimization: tuple[str, ...] = setting(
        ("all",),
        "Levels of graph optimisation: none, basic, extended, all (default: all).",
        form="levels",
        metavar="LEVEL,…",
    )
    size: tuple[tuple[str, tuple[int, ...]], ...] = setting(
        (),
        "Sizes of a symbol of the inputs' shapes, such as sequence=16,128; may be given several times.",
        form="named_sizes",
        metavar="SYMBOL=N,…",
    )
    context: tuple[int, ...] = setting(
        (),
        "Prompt lengths of a model with a key-value cache, whose prefill and decoding are measured apart (default: 128 "
        "where the file has one).",
        form="numbers",
        metavar="N,…",
    )
    one_session: bool | None = setting(
        None,
        "Measure points that differ in shapes alone in one session, which leaves their memory out (default: where "
        "--shape or --size has several values).",
    )
    against: str | None = setting(None, "Measure another model, too, the runs of both in turn.", metavar="MODEL")
    compare_outputs: bool = setting(False, "Compare the outputs of all operators with those of --against.")
    estimate: bool = setting(False, "Run nothing: estimate from the graph and the machine's peak.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(_Settings):
    """How each point is measured."""

    inputs: str | None = setting(
        None,
        "An .npz file with an array for each input, or an .npy file for a single one.",
        metavar="FILE",
        check="file",
    )
    seed: int = setting(0, "Random seed of generated inputs.", least=0)
    warmup: int = setting(5, "Number of runs before the measured ones.", least=0)  # after the very first one
    seconds: float | None = setting(
        None, "How long to measure (default: 3 s, unless --iterations is given).", above=0, below=math.inf
    )
    iterations: int | None = setting(None, "How many runs to measure.", least=1)
    timeout_s: float = setting(
        600.0, "Seconds after which a point is given up.", option="--timeout", above=0, below=math.inf
    )
    new_tokens: int = setting(32, "Tokens to generate behind each prompt of --context.", least=2)
    pin: tuple[int, ...] = setting((), "Run on these cores only, such as 0,1 or 0-3.", form="cores", metavar="CORES")
    custom_op_libraries: tuple[str, ...] = setting(
        (),
        "A shared library of custom operators; may be given several times.",
        option="--custom-op-library",
        metavar="FILE",
        check="library",
    )
    provider_option: tuple[tuple[str, str, str], ...] = setting(
        (),
        "An option of a provider, such as cuda.use_tf32=0; may be given several times.",
        form="provider_option",
        metavar="NAME.KEY=VALUE",
    )
    provider_libraries: tuple[str, ...] = setting(
        (),
        "A plugin's library that brings an execution provider; may be given several times.",
        option="--provider-library",
        metavar="FILE",
        check="library",
    )
    io_binding: bool = setting(
        False, "Measure runs whose inputs and outputs stay on the device, too, in turn with plain ones."
    )
    cuda_graph: bool = setting(
        False, "Measure replays of a CUDA graph, too, in turn with plain runs and those of --io-binding."
    )
    operators: bool = setting(
        True, "Measure the whole model only: no operators, no roofline.", option="--no-operators"
    )  # and the machine's peak and bandwidth
    lengths: tuple[str, str] | None = setting(
        None,
        "Draw the size of a symbol (by default the only one beside the batch's) anew for each run, from a file with a "
        "number a line.",
        form="named_file",
        metavar="[SYMBOL=]FILE",
    )
    shapes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)  # by input

    def __post_init__(self) -> None:
        object.__setattr__(self, "shapes", {name: tuple(shape) for name, shape in self.shapes.items()})
        object.__setattr__(self, "pin", tuple(self.pin))
        object.__setattr__(self, "provider_libraries", tuple(self.provider_libraries))
        object.__setattr__(self, "custom_op_libraries", tuple(self.custom_op_libraries))
        if self.seconds is None and self.iterations is None:
            object.__setattr__(self, "seconds", 3.0)
        super().__post_init__()
        if self.seconds is not None and self.seconds >= self.timeout_s:
            raise OptionError(f"`seconds` {self.seconds:g}: must be less than `timeout_s`, which is {self.timeout_s:g}")
        for name, shape in self.shapes.items():
            if any(dim < 1 for dim in shape):
                raise OptionError(f"`shapes`: that of input {name!r} is {shape}, must hold numbers from 1")
        absent = sorted(set(self.pin) - set(available_cores()))
        if absent:
            raise OptionError(f"`pin`: no processor {absent[0]} here; there are {available_cores()}")
