"""A decoder with a key-value cache as deployment runs it: the prompt at once, then token by token, the cache fed back.

The next token is the most probable one. On a device the cache stays there between runs (I/O binding).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.errors import OptionError, RuntimeFailure
from onnx_ghn.profiling.cache_inputs import CacheInputs, cache_inputs
from onnx_ghn.profiling.devices import device_of
from onnx_ghn.profiling.energy import EnergyMeter
from onnx_ghn.profiling.gpu_meter import GpuMeter
from onnx_ghn.profiling.measuring import busy_note, infos, with_operators
from onnx_ghn.profiling.own_process import peak_bytes, pin, resident_bytes
from onnx_ghn.profiling.report import Generation, Machine, Memory, PointResult
from onnx_ghn.profiling.sessions import one_line_failures, timed_session
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import InputSpec
from onnx_ghn.profiling.timing import Timing, summary, time_runs
from onnx_ghn.profiling.waiting_runs import recorded_point

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["Decoder", "Generated", "measure_generation"]

_WARM_TOKENS = 4  # of a generation that is not measured


@dataclasses.dataclass
class Generated:
    """One generation."""

    tokens: list[Array]  # (batch,) each
    prefill_ns: int = 0  # the run alone; 0 where there is none
    first_ns: int = 0  # to the first token
    decode_ns: list[int] = dataclasses.field(default_factory=list)  # of each token after the first
    cache_bytes: int = 0  # behind the prompt
    end_bytes: int = 0


class Decoder:
    """A session of a decoder with a cache, on the device of its provider."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        cache: CacheInputs,
        batch: int = 1,
        sizes: dict[str, int] | None = None,
        point: Point | None = None,
    ) -> None:
        outputs = [value.name for value in session.get_outputs()]
        self._presents = cache.presents(outputs)
        others = [name for name in outputs if name not in self._presents.values()]
        if not others:
            raise OptionError("the model gives a cache and nothing else; export it with its scores of tokens")
        self._scores = "logits" if "logits" in others else others[0]
        self._session, self._cache, self._batch, self._sizes = session, cache, batch, sizes
        self._fed_back = [(spec.name, self._presents[spec.name]) for spec in cache.fed_back]
        self._outputs = [*self._presents.values(), self._scores]
        # Where tensors lie in the processor's memory, arrays are handed over without a copy; elsewhere the cache stays.
        device = ("cpu", 0) if point is None else device_of(point.provider, point.device)
        self._device = None if device[0] == "cpu" else device

    def generate(self, context: int, new_tokens: int, seed: int = 0) -> Generated:
        """Generate behind a random prompt; behind a random cache where the file takes no prompt as a whole.

        Args:
            context: tokens of the prompt.
            new_tokens: to generate.

        Raises:
            RuntimeFailure: a run fails.
        """
        with one_line_failures("onnxruntime cannot run the model"):
            return self._generate(context, new_tokens, seed)

    def _generate(self, context: int, new_tokens: int, seed: int) -> Generated:
        found = Generated([])
        began = time.perf_counter_ns()
        if self._cache.prefills:
            feed = self._cache.feed(0, context, batch=self._batch, sizes=self._sizes, seed=seed)
            began = time.perf_counter_ns()  # making up a prompt is not the model's work
            outputs, found.prefill_ns = self._run(feed, {})
            held = {name: outputs[present] for name, present in self._presents.items()}
            # What of an encoder is not given by the prefill is as it was fed.
            held |= {name: array for name, array in self._encoder(feed).items() if name not in held}
            token = self._chosen(outputs)
            found.tokens.append(token)
            found.first_ns = time.perf_counter_ns() - began
        else:
            feed = self._cache.feed(context, 1, batch=self._batch, sizes=self._sizes, seed=seed)
            held = {spec.name: self._value(feed[spec.name]) for spec in self._cache.fed_back} | self._encoder(feed)
            token = self._batch_of(feed)
        constant = {name: array for name, array in feed.items() if self._cache.roles[name] in ("ones", "other")}
        constant |= {name: array for name, array in feed.items() if self._is_vectors(name)}
        found.cache_bytes = self._bytes(held)
        for number in range(new_tokens - len(found.tokens)):
            began = time.perf_counter_ns()
            small = constant | self._cache.step(context + number, token)
            outputs, _ = self._run(small, held)
            # An encoder's keys and values stay those of the prefill: the branch with a cache gives them empty.
            for name, present in self._fed_back:
                held[name] = outputs[present]
            token = self._chosen(outputs)
            found.tokens.append(token)
            found.decode_ns.append(time.perf_counter_ns() - began)
        found.end_bytes = self._bytes(held)
        return found

    def _run(self, feed: dict[str, Array], held: dict[str, Any]) -> tuple[dict[str, Any], int]:
        """The outputs by name, and the nanoseconds of the run."""
        if self._device is None:
            began = time.perf_counter_ns()
            found = self._session.run(self._outputs, feed | held)
            spent = time.perf_counter_ns() - began
            return dict(zip(self._outputs, found, strict=True)), spent
        binding = self._session.io_binding()
        for name, array in feed.items():
            if name not in held:
                binding.bind_cpu_input(name, array)
        for name, value in held.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs[:-1]:
            binding.bind_output(name, *self._device)
        binding.bind_output(self._scores)
        began = time.perf_counter_ns()
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        spent = time.perf_counter_ns() - began
        return dict(zip(self._outputs, binding.get_outputs(), strict=True)), spent

    def _value(self, array: Array) -> Any:
        """An array as the cache is held between runs."""
        if self._device is None:
            return array
        import onnxruntime

        return onnxruntime.OrtValue.ortvalue_from_numpy(array, *self._device)

    def _chosen(self, outputs: dict[str, Any]) -> Array:
        """The most probable tokens, (batch,)."""
        found = outputs[self._scores]
        scores = found if self._device is None else found.numpy()
        last = scores[:, -1] if scores.ndim == 3 else scores  # (batch, words)
        chosen: Array = np.asarray(last).argmax(-1)
        return chosen

    def _encoder(self, feed: dict[str, Array]) -> dict[str, Any]:
        return {name: self._value(array) for name, array in feed.items() if self._cache.roles[name] == "encoder"}

    def _batch_of(self, feed: dict[str, Array]) -> Array:
        tokens = next(array for name, array in feed.items() if self._cache.roles[name] == "tokens")
        first: Array = tokens[:, 0] if tokens.ndim == 2 else np.zeros(len(tokens), np.int64)
        return first

    def _is_vectors(self, name: str) -> bool:
        """Tokens as vectors: those of chosen tokens are another model's, so one of the prompt serves."""
        spec = next(spec for spec in self._cache.specs if spec.name == name)
        return self._cache.roles[name] == "tokens" and len(spec.dims) > 2

    def _bytes(self, held: dict[str, Any]) -> int:
        return sum(_n_bytes(held[spec.name]) for spec in self._cache.fed_back)


