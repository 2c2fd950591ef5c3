"""The three rule sets by which a graph is drawn: as PPUDA drew it, as GHN-3 drew it, and ours.

The published systems read autograd's graph of a PyTorch module; a rule here is the structural reading of what
their code does there (facebookresearch/ppuda, ppuda/deepnets1m/graph.py; SamsungSAILMontreal/ghn3, ghn3/graph.py).
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from onnx_ghn.errors import OptionError

__all__ = ["RULES", "GraphRules", "graph_rules"]


@dataclasses.dataclass(frozen=True)
class GraphRules:
    """A table of predicates on one builder.

    Attributes:
        name: ppuda, ghn3 or onnx.
        gate: which gating product is a cse node. "viewed_hard": the gate is a view of a hard activation
            (PPUDA looks two autograd nodes back for Hardswish or Hardsigmoid, so that exactly one view stands
            between); "sigmoid": a sigmoid, hard or not, stands right before (GHN-3); "squeezed": the gate is
            computed from a mean of what it gates, whatever the activation (squeeze-and-excitation proper).
        mean: which mean is a glob_avg node. "keepdims": one that keeps its dimensions (PPUDA);
            "head_if_gated": any, but in a net with gates only the one before the classifier (GHN-3);
            "spatial": one over spatial axes that is not part of a squeeze-and-excitation gate.
        fused_attention: whether attention that PyTorch computes in one fused operator gets an msa node; there is no
            Softmax in autograd's graph of it, so the published graphs have none.
        mean_before_head: a mean that ends the net right after a convolutional classifier (SqueezeNet) is drawn before
            that classifier (GHN-3), so that the classifier's weight and bias are the last two nodes.
    """

    name: str
    gate: Literal["viewed_hard", "sigmoid", "squeezed"]
    mean: Literal["keepdims", "head_if_gated", "spatial"]
    fused_attention: bool
    mean_before_head: bool


RULES = {
    rules.name: rules
    for rules in (
        GraphRules("ppuda", gate="viewed_hard", mean="keepdims", fused_attention=False, mean_before_head=False),
        GraphRules("ghn3", gate="sigmoid", mean="head_if_gated", fused_attention=False, mean_before_head=True),
        GraphRules("onnx", gate="squeezed", mean="spatial", fused_attention=True, mean_before_head=True),
    )
}


def graph_rules(name: str) -> GraphRules:
    """The rule set of that name. Raises OptionError where there is none."""
    try:
        return RULES[name]
    except KeyError:
        raise OptionError(f"no graph rules {name!r}; there are {', '.join(RULES)}") from None
