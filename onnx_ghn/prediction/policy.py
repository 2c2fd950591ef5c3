"""Which tensors take a GHN's weights, and which keep their start: data beside a checkpoint, measured by a race.

A policy.json lists, for each mode, rules in order, and which models get layers of scale 1 (LSUV), where the user gives
data or by drawn inputs too. A rule holds for a tensor where all its conditions on the model and on the tensor hold (see
`ModelFeatures` and `TensorFeatures` for the names); the first that holds decides, and a tensor that no rule speaks of
keeps its start. A condition is a list of values, or least and most for a number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from onnx_ghn.errors import CheckpointError
from onnx_ghn.json_types import JsonView
from onnx_ghn.prediction.features import ModelFeatures, TensorFeatures
from onnx_ghn.prediction.options import POST_STRENGTHS, PolicyName, Post
from onnx_ghn.reading import read_json

__all__ = ["Policy", "Rule", "Verdict", "read_policy"]

_MEASURED: tuple[PolicyName, ...] = ("auto", "early")  # the modes that a file has rules for
_MAX_BYTES = 2**20
_BOUNDS = {"least", "most"}
_PARTS = {"model", "tensor", "take", "why", "post", "drawn", "modes"}  # of a rule


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a tensor takes the GHN's weights, and why."""

    take: bool
    why: str = ""
    post: Post = "none"  # how copies in it are told apart, unless the user says how
    standard: bool = True  # whether it gets a standard start in the place of its own where no GHN predicts it


@dataclasses.dataclass(frozen=True)
class Rule:
    """A rule of a policy.

    Attributes:
        model, tensor: conditions by the name of a feature.
        take: whether the tensor takes the GHN's weights.
        why: for people.
        post: how copies in the tensor are told apart, see `PredictOptions.post`.
        drawn: of a rule on unit scales: it holds where nothing is predicted, and inputs that are drawn do.
        modes: of a rule on unit scales: those in which it holds; () for all.

    Raises:
        CheckpointError: a feature that does not exist, or a condition that is none.
    """

    model: Mapping[str, object]
    tensor: Mapping[str, object]
    take: bool
    why: str
    post: Post = "none"
    drawn: bool = False
    modes: Sequence[str] = ()

    def __post_init__(self) -> None:
        for kind, conditions in ((ModelFeatures, self.model), (TensorFeatures, self.tensor)):
            known = {field.name: field.type for field in dataclasses.fields(kind)}
            for name, condition in conditions.items():
                if name not in known:
                    raise CheckpointError(f"no feature {name!r}; there are {', '.join(sorted(known))}")
                _check_condition(name, condition, known[name] in ("int", "float"))

    def holds(self, model: ModelFeatures, tensor: TensorFeatures) -> bool:
        """Whether all its conditions hold."""
        return all(_holds(getattr(model, name), condition) for name, condition in self.model.items()) and all(
            _holds(getattr(tensor, name), condition) for name, condition in self.tensor.items()
        )


@dataclasses.dataclass(frozen=True)
class Policy:
    """What of a GHN's predictions pays.

    Attributes:
        knows: what the GHN was trained on, for people: "image classifiers".
        rules: by the mode that they belong to.
        unit_scales: rules that hold for the models whose layers' outputs are scaled to 1.
    """

    knows: str
    rules: Mapping[str, Sequence[Rule]]
    unit_scales: Sequence[Rule] = ()

    def scaling_rule(self, mode: PolicyName, model: ModelFeatures, *, own_inputs: bool, predicts: bool) -> Rule | None:
        """The rule by which layers are scaled in a mode; None where they are not.

        Args:
            own_inputs: whether the user gives inputs to scale them by.
            predicts: whether a tensor takes the GHN's weights.
        """
        for rule in self.unit_scales:
            applies = (not predicts if rule.drawn else own_inputs) and (not rule.modes or mode in rule.modes)
            if applies and rule.holds(model, TensorFeatures("other")):
                return rule
        return None

    def verdicts(
        self, mode: PolicyName, model: ModelFeatures, tensors: Sequence[TensorFeatures], otherwise: str
    ) -> list[Verdict]:
        """On each tensor, by the first rule of a mode that holds for it.

        Args:
            otherwise: why a tensor keeps its start that no rule speaks of, for people.
        """
        verdicts = []
        for tensor in tensors:
            rule = next((rule for rule in self.rules[mode] if rule.holds(model, tensor)), None)
            # By `auto` a start gives way to what was measured to be better, and standard weights were not.
            verdicts.append(
                Verdict(False, otherwise)
                if rule is None
                else Verdict(rule.take, rule.why, rule.post, standard=mode != "auto")
            )
        return verdicts


