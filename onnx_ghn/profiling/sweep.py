"""A sweep: each point runs in a process of its own, and its result is kept whatever happens to the others."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from onnx_ghn.errors import OptionError, RuntimeFailure
from onnx_ghn.limits import available_cores
from onnx_ghn.profiling import pairs, processes
from onnx_ghn.profiling.baseline import Baseline, read_baseline
from onnx_ghn.profiling.cache_inputs import cache_inputs
from onnx_ghn.profiling.cuda_graphs import check_graphs
from onnx_ghn.profiling.feeds import point_inputs
from onnx_ghn.profiling.gates import Gates, held
from onnx_ghn.profiling.generating import measure_generation
from onnx_ghn.profiling.lost_data import completed
from onnx_ghn.profiling.machine import measure_machine, system_info
from onnx_ghn.profiling.measuring import estimate_point, measure_point
from onnx_ghn.profiling.points import groups, sweep_points
from onnx_ghn.profiling.providers import check_options, named_device
from onnx_ghn.profiling.report import Comparison, Machine, PointResult, ProfileReport, Ratio
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.sizing import check_shapes
from onnx_ghn.profiling.specs import ModelSpec, model_spec
from onnx_ghn.profiling.together import kept_points, measure_together
from onnx_ghn.scratch import scratch_folder

__all__ = ["profile"]

T = TypeVar("T")
_CONTEXT = 128  # tokens of a prompt
Progress = Callable[[str, int, int], None]  # what is measured, jobs done, jobs in all


def profile(
    path: str | os.PathLike[str],
    *,
    batch: Sequence[int] = (),
    threads: Sequence[int] = (),
    inter_threads: Sequence[int] = (1,),
    streams: Sequence[int] = (1,),
    provider: Sequence[str] = ("cpu",),
    optimization: Sequence[str] = ("all",),
    shapes: Mapping[str, Sequence[tuple[int, ...]]] | None = None,
    size: Sequence[tuple[str, Sequence[int]]] = (),
    context: Sequence[int] = (),
    one_session: bool | None = None,
    settings: Settings | None = None,
    against: str | os.PathLike[str] | None = None,
    compare_outputs: bool = False,
    estimate: bool = False,
    trace: bool = False,
    gates: Gates | None = None,
    progress: Progress | None = None,
) -> ProfileReport:
    """Measure a model file at each combination of the given values.

    Args:
        batch: batch sizes; without any, what the model or the input file declares.
        threads: within an operator; by default, as many as there are cores.
        inter_threads, streams, provider, optimization: see `Point`; providers by short or full name.
        shapes: of inputs, by name, several each: all inputs with several change together, from point to point. Those
            of `settings` are the same at each point.
        size: symbols of the inputs' shapes with their sizes; equal symbols have equal sizes in all inputs.
        context: prompt lengths of a model with a key-value cache: text is generated behind each, and
            `PointResult.generation` has prefill and decoding apart. By default 128 where the model has a cache and
            neither `shapes`, `size` nor `settings` say what to run it on.
        one_session: measure points that differ in batch, shapes and sizes alone in one process and session, which
            leaves `memory` out; by default, where `shapes` or `size` has several values.
        settings: how to measure; see `Settings`.
        against: another model file, measured at the same points, and then both in turn (`ProfileReport.ratios`).
        compare_outputs: with `against`, compare the outputs of all nodes (`ProfileReport.comparison`).
        estimate: run nothing; estimate from the graph and the machine's peak.
        trace: keep the events of the profiled runs (`ProfileReport.trace_events`).
        gates: what each point is held to (`ProfileReport.checks`); see `Gates`.
        progress: called before each job.

    Returns:
        a report of all points. A point that cannot be measured has an `error`; Ctrl-C ends the sweep, and the
        report has what was measured until then.

    Raises:
        ModelReadError: a file that cannot be read. OptionError: options that make no sense for the model.
    """
    _check_several(
        {
            "batch": batch, "threads": threads, "inter_threads": inter_threads, "streams": streams, "context": context,
            "provider": provider, "optimization": optimization,
        },
        shapes or {},
    )  # fmt: skip
    if settings is not None and not isinstance(settings, Settings):
        raise OptionError(f"`settings` is a {type(settings).__name__}; make it by onnx_ghn.profiling.Settings")
    settings, gates = settings or Settings(), gates or Gates()
    if compare_outputs and against is None:
        raise OptionError("comparing outputs needs a second model: `against`")
    bound = next((name for name in ("io_binding", "cuda_graph") if getattr(settings, name)), None)
    if estimate and bound is not None:
        raise OptionError(f"`{bound}`: an estimate runs nothing; leave `estimate` out")
    if estimate and against is not None:
        raise OptionError("an estimate runs nothing, so there is nothing to compare: leave `against` out")
    for option in ("custom_op_libraries", "provider_libraries"):
        absent = next((library for library in getattr(settings, option) if not os.path.isfile(library)), None)
        if absent is not None:
            raise OptionError(f"`{option}`: {absent} is no file")
    specs = [model_spec(file, allow_absent=estimate) for file in (path, against) if file is not None]
    devices = [named_device(name, settings) for name in provider]
    check_options(settings, [name for name, _ in devices])
    check_graphs(settings, [name for name, _ in devices])
    axes = (
        devices,
        optimization,
        threads or (len(settings.pin or available_cores()),),
        inter_threads,
        streams,
        context or _contexts(specs, settings, bool(shapes or size)),
        batch or (None,),
    )
    points, several = sweep_points(axes, shapes or {}, size)
    generates = points[0].context is not None
    if generates:
        _check_generation(points, settings, one_session)
    together = (several if one_session is None else one_session) and not estimate and not generates
    gates.check(settings, estimate, against is not None, together, generates)
    for spec in specs:
        check_shapes(spec.inputs, settings.shapes, dict(points[0].sizes))
        for point in {(point.batch, point.shapes, point.sizes): point for point in points}.values():
            next(point_inputs(spec.inputs, point, settings))
    model, other = specs[0], specs[1] if against is not None else None
    system = system_info()
    baseline = None if gates.baseline is None else read_baseline(gates.baseline)
    if baseline is not None:
        _check_baseline(baseline, points, model, settings, str(system["processor"]))
    with scratch_folder() as folder:
        if model.is_incomplete:  # an estimate needs shapes alone
            specs = [dataclasses.replace(model, path=completed(model.path, Path(folder)))]
        sweep = _Sweep(specs, settings, estimate, trace, progress, os.fspath(folder))
        grouped = groups(points) if together else [[point] for point in points]
        interrupted = sweep.all(grouped, compare_outputs)
    return ProfileReport(
        model=model.path,
        size_bytes=model.size_bytes,
        parameters=model.parameters,
        settings=settings,
        system=system,
        points=tuple(sweep.points[0]),
        against=None if other is None else other.path,
        against_points=tuple(sweep.points[1]),
        ratios=tuple(sweep.ratios),
        comparison=sweep.comparison,
        checks=held(gates, sweep.points[0], sweep.ratios, baseline, settings.seed),
        interrupted=interrupted,
        trace_events=tuple(sweep.events),
    )


def _check_several(values: Mapping[str, object], shapes: Mapping[str, Sequence[object]]) -> None:
    """Refuse one value where several are taken. Raises OptionError."""
    for name, value in values.items():
        if isinstance(value, str | int):
            raise OptionError(f"`{name}` {value!r}: takes several values; write [{value!r}]")
    for name, several in shapes.items():
        if several and isinstance(several[0], int):
            raise OptionError(f"`shapes`: that of {name} takes several shapes; write [{several!r}]")


def _contexts(specs: Sequence[ModelSpec], settings: Settings, is_shaped: bool) -> Sequence[int | None]:
    """The context where none is asked for: of models that all have a cache and are not said to run on anything else."""
    is_told = is_shaped or settings.shapes or settings.inputs is not None or settings.lengths is not None
    generates = not is_told and all(cache_inputs(spec.inputs) is not None for spec in specs)
    return (_CONTEXT,) if generates else (None,)


def _check_generation(points: Sequence[Point], settings: Settings, one_session: bool | None) -> None:
    """Refuse what makes no sense where text is generated. Raises OptionError."""
    several = [
        name
        for name, given in (
            ("shapes", points[0].shapes or settings.shapes),
            ("inputs", settings.inputs),
            ("lengths", settings.lengths),
            ("one_session", one_session),
            ("io_binding", settings.io_binding),
            ("cuda_graph", settings.cuda_graph),
        )
        if given
    ]
    if several:
        raise OptionError(f"`context`: the prompt says what a run takes; leave `{several[0]}` out")
    if any(point.streams > 1 for point in points):
        raise OptionError("`context`: text is generated one after the other; leave `streams` out, or raise `batch`")


def _check_baseline(
    baseline: Baseline, points: Sequence[Point], model: ModelSpec, settings: Settings, processor: str
) -> None:
    """Refuse a baseline of something else before anything is measured."""
    for point in points:
        baseline.check(point, point_inputs(model.inputs, point, settings), processor)


class _Sweep:
    """The jobs of a sweep, and what they found."""

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        settings: Settings,
        estimate: bool,
        trace: bool,
        progress: Progress | None,
        folder: str,
    ) -> None:
        self.points: tuple[list[PointResult], list[PointResult]] = ([], [])
        self.ratios: list[Ratio] = []
        self.comparison: Comparison | None = None
        self.events: list[Mapping[str, object]] = []
        self._specs, self._settings, self._progress = specs, settings, progress
        self._estimate, self._trace, self._folder = estimate, trace, folder
        self._machines: dict[tuple[str, int | None, int], Machine] = {}
        self._n_done = self._n_jobs = 0

    def all(self, groups: Sequence[Sequence[Point]], compare: bool) -> bool:
        """Run the jobs: those of a group of several points in one process. Returns whether the user interrupted."""
        self._n_jobs = sum(map(len, groups)) * (3 if len(self._specs) > 1 else 1) + compare
        paths = tuple(spec.path for spec in self._specs)
        first = groups[0][0]
        try:
            for group in groups:
                self._group(group)
            if compare:
                inputs = self._specs[1].inputs
                self.comparison = self._result(
                    "outputs of all nodes", first, pairs.compare_outputs, paths, inputs, first, self._settings
                )
        except KeyboardInterrupt:
            return True
        return False

    def _group(self, group: Sequence[Point]) -> None:
        for side, spec in enumerate(self._specs):
            if len(group) > 1:
                self._together(side, spec, group)
            else:
                label = self._label(spec, group[0])
                try:
                    found = self._measured(group[0], spec, label)
                except RuntimeFailure as error:
                    found = PointResult(group[0], str(error))
                self._keep(side, spec, found)
        if len(self._specs) > 1:
            failed = {found.point for points in self.points for found in points if found.error is not None}
            for point in group:
                self._in_turn(point, point in failed)

    def _together(self, side: int, spec: ModelSpec, group: Sequence[Point]) -> None:
        """Points in one process. Where it dies, so does the point that it was at, and the rest has another."""
        left = list(group)
        while left:
            kept = os.path.join(self._folder, f"points-{side}-{len(self.points[side])}")
            point, n_left = left[0], len(left)
            label = f"{n_left} points in one session, {self._label(spec, point)} and on"
            reason, interrupted = "", False
            try:
                machine = self._machine(point) if self._settings.operators else None
                arguments = spec.path, spec.inputs, left, self._settings, machine, self._trace, kept
                timeout_s = self._settings.timeout_s * n_left
                self._result(label, point, measure_together, *arguments, n_jobs=n_left, timeout_s=timeout_s)
            except RuntimeFailure as error:
                reason = str(error)
            except KeyboardInterrupt:
                interrupted = True
            found = kept_points(kept, n_left)
            reached = next((number for number, one in enumerate(found) if one is None), n_left)
            for one in found[:reached]:
                assert one is not None
                self._keep(side, spec, one)
            if interrupted:
                raise KeyboardInterrupt
            if reason and reached < n_left:
                self._keep(side, spec, PointResult(left[reached], reason))
                reached += 1
            left = left[reached:]
            self._n_done -= len(left)

    def _keep(self, side: int, spec: ModelSpec, found: PointResult) -> None:
        if found.events:  # a process of its own in the viewer
            number = len({event["pid"] for event in self.events}) + 1
            title = {"name": "process_name", "ph": "M", "pid": number, "tid": 0}
            self.events += [title | {"args": {"name": self._label(spec, found.point)}}]
            self.events += [{**event, "pid": number} for event in found.events]
        self.points[side].append(dataclasses.replace(found, events=()))

    def _label(self, spec: ModelSpec, point: Point) -> str:
        return point.label if len(self._specs) == 1 else f"{os.path.basename(spec.path)}, {point.label}"

    def _in_turn(self, point: Point, failed: bool) -> None:
        if failed:
            self._n_done += 1
            return  # the failed point of one model has its error already
        paths, inputs = tuple(spec.path for spec in self._specs), tuple(spec.inputs for spec in self._specs)
        label = f"both in turn, {point.label}"
        try:
            self.ratios.append(self._result(label, point, pairs.time_pair, paths, inputs, point, self._settings))
        except RuntimeFailure as error:
            self.ratios.append(Ratio(point, str(error)))

    def _measured(self, point: Point, spec: ModelSpec, label: str) -> PointResult:
        machine = self._machine(point) if self._settings.operators or self._estimate else None
        arguments = spec.path, spec.inputs, point, self._settings, machine
        if self._estimate:
            return self._result(label, point, estimate_point, *arguments)
        measure = measure_point if point.context is None else measure_generation
        return self._result(label, point, measure, *arguments, self._trace)

    def _machine(self, point: Point) -> Machine:
        """The machine's peak and bandwidth, measured once for each provider and number of threads."""
        key = point.provider, point.device, point.threads
        if key not in self._machines:
            self._n_done -= 1  # it is part of the point's job
            self._machines[key] = self._result("the machine's peak", point, measure_machine, point, self._settings)
        return self._machines[key]

    def _result(
        self,
        label: str,
        point: Point,
        function: Callable[..., T],
        *arguments: object,
        n_jobs: int = 1,
        timeout_s: float | None = None,
    ) -> T:
        """What a function gives in a process of its own."""
        if self._progress is not None:
            self._progress(label, max(self._n_done, 0), self._n_jobs)
        # Providers other than the CPU's map far more memory than they use.
        bounded = point.provider == "CPUExecutionProvider"
        try:
            return processes.run_job(function, arguments, timeout_s or self._settings.timeout_s, bounded=bounded)
        finally:
            self._n_done += n_jobs
