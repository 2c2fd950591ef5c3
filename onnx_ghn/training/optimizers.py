"""The optimiser of a run: one or two, with one rate, whose state is named tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from onnx_ghn.training.muon import Muon
from onnx_ghn.training.settings import OptimizerConfig

__all__ = ["Optimizers"]


class Optimizers:
    """Optimisers by name. `muon` (Jordan et al. 2024) takes the matrices of linear layers, whose updates it
    makes orthogonal; embeddings and vectors are AdamW's.

    The state is named by parameters here, since torch.distributed.checkpoint's state_dict helpers look each parameter
    up as an attribute, and a published GHN has a parameter `embed.weight` beside a method `embed`.

    Args:
        model: its parameters that require gradients are trained.
        config: which optimiser, and how it updates.
    """

    def __init__(self, model: nn.Module, config: OptimizerConfig) -> None:
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._clip = config.grad_clip
        self._each: list[torch.optim.Optimizer] = []
        ours = list(self.parameters.values())
        lr, wd = config.lr, config.wd
        if config.opt == "sgd":
            self._each.append(torch.optim.SGD(ours, lr, momentum=0.9, weight_decay=wd))
        elif config.opt == "adam":
            self._each.append(torch.optim.Adam(ours, lr, weight_decay=wd))
        elif config.opt == "adamw":
            self._each.append(torch.optim.AdamW(ours, lr, weight_decay=wd))
        else:
            tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
            matrices = [p for p in ours if p.dim() == 2 and min(p.shape) > 1 and id(p) not in tables]
            chosen = {id(p) for p in matrices}
            self._each.append(Muon(matrices, lr, wd))
            self._each.append(torch.optim.AdamW([p for p in ours if id(p) not in chosen], lr, weight_decay=wd))

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for optimizer in self._each:
            optimizer.zero_grad(set_to_none=True)

    def clip(self) -> float:
        """Scale the gradients down to the largest norm that is allowed; the norm that they had."""
        return float(torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), self._clip))

    def set_rate(self, rate: float) -> None:
        """Choose the learning rate of the next step."""
        for optimizer in self._each:
            for group in optimizer.param_groups:
                group["lr"] = rate

    def step(self) -> None:
        """Update the parameters."""
        for optimizer in self._each:
            optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """What the next steps depend on: <parameter>|<name> -> tensor."""
        names = {id(p): name for name, p in self.parameters.items()}
        return {
            f"{names[id(parameter)]}|{key}": value if isinstance(value, Tensor) else torch.tensor(value)
            for optimizer in self._each
            for parameter, values in optimizer.state.items()
            for key, value in values.items()
            if value is not None
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from a `state()`."""
        for optimizer in self._each:
            ours = [p for group in optimizer.param_groups for p in group["params"]]
            number = {id(p): i for i, p in enumerate(ours)}
            state: dict[int, dict[str, Any]] = {}
            for name, tensor in tensors.items():
                parameter, key = name.rsplit("|", 1)
                index = number.get(id(self.parameters.get(parameter)))
                if index is not None:
                    state.setdefault(index, {})[key] = tensor
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
