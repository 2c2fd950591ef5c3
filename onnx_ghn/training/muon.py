"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/): momentum whose updates are made orthogonal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Muon", "orthogonalised"]

_MOMENTUM = 0.95
_ITERATIONS = 5
_COEFFICIENTS = (3.4445, -4.775, 2.0315)  # of the published quintic iteration: steep at 0
_LEAST_NORM = 1e-7
_RMS_OF_ADAMW = 0.2  # of an update of AdamW (Liu et al. 2025, arXiv 2502.16982), so that both take one rate


class Muon(torch.optim.Optimizer):
    """Torch's `optim.Muon` with `match_rms_adamw`, computed in float32 and by the Gram matrix.

    Torch's computes in bfloat16, which a processor without instructions for it emulates, and multiplies the whole
    matrix in each iteration. Its state has the same names, and the updates differ by bfloat16's rounding.

    Args:
        parameters: matrices.
        lr: the learning rate.
        weight_decay: decoupled, as AdamW's.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    # torch's own signature has overloads that no caller of ours needs
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update the parameters that have gradients."""
        if closure is not None:
            raise TypeError("this optimiser takes no `closure`; compute the gradients before the step")
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._update(parameter, parameter.grad, group["lr"], group["weight_decay"])

    def _update(self, parameter: Tensor, gradient: Tensor, lr: float, weight_decay: float) -> None:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        mean = state["momentum_buffer"]
        mean.lerp_(gradient, 1 - _MOMENTUM)
        update = orthogonalised(gradient.lerp(mean, _MOMENTUM))  # Nesterov's
        parameter.mul_(1 - lr * weight_decay)
        parameter.add_(update, alpha=-lr * _RMS_OF_ADAMW * math.sqrt(max(parameter.shape)))


def orthogonalised(matrix: Tensor) -> Tensor:
    """U S V' of a matrix U D V', by five Newton-Schulz iterations: S is about one (0.7 to 1.2) where D is not tiny.

    Each iteration multiplies the matrix by a polynomial of its Gram matrix over the shorter axis. These commute: their
    product is found among the small matrices, and the large one is read twice.

    Args:
        matrix: m × n.

    Returns:
        m × n, float32.
    """
    matrix = matrix.float()
    matrix = matrix / matrix.norm().clamp(min=_LEAST_NORM)
    is_tall = matrix.shape[0] > matrix.shape[1]
    gram = matrix.T @ matrix if is_tall else matrix @ matrix.T  # k × k
    identity = torch.eye(len(gram), device=gram.device)
    product = identity
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        factor = a * identity + torch.addmm(gram, gram, gram, beta=b, alpha=c)
        product = product @ factor
        gram = factor @ gram @ factor
    return matrix @ product if is_tall else product @ matrix
