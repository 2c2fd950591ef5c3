"""One training step of a GHN: predict, run the nets, pull their gradients back into the GHN."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from onnx_ghn.ghn import GHN
from onnx_ghn.kernels.convolution import without_plans
from onnx_ghn.training.ghn.architectures import Net

__all__ = ["StepResult", "ghn_step"]


@dataclasses.dataclass(frozen=True)
class StepResult:
    """Sums over the nets of a step: their loss, their correct answers, how many gave a finite loss."""

    loss: float
    correct: int
    n_images: int
    n_finite: int
    parts_s: dict[str, float]  # where the time went (on a GPU: where it was waited for)


def ghn_step(
    ghn: GHN,
    nets: Sequence[Net],
    batches: Sequence[tuple[Tensor, Tensor]],
    *,
    n_nets: int,
    net_clip: float = math.inf,
    label_smoothing: float = 0.0,
    plans: bool = False,
) -> StepResult:
    """Add the gradient of the mean loss over `n_nets` nets to the GHN's.

    The nets are run one after the other on detached predictions, so that activations of one at a time are in
    memory; one backward pass through the GHN follows. The sum is that of a joint backward pass.

    Args:
        nets: this process's share of the step's nets.
        batches: of each net, images (B, 3, H, W) in the type to compute in and classes (B,).
        n_nets: all nets of the step, over all processes.
        net_clip: largest norm of a net's gradient with respect to its own weights. Deep nets without batch norm have
            gradients thousands of times those of others, and would be all that a step learns from.
        plans: let cuDNN plan each convolution, even of small images (`deepnets1m.convolution`).

    Returns:
        sums; a net whose loss or gradient is not finite adds no gradient.
    """
    clock = _Clock()
    predictions = ghn([net.graph for net in nets])
    clock.stop("predict")
    outputs: list[Tensor] = []
    gradients: list[Tensor] = []
    total, correct, n_images, finite = 0.0, 0, 0, 0
    for net, predicted, (images, targets) in zip(nets, predictions, batches, strict=True):
        leaves = {index: tensor.detach().requires_grad_() for index, tensor in predicted.items()}
        named = {net.graph.parameters[index].name: leaf for index, leaf in leaves.items()}
        with contextlib.nullcontext() if plans else without_plans(images):
            logits = net.logits(named, images)  # (B, classes)
            loss = F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
            clock.stop("nets forward")
            if not torch.isfinite(loss):
                continue
            torch.autograd.backward(loss)
        clock.stop("nets backward")
        norm = torch.nn.utils.get_total_norm([leaf.grad for leaf in leaves.values() if leaf.grad is not None])
        if not torch.isfinite(norm):
            continue
        finite += 1
        share = min(1.0, net_clip / max(float(norm), 1e-30)) / n_nets
        n_images += len(targets)
        total += float(loss.detach())
        correct += int((logits.detach().argmax(dim=1) == targets).sum())
        for index, leaf in leaves.items():
            if leaf.grad is not None:
                outputs.append(predicted[index])
                gradients.append(leaf.grad * share)
    if outputs:
        torch.autograd.backward(outputs, gradients)
    clock.stop("predict backward")
    return StepResult(total, correct, n_images, finite, clock.parts_s)


class _Clock:
    """Seconds since the last stop, added up by part."""

    def __init__(self) -> None:
        self.parts_s: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, part: str) -> None:
        now = time.perf_counter()
        self.parts_s[part] = self.parts_s.get(part, 0.0) + now - self._last
        self._last = now
