"""What a prediction needs to compute sensibly: statistics of its batch norms, and outputs of a sensible scale.

A GHN was trained on networks that normalise. In a stack without norms a factor of two a layer becomes a factor of a
billion at the end, and training from there diverges. So the model is run with the weights that it had before (or with
the standard initialisation, where it had none) and with the predicted ones, on the same inputs; where outputs lie far
apart, each weight is multiplied by one number, from the inputs on, so that its operator's output has the scale that it
had (after LSUV, arXiv 1511.06422, which takes one as the scale everywhere).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from onnx_ghn.arrays import Array
from onnx_ghn.errors import OnnxGhnError
from onnx_ghn.graph import ComputationGraph
from onnx_ghn.prediction.authors import holds_weights
from onnx_ghn.prediction.calibration import n_statistics, out_of_reach, set_statistics, trials_of
from onnx_ghn.prediction.calibration_inputs import check_source
from onnx_ghn.prediction.fallback import Distribution, standard_distribution
from onnx_ghn.prediction.filling import as_standard, tensors_of
from onnx_ghn.prediction.options import PredictOptions
from onnx_ghn.prediction.plan import Decision
from onnx_ghn.prediction.propagation import Propagation
from onnx_ghn.prediction.scaling import scaled_to, scaled_to_one
from onnx_ghn.prediction.trials import Trial, Trials

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnx_ghn.ghn import Block
    from onnx_ghn.passes import OpenedModel

__all__ = ["Settled", "settle"]

Make = Callable[[], Array]
Key = TypeVar("Key", str, int)

_FAR = 5.0  # an output that is larger or smaller by this factor; on other inputs it may be ten
_FAR_INSIDE = 1e3  # a value within the model
_VANISHED = 100.0  # times smaller than by the author's start, with the predicted and with the standard one
_LARGE = 500.0  # an output by weights that nothing in the file tells the scale of; boxes in pixels are smaller
_TINY = 1e-30
_STATISTICS_BATCH = 32  # samples that batch norms are measured on
_SCALE_BATCH = 8  # samples that show a scale


@dataclasses.dataclass(frozen=True)
class Settled:
    """The tensors to store by name, each made when it is asked for, and notes on what was done.

    Attributes:
        factors: by which the author's weights were multiplied too, by stored name.
    """

    tensors: Mapping[str, Make]
    notes: tuple[str, ...] = ()
    factors: Mapping[str, float] = dataclasses.field(default_factory=dict)


def settle(
    opened: OpenedModel,
    graph: ComputationGraph,
    decisions: Sequence[Decision],
    blocks: Mapping[int, Block],
    options: PredictOptions,
    *,
    unit_scales: bool = False,
) -> Settled:
    """Inject what is predicted into a model, in place, so that it computes something sensible.

    Args:
        blocks: what the GHN decoded, by the index of the parameter.
        unit_scales: scale the author's weights too, so that the outputs of each layer have scale 1 on the inputs that
            there are.

    Raises:
        OptionError: a folder without images. RuntimeFailure: onnxruntime cannot run the model on them. What is drawn,
            which nobody asked for, stops nothing: there the reason becomes a note.
    """
    from onnx_ghn.onnx_io import inject
    from onnx_ghn.onnx_io.copying import copy_model

    model = opened.model
    tensors = tensors_of(decisions, blocks, options)
    if unit_scales:
        try:
            return _set_to_one(opened, graph, decisions, blocks, options)
        except OnnxGhnError as error:
            if options.has_own_inputs:
                raise
            settled = settle(opened, graph, decisions, blocks, options)
            return dataclasses.replace(settled, notes=(*settled.notes, f"no layer is scaled: {error}"))
    if not tensors:  # everything keeps its values, running statistics too
        if not options.has_own_inputs:
            return Settled(tensors)
        check_source(options.calibrate)
        return Settled(
            tensors, (f"{options.calibrate} sets no statistics: no weight changes, and they stay with them",)
        )
    if not options.calibrates:
        if not options.correct_scales:
            inject(model, tensors, opened.stored)
            return Settled(tensors)
        scaled, told, doubt = _estimated(opened, model, decisions, blocks, options)
        if scaled is not decisions:
            tensors = tensors_of(scaled, blocks, options)
            inject(model, tensors)
        return Settled(tensors, (f"{doubt}: nothing was run",) if doubt else tuple(told))
    batch = _STATISTICS_BATCH if n_statistics(graph) else _SCALE_BATCH
    trials = trials_of(graph, options, batch)
    notes = out_of_reach(graph)
    if not options.correct_scales and not n_statistics(graph):
        inject(model, tensors, opened.stored)
        return Settled(tensors, tuple(notes))
    own = copy_model(model)
    try:
        reference = _reference(trials, opened, decisions, blocks, options) if options.correct_scales else None
        inject(model, tensors, opened.stored)
        trial = trials.run(model)
        target = None
        if reference is not None and not (reference.own is None and _is_foreseen(model, trial, reference)):
            target = _target(reference, trial)
        if target is not None:
            decisions, trial, told = _corrected(trials, model, decisions, target, trial)
            tensors = tensors_of(decisions, blocks, options)
            inject(model, tensors)
            notes += told
        if reference is not None and reference.own is None:
            notes += _note_large(trial)
        notes += set_statistics(model, graph, trial.statistics)
    except OnnxGhnError as error:
        if options.has_own_inputs:
            raise
        inject(model, tensors)  # once more, where the run failed: what was stored may have another form by now
        told, doubt = [], ""
        if options.correct_scales:
            before = dataclasses.replace(opened, model=own)
            decisions, told, doubt = _estimated(before, model, decisions, blocks, options)
            tensors = tensors_of(decisions, blocks, options)
            inject(model, tensors)
        if n := n_statistics(graph):
            notes.append(f"{n} running statistics are kept: {error}" + (f"; {doubt}" if doubt else ""))
        elif doubt:
            notes.append(f"{doubt}: {error}")
        notes += told
    return Settled(tensors, tuple(notes))


def _set_to_one(
    opened: OpenedModel,
    graph: ComputationGraph,
    decisions: Sequence[Decision],
    blocks: Mapping[int, Block],
    options: PredictOptions,
) -> Settled:
    """Inject what is predicted, and scale it and what keeps the author's start by the inputs that there are."""
    from onnx_ghn.onnx_io import inject

    inject(opened.model, tensors_of(decisions, blocks, options), opened.stored)
    # Drawn inputs give scales alone, where the model has no batch norms; the user's are all looked at.
    batch = _STATISTICS_BATCH if options.has_own_inputs or n_statistics(graph) else _SCALE_BATCH
    trials = trials_of(graph, options, batch)
    scaled = scaled_to_one(trials, opened.model, decisions, opened.stored)
    tensors = tensors_of(scaled.decisions, blocks, options)
    inject(opened.model, tensors)
    inputs = options.calibrate if options.has_own_inputs else "drawn inputs"
    told = f"{scaled.words}, so that the outputs of each layer have scale 1 on {inputs} (LSUV)"
    told += (
        ": a root mean square of 1, from which such networks train better; `calibrate` none leaves weights as they are"
    )
    statistics = set_statistics(opened.model, graph, scaled.trial.statistics) if n_statistics(graph) else []
    return Settled(tensors, (*([told] if scaled.factors else []), *statistics), scaled.factors)


