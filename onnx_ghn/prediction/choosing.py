"""Which tensors of a model take the GHN's weights: the policy asked for, applied to the model at hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_ghn.graph import ComputationGraph
from onnx_ghn.json_types import Json
from onnx_ghn.prediction.features import model_features, tensor_features
from onnx_ghn.prediction.options import PolicyName, PredictOptions
from onnx_ghn.prediction.policy import Policy, Verdict, read_policy

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["Choice", "choose"]

_ALL = Verdict(True)


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a policy makes of a model.

    Attributes:
        name: the policy that applies: the one asked for, or `all` where the GHN comes with none.
        verdicts: on each parameter of the graph, in their order.
        told: why not everything is predicted, or, where nobody has measured what pays, why everything is; of a trained
            file of which everything is, that what it had learned is replaced.
        unit_scales: whether layers are scaled to outputs of scale 1 on the inputs that there are.
        is_foreign: whether the GHN has no weights that pay in a model of this kind.
    """

    name: PolicyName
    verdicts: Sequence[Verdict]
    told: str = ""
    unit_scales: bool = False
    is_foreign: bool = False

    def to_dict(self) -> Json:
        """For JSON."""
        return {"name": self.name, "why": self.told}


def choose(
    options: PredictOptions,
    policy_file: Path | None,
    ghn_name: str,
    model: ir.Model,
    graph: ComputationGraph,
    stored: Mapping[str, StoredTensor],
) -> Choice:
    """Apply a policy.

    Args:
        options: which policy is asked for, and what inputs there are.
        policy_file: beside the GHN's weights; None or absent: nobody has measured what pays, and all is predicted.
        ghn_name: for people.
        stored: the tensors of the model, before anything is predicted.

    Raises:
        CheckpointError: the file is damaged.
    """
    name = options.policy
    if name == "all":
        sign = model_features(model, graph, stored).sign_of_training
        told = f"what it had learned is replaced: it looks trained, as {sign}" if sign else ""
        return Choice(name, [_ALL] * len(graph.parameters), told)
    if name == "none":
        return Choice(name, [Verdict(False, "the policy none")] * len(graph.parameters), "the policy is none")
    if policy_file is None or not policy_file.is_file():
        return Choice("all", [_ALL] * len(graph.parameters), f"{ghn_name} comes without a policy")
    policy: Policy = read_policy(policy_file)
    features = model_features(model, graph, stored)
    if features.sign_of_training:
        told = f"the file looks trained, as {features.sign_of_training}"
        return Choice(name, [Verdict(False, told)] * len(graph.parameters), told)
    told = f"this is {features.words} and {ghn_name} knows {policy.knows}"
    verdicts = policy.verdicts(name, features, tensor_features(graph), told)
    reasons = dict.fromkeys(verdict.why for verdict in verdicts if verdict.take)
    rule = policy.scaling_rule(name, features, own_inputs=options.has_own_inputs, predicts=bool(reasons))
    instead = ""  # of the kind of model, which is no reason where something is done for it
    if reasons:
        instead = f"the policy {name} predicts {', '.join(reasons)} alone"
    elif rule is not None:
        instead = f"the policy {name} predicts nothing of {rule.why}"
    if instead:
        verdicts = [dataclasses.replace(v, why=instead) if not v.take and v.why == told else v for v in verdicts]
    verdicts = _without_parts(verdicts, graph)
    why = ", ".join(reasons) or instead or told
    return Choice(name, verdicts, why, rule is not None and options.calibrates, is_foreign=not reasons)


def _without_parts(verdicts: list[Verdict], graph: ComputationGraph) -> list[Verdict]:
    """The verdicts, but for weights that a model joins or adds up of several (quaternions): a GHN decodes the first
    alone, and beside others of another scale it is worse than the start that its author balanced.
    """
    firsts = {parameter.part_beside for parameter in graph.parameters} - {""}
    why = "a part of a weight that is made of several"
    return [
        Verdict(False, why) if verdict.take and (parameter.part_beside or parameter.name in firsts) else verdict
        for verdict, parameter in zip(verdicts, graph.parameters, strict=True)
    ]
