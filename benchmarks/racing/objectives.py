"""What a task trains for, and the percentage that it is judged by. More is better in all of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from racing.boxes import average_precision, grid_loss

__all__ = ["BOXES", "CLASSES", "NEXT", "NUMBERS", "OBJECTIVES", "PICTURES", "REGIONS", "Objective"]


@dataclasses.dataclass(frozen=True)
class Objective:
    """A loss, and a metric in percent.

    Attributes:
        metric: what the percentage is.
        loss: of a batch: (outputs, targets) -> a scalar.
        score: of a whole part of the data: (outputs, targets) -> percent.
    """

    name: str
    metric: str
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], float]


def _accuracy(outputs: Tensor, targets: Tensor) -> float:
    """(N, classes), (N,)."""
    return 100 * float((outputs.argmax(1) == targets).float().mean())


def _next_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """(N, T, V), (N, T)."""
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def _foretold(outputs: Tensor, targets: Tensor) -> float:
    """0 % is a guess that takes all tokens for equally likely, 100 % is certainty."""
    return 100 * (1 - float(_next_loss(outputs, targets)) / math.log(outputs.shape[-1]))


def _intersection_over_union(outputs: Tensor, targets: Tensor) -> float:
    """(N, 1, H, W) both: over the pixels of all pictures together."""
    found, wanted = outputs > 0, targets > 0.5
    union = int((found | wanted).sum())
    return 100 * int((found & wanted).sum()) / union if union else 100.0


def _explained(outputs: Tensor, targets: Tensor) -> float:
    """The share of the variance, R² in percent; each element has its own mean."""
    left = float(((outputs - targets) ** 2).mean())
    return 100 * (1 - left / float(targets.var(0, correction=0).mean()))


CLASSES = Objective("classes", "accuracy %", F.cross_entropy, _accuracy)
NEXT = Objective("next token", "information %: 100 (1 - loss / log V)", _next_loss, _foretold)
REGIONS = Objective("regions", "IoU %", F.binary_cross_entropy_with_logits, _intersection_over_union)
NUMBERS = Objective("numbers", "R² %", F.mse_loss, _explained)
PICTURES = Objective("pictures", "R² %", F.mse_loss, _explained)
BOXES = Objective("boxes", "AP50 %", grid_loss, average_precision)
OBJECTIVES = (CLASSES, NEXT, REGIONS, NUMBERS, PICTURES, BOXES)