def _estimated(
    own: OpenedModel,
    model: ir.Model,
    decisions: Sequence[Decision],
    blocks: Mapping[int, Block],
    options: PredictOptions,
) -> tuple[Sequence[Decision], list[str], str]:
    """The decisions with factors, from estimated scales; notes on what was done; where that is nothing, a line on what
    is known.

    Args:
        own: the model with the weights that it had before.
        model: with its predicted weights; where it is that of `own`, these are injected.
    """
    from onnx_ghn.onnx_io import inject

    estimates = Propagation()
    reference = _reference(estimates, own, decisions, blocks, options)
    if own.model is model:
        inject(model, tensors_of(decisions, blocks, options), own.stored)
    trial = estimates.run(model)
    target = _target(reference, trial)
    # Predicted units are alike, so that values are larger than estimates tell, by a factor of 1.6 a layer in a residual
    # net without norms. So estimates make weights smaller, and larger only where by these hardly anything arrives.
    is_larger = target is not None and _is_larger(trial, target)
    if not is_larger and target is not reference.own:
        target = None
    if target is None:
        if estimates.unknown:
            what = ", ".join(sorted(estimates.unknown)[:3])
            return decisions, [], f"the scale of the outputs is not checked, as no rule tells what {what} does to it"
        known = "only estimated" if trial.outputs else "not checked"
        return decisions, [], f"the scale of the outputs is {known}"
    estimates.only_lowers = is_larger
    decisions, _, told = _corrected(estimates, model, decisions, target, trial)
    return decisions, [f"{note} (estimated: nothing was run)" for note in told], ""


