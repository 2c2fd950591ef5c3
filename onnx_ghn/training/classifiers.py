"""One training step of a classifier of images."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.training.optimizers import Optimizers

__all__ = ["ImageSource", "classifier_step"]


class ImageSource(Protocol):
    """Training images by step."""

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) float images and (B,) classes of a step, the same ones each time it is asked."""


def classifier_step(
    net: nn.Module,
    optimizers: Optimizers,
    images: ImageSource,
    number: int,
    *,
    amp: bool = False,
    label_smoothing: float = 0.0,
    auxiliary_weight: float = 0.0,
) -> dict[str, float]:
    """Train a classifier on the images of a step.

    Args:
        net: gives logits, or a pair of them and of those of an auxiliary classifier.
        optimizers: of the network.
        images: where the images of a step come from.
        number: of the step.
        amp: compute in bfloat16.
        label_smoothing: of the cross-entropy.
        auxiliary_weight: of the auxiliary classifier's loss.

    Returns:
        loss, top-1 accuracy in percent, and the norm of the gradient.

    Raises:
        RuntimeFailure: the loss is not finite.
    """
    net.train()
    device = next(net.parameters()).device
    batch, targets = images.batch(number)
    batch, targets = batch.to(device), targets.to(device)
    optimizers.zero_grad()
    with torch.autocast(device.type, torch.bfloat16, enabled=amp):
        answer: Tensor | tuple[Tensor, Tensor | None] = net(batch)
    logits, second = answer if isinstance(answer, tuple) else (answer, None)
    loss = F.cross_entropy(logits.float(), targets, label_smoothing=label_smoothing)
    if second is not None:
        loss = loss + auxiliary_weight * F.cross_entropy(second.float(), targets, label_smoothing=label_smoothing)
    if not torch.isfinite(loss):
        raise RuntimeFailure(f"step {number}: the loss is {float(loss.detach())}; lower `lr` or `grad_clip`")
    torch.autograd.backward(loss)
    norm = optimizers.clip()
    optimizers.step()
    top1 = 100 * float((logits.detach().argmax(dim=1) == targets).float().mean())
    return {"loss": float(loss.detach()), "top1": top1, "grad_norm": norm}
