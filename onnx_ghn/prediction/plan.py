"""What becomes of each tensor, and why: the one place where that is decided."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from onnx_ghn.graph import ComputationGraph, Parameter, Role
from onnx_ghn.json_types import Json
from onnx_ghn.prediction.authors import authors_start, holds_weights
from onnx_ghn.prediction.draws import Draws
from onnx_ghn.prediction.fallback import has_standard
from onnx_ghn.prediction.making import Maker, Source
from onnx_ghn.prediction.options import PredictOptions
from onnx_ghn.prediction.origins import Origin
from onnx_ghn.prediction.policy import Verdict
from onnx_ghn.prediction.quantization import quantization_of
from onnx_ghn.prediction.stored_zeros import stored_zero
from onnx_ghn.prediction.ties import Tie, find_ties

if TYPE_CHECKING:
    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["OUTCOMES", "Decision", "Outcome", "constants_of", "plan", "uncertain_of"]

Outcome = Literal["predicted", "inherited", "fallback", "kept", "statistic", "frozen", "constant"]
OUTCOMES: tuple[Outcome, ...] = ("predicted", "inherited", "fallback", "kept", "statistic", "frozen", "constant")


@dataclasses.dataclass(frozen=True, eq=False)
class Decision:
    """One tensor: predicted by the GHN, inherited from a donor, given a standard initialisation, kept as it was, a
    running statistic, frozen (a layer that the exported model does not train), or a constant, which nobody trains.
    """

    parameter: Parameter
    outcome: Outcome
    reason: str = ""
    maker: Maker | None = dataclasses.field(default=None, repr=False)  # of its new values; None: it keeps its own
    origin: Origin | None = None  # of one that is inherited
    by_policy: bool = False  # a parameter that keeps its values because the policy says so
    factor: float = 1.0  # by which all elements of its own start, or of a standard one, are multiplied

    def to_dict(self) -> Json:
        """For JSON."""
        parameter = self.parameter
        return {
            "name": parameter.name,
            "role": parameter.role.value,
            "shape": list(parameter.shape),
            "n_elements": parameter.size,
            "dtype": parameter.dtype,
            "storage": parameter.storage,
            "op": parameter.op,
            "outcome": self.outcome,
            "reason": self.reason,
            **({"factor": self.factor} if self.factor != 1 else {}),
            **({"origin": self.origin.to_dict()} if self.origin is not None else {}),
        }


def plan(
    graph: ComputationGraph,
    stored: Mapping[str, StoredTensor],
    options: PredictOptions,
    decoded: Collection[int] | None = None,
    verdicts: Sequence[Verdict] | None = None,
    origins: Mapping[str, Origin] | None = None,
) -> list[Decision]:
    """Decide on each parameter of a graph, in its order. Nothing is computed and nothing is changed.

    Args:
        stored: the tensors of the model that the graph was read from.
        decoded: indices of the parameters that the GHN decodes; None: all that a node of the graph decodes.
        verdicts: of the policy, on each parameter; None: all are predicted.
        origins: of the parameters that a donor has a counterpart of, by name.
    """
    if decoded is None:
        decoded = graph.decoded_parameters()
    holds = holds_weights(graph.parameters, stored)
    # Half a norm is none: where its statistics stay, so do its scale and its shift. Without weights none is whole.
    whole = {n: norm.obstacle for norm in graph.norms if norm.obstacle for n in norm.names} if holds else {}
    ties = find_ties(graph.parameters, stored) if holds else {}
    decisions = []
    for index, parameter in enumerate(graph.parameters):
        verdict = _verdict(ties[index].original if index in ties else index, parameter, options, verdicts)
        if verdict.take:
            obstacle = whole.get(parameter.name, "")
            decision = _decide(parameter, stored, options, index if index in decoded else None, holds, obstacle)
            if decision.outcome == "fallback" and holds and not verdict.standard:
                decision = Decision(parameter, "kept", f"its own start: {decision.reason}", by_policy=True)
            if decision.maker is not None and verdict.post != "none":
                decision = dataclasses.replace(decision, maker=dataclasses.replace(decision.maker, post=verdict.post))
        else:
            decision = _left(parameter, stored, options, verdict.why, holds)
        if origins is not None and parameter.name in origins and not parameter.frozen:
            decoded_as = index if index in decoded else None
            decision = _inherited(decision, origins[parameter.name], stored, options, decoded_as) or decision
        decisions.append(decision)
    for index, tie in ties.items():
        decisions[index] = _tied(decisions[index], decisions[tie.original], tie)
    decisions = _with_biases(decisions, stored)
    by_name = {decision.parameter.name: decision for decision in decisions}
    decisions = [_as_magnitude(d, by_name.get(d.parameter.magnitude_of), stored, options) for d in decisions]
    decisions = [_as_singular(d, by_name, stored) for d in decisions]
    draws = Draws()
    return [d if d.maker is None else dataclasses.replace(d, maker=d.maker.sharing(draws)) for d in decisions]


def _with_biases(decisions: list[Decision], stored: Mapping[str, StoredTensor]) -> list[Decision]:
    """Quantised biases that stay are stored anew where the scale of their layer's weight changes."""
    makers = [decision.maker for decision in decisions if decision.maker is not None]
    changed = {maker.quantization.scale.name for maker in makers if maker.quantization is not None}
    found = []
    for decision in decisions:
        parameter = decision.parameter
        if changed and decision.maker is None and parameter.scale_name is not None:
            quantization = quantization_of(stored, parameter)
            bias = None if isinstance(quantization, str) else quantization.bias
            if not isinstance(quantization, str) and bias is not None and bias.weight.name in changed:
                maker = Maker("own", parameter, None, stored[parameter.name], quantization)
                reason = f"{decision.reason}; stored by the new scale of its layer's weight"
                decision = dataclasses.replace(decision, reason=reason, maker=maker)
        found.append(decision)
    return found