@dataclasses.dataclass(frozen=True)
class _Reference:
    """What a prediction is compared with: a run with the weights that the file has, and one with standard ones."""

    own: Trial | None  # None: it has none, or they give nothing to compare with
    standard: Callable[[], Trial]
    estimated: Callable[[], Trial]  # the one with standard weights, without a run


def _reference(
    trials: Trials | Propagation,
    opened: OpenedModel,
    decisions: Sequence[Decision],
    blocks: Mapping[int, Block],
    options: PredictOptions,
) -> _Reference:
    from onnx_ghn.onnx_io import inject
    from onnx_ghn.onnx_io.copying import copy_model

    own = None
    standards = [as_standard(decision) for decision in decisions]
    if holds_weights([decision.parameter for decision in decisions], opened.stored):
        own = trials.run(opened.model)
        if not any(_TINY < scale < math.inf for scale in own.outputs.values()):
            own = None

    def blank() -> ir.Model:
        """Of whatever the model holds by now: all that is predicted is standard in it."""
        model = copy_model(opened.model)
        inject(model, tensors_of(standards, blocks, options))
        return model

    def estimated() -> Trial:
        scales = trials.scales if isinstance(trials, Propagation) else None  # of what both models hold
        return Propagation(_drawn(standards), scales).run(blank())

    def standard() -> Trial:
        return estimated() if isinstance(trials, Propagation) else trials.run(blank())

    return _Reference(own, standard, estimated)


def _drawn(decisions: Sequence[Decision]) -> dict[str, Distribution]:
    """What the tensors are drawn from that are made by their standard initialisation and by nothing else."""
    return {
        maker.stored.name: drawn
        for maker in (decision.maker for decision in decisions)
        if maker is not None and maker.is_plainly_standard
        if (drawn := standard_distribution(maker.parameter)) is not None
    }


def _target(reference: _Reference, trial: Trial) -> Trial | None:
    """The run whose scales the weights are to be brought to; None where the outputs' scale is sensible as it is.

    Outputs that are much larger than those of the file's own weights make a first step that diverges. Much smaller ones
    may only mean that the file was trained: there the standard initialisation decides, unless its outputs are so much
    smaller than the file's that no training explains it, as where layers multiply what they are given by small numbers.
    """
    if reference.own is not None:
        if _is_larger(trial, reference.own):
            return reference.own
        if not _is_larger(reference.own, trial):
            return None
    standard = reference.standard()
    if reference.own is not None and _vanishes(trial, reference.own) and _vanishes(standard, reference.own):
        return reference.own
    return standard if _is_larger(trial, standard) or _is_larger(standard, trial) else None


def _is_foreseen(model: ir.Model, trial: Trial, reference: _Reference) -> bool:
    """Whether estimates tell that the scales are those of standard weights, so that a run with these tells no more.

    An estimate for the weights at hand that is close to what was measured shows that estimates hold for this model; one
    for standard weights that is close to it shows that these give the same scales. Both together lie within the limits
    that a run is held to.
    """
    here, there = Propagation().run(model), reference.estimated()
    return _are_near(_FAR, trial.outputs, here.outputs, there.outputs) and _are_near(
        _FAR_INSIDE, trial.operators, here.operators, there.operators
    )


