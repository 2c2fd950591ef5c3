"""Whether predicted weights make the features of different inputs alike, where the author's start tells them apart.

What a network cannot tell apart before its last layer it learns slowly. Which loss of difference goes with a worse end
was measured by `benchmarks/collapse.py` on the networks of the race.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from onnx_ghn.graph import ComputationGraph
from onnx_ghn.prediction.authors import holds_weights
from onnx_ghn.prediction.calibration import trials_of
from onnx_ghn.prediction.choosing import Choice
from onnx_ghn.prediction.filling import tensors_of
from onnx_ghn.prediction.options import PredictOptions
from onnx_ghn.prediction.plan import Decision, plan
from onnx_ghn.prediction.policy import Verdict
from onnx_ghn.prediction.scaling import scaled_to_one

if TYPE_CHECKING:
    from onnx_ghn.ghn import Block
    from onnx_ghn.passes import OpenedModel

__all__ = ["LEAST_DIFFERENCE", "guarded", "is_collapse"]

#: What is to be left of 1 - cosine between the features of different inputs, as a share of that of the author's start.
LEAST_DIFFERENCE = 0.6

#: Differences, 1 - cosine, below which rounding in float32 is what is measured: of samples that are one and the same.
_LEAST_MEASURED = 1e-5

_SAMPLES = 8


def is_collapse(likeness: float, own: float) -> bool:
    """Whether features are alike by more than the author's start makes them.

    Args:
        likeness: the mean cosine between the features of different inputs, -1 to 1; nan where it is not known.
        own: that of the author's start; where it tells nothing apart either, nothing can be lost.
    """
    return 1 - own > _LEAST_MEASURED and 1 - likeness < LEAST_DIFFERENCE * (1 - own)


def guarded(
    opened: OpenedModel,
    graph: ComputationGraph,
    choice: Choice,
    decisions: list[Decision],
    blocks: Mapping[int, Block],
    options: PredictOptions,
) -> tuple[Choice, list[Decision]]:
    """A choice and its decisions; where features collapse by them, those that keep the author's start.

    Only what a policy chose is looked at, and only where the user gives inputs. What is asked for by its name stays.

    Args:
        blocks: what the GHN decoded, by the index of the parameter.

    Raises:
        OptionError: a folder without images. RuntimeFailure: onnxruntime cannot run the model on the inputs.
    """
    is_chosen = choice.name != "all" and not options.include
    if not (is_chosen and options.has_own_inputs and any(each.outcome == "predicted" for each in decisions)):
        return choice, decisions

    def kept(why: str) -> Choice:
        return dataclasses.replace(choice, verdicts=[Verdict(False, why)] * len(graph.parameters), told=why)

    instead = plan(graph, opened.stored, options, (), kept("").verdicts)
    told = _collapse(opened, graph, decisions, instead, blocks, options, unit_scales=choice.unit_scales)
    if not told:
        return choice, decisions
    return kept(told), plan(graph, opened.stored, options, (), kept(told).verdicts)


def _collapse(
    opened: OpenedModel,
    graph: ComputationGraph,
    decisions: Sequence[Decision],
    instead: Sequence[Decision],
    blocks: Mapping[int, Block],
    options: PredictOptions,
    *,
    unit_scales: bool,
) -> str:
    """Why the author's start is to be kept, for people; empty where it is not, or where nothing can be compared.

    Nothing is changed: both sets of weights are run in copies of the model, on the first of the user's inputs, each
    with the factors that it would be written with.

    Args:
        instead: the decisions where the author's start is kept.
        blocks: what the GHN decoded, by the index of the parameter.
        unit_scales: whether layers are scaled to outputs of scale 1. Beside biases that stay, and in branches, a factor
            changes what comes out by more than its scale.
    """
    from onnx_ghn.onnx_io import inject
    from onnx_ghn.onnx_io.copying import copy_model

    trials = trials_of(graph, options, _SAMPLES)

    def likeness_of(chosen: Sequence[Decision]) -> float:
        model = copy_model(opened.model)
        inject(model, tensors_of(chosen, blocks, options))
        if unit_scales:
            scaled = scaled_to_one(trials, model, chosen, opened.stored).decisions
            inject(model, tensors_of(scaled, blocks, options))
        return trials.run(model, likeness=True).likeness

    likeness, own = likeness_of(decisions), likeness_of(instead)
    if not is_collapse(likeness, own):
        return ""
    digits = max(3, 1 - math.floor(math.log10(1 - own)))  # as many as show that the two are apart
    has_weights = holds_weights([decision.parameter for decision in decisions], opened.stored)
    whose = "by its own start" if has_weights else "by a standard start"
    return (
        f"on {options.calibrate} predicted weights make features before the last layer alike: their mean cosine is "
        f"{likeness:.{digits}f}, {own:.{digits}f} {whose}"
    )
