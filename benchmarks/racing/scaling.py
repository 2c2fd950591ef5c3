"""The scaling half of LSUV, for any start: one scalar a layer, nothing else is changed."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["lsuv_scales_"]

_ROUNDS, _TOLERANCE = 10, 0.1
_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


@torch.no_grad()
def lsuv_scales_(module: nn.Module, inputs: Tensor) -> None:
    """Mishkin & Matas 2016 (arXiv 1511.06422) without its orthonormal weights: each layer to outputs of variance 1.

    In one pass: each layer is scaled when the batch first reaches it, and hands on what it then computes.

    Args:
        inputs: a batch for the module, in training mode; running statistics stay as they are.
    """
    buffers = {name: value.clone() for name, value in module.named_buffers()}
    state = torch.random.get_rng_state()
    done: set[nn.Module] = set()

    def scale(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if layer in done:
            return output
        done.add(layer)
        for _ in range(_ROUNDS):
            variance = float(output.float().var())
            if not math.isfinite(variance) or variance == 0 or abs(variance - 1) < _TOLERANCE:
                break
            layer.get_parameter("weight").div_(math.sqrt(variance))
            output = layer.forward(*given)
        return output

    hooks = [layer.register_forward_hook(scale) for layer in module.modules() if isinstance(layer, _LAYERS)]
    was_training = module.training
    module.train()
    try:
        torch.manual_seed(0)  # of dropout
        module(inputs)
    finally:
        for hook in hooks:
            hook.remove()
        torch.random.set_rng_state(state)
        module.train(was_training)
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])