def _inherited(
    usual: Decision,
    origin: Origin,
    stored: Mapping[str, StoredTensor],
    options: PredictOptions,
    decoded_as: int | None,
) -> Decision | None:
    """The decision on a parameter that a donor has a counterpart of; None where it is not to be filled.

    Args:
        usual: what becomes of it without a donor, which holds for rows that the donor has not.
    """
    parameter = usual.parameter
    if not options.wants(parameter.name) or stored[parameter.name].is_sparse:
        return None
    quantization = quantization_of(stored, parameter) if parameter.scale_name is not None else None
    if isinstance(quantization, str):
        return Decision(parameter, "kept", quantization)
    rest: Maker | None = None
    if origin.rest is not None:
        if quantization is not None:
            return None  # the rows that the donor has not have scales of their own
        rest = usual.maker or Maker("own", parameter, None, stored[parameter.name])
    maker = Maker(
        "donor",
        parameter,
        decoded_as,
        stored[parameter.name],
        quantization,
        given=origin.values,
        blend=options.blend,
        rest=rest,
        rest_rows=origin.rest,
    )
    outcome: Outcome = "statistic" if parameter.role is Role.statistic else "inherited"
    return Decision(parameter, outcome, origin.reason, maker, origin)


def uncertain_of(graph: ComputationGraph) -> list[Decision]:
    """The decisions on what may be learned, or a constant: each stays."""
    return [Decision(row, "kept", f"may be learned, or a constant: {row.reason}") for row in graph.uncertain]


def constants_of(graph: ComputationGraph) -> list[Decision]:
    """The decisions on the tensors of a model that are no parameters: each stays, for the reason that its row gives."""
    return [Decision(row, "constant", row.reason) for row in graph.constants]


def _as_magnitude(
    decision: Decision, direction: Decision | None, stored: Mapping[str, StoredTensor], options: PredictOptions
) -> Decision:
    """The decision on the norms of a weight: they are those of what the weight gets, so that the layer gets that."""
    parameter = decision.parameter
    if direction is None or parameter.frozen or not options.wants(parameter.name):
        return decision
    origin = decision.origin
    if origin is not None and (not origin.is_copy or (_is_copied(direction) and _is_copied(decision))):
        return decision  # the donor's, which training has moved away from the weight's, or those of a new branch
    if direction.maker is None:
        return Decision(parameter, "kept", f"as {direction.parameter.name}, whose norms it holds")
    maker = Maker("standard", parameter, None, stored[parameter.name], magnitude=direction.maker)
    return Decision(parameter, direction.outcome, f"the norms of {direction.parameter.name}", maker)


def _as_singular(decision: Decision, by_name: Mapping[str, Decision], stored: Mapping[str, StoredTensor]) -> Decision:
    """The decision on a singular vector of a weight: it goes with what the weight gets."""
    parameter = decision.parameter
    of = by_name.get(parameter.singular.weight) if parameter.singular is not None else None
    if of is None:
        return decision
    if of.maker is None:
        return Decision(parameter, "statistic", f"as {of.parameter.name}, whose singular vector it is")
    if decision.maker is not None and _is_copied(of) and _is_copied(decision):
        return decision
    maker = Maker("standard", parameter, None, stored[parameter.name], decomposed=of.maker)
    return Decision(parameter, "statistic", f"a singular vector of {of.parameter.name}", maker)