def measure_generation(
    path: str,
    specs: Sequence[InputSpec],
    point: Point,
    settings: Settings,
    machine: Machine | None = None,
    trace: bool = False,
) -> PointResult:
    """Measure a point that has a context; with `trace`, keep the events of the profiled runs of one token."""
    cache = cache_inputs(specs)
    assert cache is not None  # the sweep has checked it
    assert point.context is not None
    pin(settings.pin)
    gpu = GpuMeter(point)
    gpu.read_memory()
    baseline = resident_bytes()
    session, creation_ms = timed_session(path, point, settings)
    loaded = resident_bytes()
    gpu.read_memory()
    batch = point.batch or 1
    decoder = Decoder(session, cache, batch, dict(point.sizes), point)
    began = time.perf_counter_ns()
    decoder.generate(point.context, 2, settings.seed)
    first_ns = time.perf_counter_ns() - began
    if settings.warmup:
        decoder.generate(point.context, _WARM_TOKENS, settings.seed)
    gpu.begin_energy()
    meter = EnergyMeter()
    found, whole = _timed(decoder, point.context, settings)
    gpu.read_memory()
    memory = Memory(baseline, loaded, peak_bytes())
    spent = whole.wall_ns / 1e9, len(whole.runs_ns)
    decode_ns = [ns for one in found for ns in one.decode_ns]
    # Processor time is that of whole generations: the share of it that decoding took.
    cpu_ns = whole.cpu_ns * sum(decode_ns) // whole.wall_ns
    latency = summary(Timing(decode_ns, sum(decode_ns), cpu_ns), batch, first_ns)
    feed = cache.feed(point.context, 1, batch=batch, sizes=dict(point.sizes), seed=settings.seed)
    notes = ["latency and operators are those of one token behind the prompt"]
    notes += gpu.notes
    notes += busy_note(point, whole.cpu_ns, whole.wall_ns)
    if not cache.prefills:
        notes.append("the file takes one token and a cache, so that it has no prefill; the cache is random")
    result = PointResult(
        point,
        inputs=infos(feed),
        notes=tuple(notes),
        session_creation_ms=creation_ms,
        latency=latency,
        generation=_summary(found, point.context, settings.new_tokens, batch),
        energy=meter.since(*spent),
        device_energy=gpu.energy(*spent),
        memory=memory,
        device_memory=gpu.memory(),
        machine=machine,
    )
    if not settings.operators:
        return result
    del decoder, session
    (recorded,), nodes = recorded_point(path, path, [feed], point, settings)
    return with_operators(result, recorded, nodes, machine, trace)


