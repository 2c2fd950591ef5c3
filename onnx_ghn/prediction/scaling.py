"""Weights multiplied by one number each, so that their operators' outputs have given scales."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from onnx_ghn.graph import Role
from onnx_ghn.prediction.authors import authors_start
from onnx_ghn.prediction.making import Maker
from onnx_ghn.prediction.plan import Decision
from onnx_ghn.prediction.trials import Trial

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnx_ghn.onnx_io import StoredTensor
    from onnx_ghn.prediction.propagation import Propagation
    from onnx_ghn.prediction.trials import Trials

__all__ = ["Scaled", "scaled_to", "scaled_to_one"]

_MENDED = 2.0  # a scale that is within this factor of another is left as it is
_SET = 1.05  # likewise, where it is set rather than mended
_ON_PURPOSE = 30.0  # a scale that is further from 1: its author began the layer near zero (BEiT's head), or far from it


@dataclasses.dataclass(frozen=True)
class Scaled:
    """What scaling gave.

    Attributes:
        decisions: with a factor for each weight that needs one.
        trial: a run with these.
        factors: other than 1, by the stored name of the tensor.
    """

    decisions: list[Decision]
    trial: Trial
    factors: Mapping[str, float]

    @property
    def words(self) -> str:
        """How many tensors are scaled, by what, for people."""
        least, most = (f"{each(self.factors.values(), default=1.0):.2g}" for each in (min, max))
        told = "1 tensor is scaled" if len(self.factors) == 1 else f"{len(self.factors)} tensors are scaled"
        return f"{told}, by {least if least == most else f'{least} to {most}'}"


def scaled_to(
    trials: Trials | Propagation,
    model: ir.Model,
    decisions: Sequence[Decision],
    targets: Mapping[int, float] | None,
    close: float = _MENDED,
    most: float = math.inf,
) -> Scaled:
    """Scale what is filled, from the inputs on.

    Args:
        model: which holds what is filled: that of the decisions, or a copy.
        targets: root mean squares of the outputs by the number of the operator, see `passes.output_scales`; None: 1
            for each layer.
        close: outputs within this factor of their target stay.
        most: outputs further from their target than this factor stay, too.
    """
    from onnx_ghn.passes.output_scales import CorrectScales

    makers = [decision.maker for decision in decisions if decision.maker is not None]
    tied = {each.stored.name for maker in makers if maker.original is not None for each in (maker, maker.original)}
    normalised = [each for maker in makers for each in (maker.magnitude, maker.decomposed) if each is not None]
    tied |= {maker.stored.name for maker in normalised}  # their scales have no effect
    scalable = {
        maker.stored.value.name or "": maker.stored.name
        for maker in makers
        if maker.stored.site.is_main and maker.stored.name not in tied
    }
    trial = trials.run(model, CorrectScales(targets, scalable, close, most))
    factors = {scalable[name]: factor for name, factor in trial.factors.items() if factor not in (0.0, 1.0)}
    factors = {name: factor for name, factor in factors.items() if math.isfinite(factor)}
    return Scaled([_scaled(each, factors.get(each.parameter.name, 1.0)) for each in decisions], trial, factors)


def scaled_to_one(
    trials: Trials, model: ir.Model, decisions: Sequence[Decision], stored: Mapping[str, StoredTensor]
) -> Scaled:
    """Scale each layer's weights, those that keep the author's start too, so that its outputs have scale 1.

    After LSUV (Mishkin & Matas 2016, arXiv 1511.06422), without its orthonormal weights. Tables that are looked up in
    stay as they are, and so does what the author chose on purpose: constant biases, fixed filters, layers far from 1.
    """
    return scaled_to(trials, model, [_own(each, stored) for each in decisions], None, _SET, _ON_PURPOSE)


def _own(decision: Decision, stored: Mapping[str, StoredTensor]) -> Decision:
    """With a maker of a tensor's own values, where the policy keeps a weight or a bias."""
    from onnx_ghn.onnx_io.common_value import common_value

    parameter = decision.parameter
    is_plain = parameter.role in (Role.weight, Role.bias) and "float" in parameter.dtype and not parameter.kept
    if not decision.by_policy or decision.maker is not None or not is_plain:
        return decision
    tensor = stored[parameter.name]
    if authors_start(parameter, tensor) or common_value(tensor) == 0:  # zeros stay zeros, whatever multiplies them
        return decision
    return dataclasses.replace(decision, maker=Maker("own", parameter, None, tensor))


def _scaled(decision: Decision, factor: float) -> Decision:
    if factor == 1 or decision.maker is None:
        return decision
    return dataclasses.replace(decision, maker=dataclasses.replace(decision.maker, factor=factor))