def _are_near(
    limit: float, measured: Mapping[Key, float], estimated: Mapping[Key, float], standard: Mapping[Key, float]
) -> bool:
    """Whether each measured scale is within the limit of an estimated one for standard weights, by way of one for its
    own.
    """
    step = math.sqrt(limit)
    return all(
        _is_within(step, scale, estimated.get(key)) and _is_within(step, estimated[key], standard.get(key))
        for key, scale in measured.items()
    )


def _is_within(factor: float, scale: float, other: float | None) -> bool:
    """Whether two scales are numbers, and no further apart."""
    return (
        other is not None
        and all(_TINY < each < math.inf for each in (scale, other))
        and max(scale / other, other / scale) <= factor
    )


def _is_larger(trial: Trial, other: Trial) -> bool:
    """Whether an output, or by more some value within the model, is much larger in one run than in another."""
    inside = [(scale, other.operators.get(number)) for number, scale in trial.operators.items()]
    outputs = [(scale, other.outputs.get(name)) for name, scale in trial.outputs.items()]
    return any(
        known is not None and _TINY < known < math.inf and not scale <= limit * known
        for pairs, limit in ((outputs, _FAR), (inside, _FAR_INSIDE))
        for scale, known in pairs
    )


def _vanishes(trial: Trial, other: Trial) -> bool:
    """Whether every output is so much smaller in one run than in another that hardly anything arrives."""
    pairs = [(scale, other.outputs.get(name)) for name, scale in trial.outputs.items()]
    return bool(pairs) and all(known is not None and _VANISHED * scale < known < math.inf for scale, known in pairs)


def _note_large(trial: Trial) -> list[str]:
    """A note on outputs that come out large where the file has no weights to compare with.

    A tool that folded norms, or layer scales near zero, into weights took away what kept a deep network from growing:
    once its weights are stripped, standard ones grow as predicted ones do, and nothing tells that they should not.
    """
    name, scale = max(trial.outputs.items(), key=lambda pair: pair[1], default=("", 0.0))
    if not _LARGE < scale < math.inf:
        return []
    return [
        f"output {name!r} has a scale of {scale:.2g} on drawn inputs, and the file does not tell that of its author: "
        "if norms or small scales were folded into its weights before these were taken out, predict the file from "
        "before that, or the one that holds its weights"
    ]


def _ratio(scale: float, other: float) -> float:
    """How many times larger one of two scales is than the other; 1 where there is nothing to compare with."""
    if not math.isfinite(other) or other <= _TINY:
        return 1.0
    if not math.isfinite(scale) or scale <= _TINY:
        return math.inf
    return max(scale / other, other / scale)


def _apart(trial: Trial, reference: Trial) -> dict[str, float]:
    """How far apart the scales of each output are."""
    common = trial.outputs.keys() & reference.outputs.keys()
    return {name: _ratio(trial.outputs[name], reference.outputs[name]) for name in trial.outputs if name in common}


def _corrected(
    trials: Trials | Propagation, model: ir.Model, decisions: Sequence[Decision], reference: Trial, before: Trial
) -> tuple[list[Decision], Trial, list[str]]:
    """The decisions with a factor for each weight that needs one, a run with these, and what was done."""
    scaled = scaled_to(trials, model, decisions, reference.operators)
    worst = max(_apart(before, reference).values(), default=1.0)
    notes = []
    if scaled.factors:
        notes.append(
            f"{scaled.words}: the outputs' scale was off by a factor of {worst:.2g} from that of the weights to "
            "compare with"
        )
    for name, ratio in ((name, ratio) for name, ratio in _apart(scaled.trial, reference).items() if ratio > _FAR):
        notes.append(
            f"the scale of output {name!r} is off by a factor of {ratio:.2g} from that of the weights to compare with, "
            "and no weight that was filled can mend it: leave out what it depends on with `exclude`"
        )
    return scaled.decisions, scaled.trial, notes