def _is_copied(decision: Decision) -> bool:
    """Whether a tensor is one of a donor, as that is."""
    origin, maker = decision.origin, decision.maker
    return origin is not None and origin.is_copy and maker is not None and not maker.blend


def _tied(decision: Decision, original: Decision, tie: Tie) -> Decision:
    """The decision on a tensor that repeats another one, which is filled as that one is."""
    if decision.maker is None:
        return decision
    what = "the transpose of" if tie.transposed else "equal to"
    if original.maker is None:  # one that got other values would be tied no more
        reason = f"tied: {what} {original.parameter.name}, which is kept"
        return Decision(decision.parameter, "kept", reason, by_policy=original.by_policy)
    maker = dataclasses.replace(decision.maker, original=original.maker, transposed=tie.transposed)
    return dataclasses.replace(
        decision, outcome=original.outcome, reason=f"tied: {what} {original.parameter.name}", maker=maker
    )


def _verdict(index: int, parameter: Parameter, options: PredictOptions, verdicts: Sequence[Verdict] | None) -> Verdict:
    """Of the policy; what the user asks for by its name is predicted whatever the policy says."""
    if verdicts is None or (options.include and options.wants(parameter.name)):
        return Verdict(True)
    return verdicts[index]


def _left(
    parameter: Parameter, stored: Mapping[str, StoredTensor], options: PredictOptions, why: str, holds: bool
) -> Decision:
    """The decision on a parameter that the policy leaves alone: its own values, or standard ones where it has none.

    Args:
        holds: whether the file holds weights.
    """
    decision = _decide(parameter, stored, options, None, None, "")
    if decision.outcome in ("statistic", "frozen") or not options.wants(parameter.name):
        return decision
    if not holds and (choice := _chosen(parameter, stored, options, holds)):
        return Decision(parameter, "kept", f"the author's start: {choice}")
    if holds or decision.maker is None:
        return Decision(parameter, "kept", f"its own start: {why}", by_policy=True)
    return dataclasses.replace(decision, reason=f"a standard start: {why}")


def _decide(
    parameter: Parameter,
    stored: Mapping[str, StoredTensor],
    options: PredictOptions,
    decoded_as: int | None,
    holds: bool | None,
    obstacle: str,
) -> Decision:
    """The decision on one parameter; what its author chose on purpose stays.

    Args:
        holds: whether the file holds weights; None: its values do not matter.
    """
    if parameter.frozen:  # statistics of a norm that is frozen, too
        return Decision(parameter, "frozen", parameter.reason)
    if parameter.role is Role.statistic:
        return Decision(parameter, "statistic", parameter.reason)
    if not options.wants(parameter.name):
        return Decision(parameter, "kept", "left out by the patterns to include and exclude")
    if stored[parameter.name].is_sparse:
        return Decision(parameter, "kept", "it is stored as a sparse tensor, which is carried as it is")
    if obstacle and options.calibrates:
        return Decision(parameter, "kept", f"as the running statistics of its norm: {obstacle}")
    if holds is not None and (choice := _chosen(parameter, stored, options, holds)):
        return Decision(parameter, "kept", f"the author's start: {choice}")
    if decoded_as is not None:
        outcome: Outcome = "predicted"
        reason = ""
        source: Source = "ghn"
    else:
        reason = parameter.reason or "no node decodes it"
        if options.fallback == "keep" or not has_standard(parameter):
            return Decision(parameter, "kept", reason)
        outcome, source = "fallback", "standard"
    quantization = quantization_of(stored, parameter) if parameter.scale_name is not None else None
    if isinstance(quantization, str):
        return Decision(parameter, "kept", quantization)
    is_read = holds and not options.overwrite_special
    zero = stored_zero(parameter, stored[parameter.name], quantization) if is_read else None
    maker = Maker(source, parameter, decoded_as, stored[parameter.name], quantization, zero=zero)
    return Decision(parameter, outcome, reason, maker)


def _chosen(parameter: Parameter, stored: Mapping[str, StoredTensor], options: PredictOptions, holds: bool) -> str:
    """Why the author of the file chose the values of a parameter; empty where nobody did, or the user does not mind."""
    return "" if options.overwrite_special else authors_start(parameter, stored[parameter.name], holds=holds)