def read_policy(path: Path) -> Policy:
    """The policy of a file. Raises CheckpointError: it is damaged, or no policy."""
    values = read_json(path, _MAX_BYTES, "policy")
    try:
        return _policy_of(values)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}; mend it or delete it: without one, everything is predicted") from error


def _policy_of(values: object) -> Policy:
    if not isinstance(values, Mapping) or not isinstance(values.get("knows"), str):
        raise CheckpointError("no policy")
    modes = values.get("rules")
    if not isinstance(modes, Mapping) or set(modes) != set(_MEASURED):
        raise CheckpointError(f"rules must have the modes {', '.join(_MEASURED)}")
    rules: dict[str, list[Rule]] = {mode: [_rule_of(rule) for rule in _listed(modes[mode])] for mode in _MEASURED}
    return Policy(values["knows"], rules, [_rule_of(rule) for rule in _listed(values.get("unit_scales", []))])


def _listed(rules: object) -> Sequence[object]:
    if not isinstance(rules, list):
        raise CheckpointError("the rules of a mode, or of unit_scales, are no list")
    return rules


def _rule_of(values: object) -> Rule:
    if not isinstance(values, Mapping) or not set(values) <= _PARTS:
        raise CheckpointError("a rule has a model, a tensor, take, why, post, drawn and modes")
    model, tensor = values.get("model", {}), values.get("tensor", {})
    take, why, drawn = values.get("take"), values.get("why", ""), values.get("drawn", False)
    if not (isinstance(model, Mapping) and isinstance(tensor, Mapping)):
        raise CheckpointError("the conditions of a rule are no object")
    if not (isinstance(take, bool) and isinstance(drawn, bool) and isinstance(why, str)):
        raise CheckpointError("a rule's take and drawn are true or false, and its why is a text")
    post = values.get("post", "none")
    if post not in list(POST_STRENGTHS):  # a list, as what is asked for need not be hashable
        raise CheckpointError(f"a rule's post is one of {', '.join(POST_STRENGTHS)}")
    modes = values.get("modes", [])
    if not isinstance(modes, list) or not all(mode in _MEASURED for mode in modes):
        raise CheckpointError(f"a rule's modes are a list of {', '.join(_MEASURED)}")
    return Rule(model, tensor, take, why, post, drawn, modes)


def _check_condition(name: str, condition: object, is_number: bool) -> None:
    if isinstance(condition, list) and condition:
        return
    bounds = isinstance(condition, Mapping) and condition and set(condition) <= _BOUNDS
    if not (bounds and all(_is_number(bound) for bound in _bounds(condition).values())):
        raise CheckpointError(f"the condition on {name!r} is neither a list of values nor least and most")
    if not is_number:
        raise CheckpointError(f"{name!r} is no number: its condition is a list of values")


def _bounds(condition: object) -> JsonView:
    return condition if isinstance(condition, Mapping) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _holds(value: object, condition: object) -> bool:
    if isinstance(condition, list):
        return value in condition
    bounds = _bounds(condition)
    assert isinstance(value, int | float)
    return bool(bounds.get("least", value) <= value <= bounds.get("most", value))