def _timed(decoder: Decoder, context: int, settings: Settings) -> tuple[list[Generated], Timing]:
    """Generations behind other prompts each, and the time of them all."""
    found: list[Generated] = []

    def generate() -> None:
        found.append(decoder.generate(context, settings.new_tokens, settings.seed + len(found)))

    timing = time_runs(generate, warmup=0, seconds=settings.seconds, iterations=settings.iterations)
    return found, timing


def _summary(found: Sequence[Generated], context: int, new_tokens: int, batch: int) -> Generation:
    decode_ms = np.array([ns for one in found for ns in one.decode_ns]) / 1e6  # (n,)
    totals_ms = [(one.first_ns + sum(one.decode_ns)) / 1e6 for one in found]
    prefills_ms = [one.prefill_ns / 1e6 for one in found if one.prefill_ns]
    firsts_ms = [one.first_ns / 1e6 for one in found if one.prefill_ns]
    prefill_ms = float(np.median(prefills_ms)) if prefills_ms else None
    last = found[-1]
    return Generation(
        context=context,
        new_tokens=new_tokens,
        n_generations=len(found),
        prefill_ms=prefill_ms,
        prefill_tokens_per_s=None if prefill_ms is None else 1e3 * context * batch / prefill_ms,
        time_to_first_token_ms=float(np.median(firsts_ms)) if firsts_ms else None,
        time_to_first_token_p95_ms=float(np.percentile(firsts_ms, 95)) if firsts_ms else None,
        decode_p50_ms=float(np.median(decode_ms)),
        decode_p95_ms=float(np.percentile(decode_ms, 95)),
        decode_tokens_per_s=1e3 * batch * len(decode_ms) / float(decode_ms.sum()),
        total_p50_ms=float(np.median(totals_ms)),
        cache_bytes=last.cache_bytes,
        cache_bytes_at_end=last.end_bytes,
        cache_bytes_per_token=last.cache_bytes / context,
    )


def _n_bytes(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    size = {"float16": 2, "float": 4, "double": 8, "bfloat16": 2, "int8": 1, "uint8": 1}
    kind = value.data_type().removeprefix("tensor(").removesuffix(")")
    if kind not in size:
        raise RuntimeFailure(f"a cache of {kind} is of no size that is known; name `inputs` instead of `context`")
    return int(np.prod(value.shape(), dtype=np.int64)) * size[kind]
