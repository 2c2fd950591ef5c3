"""The optimiser of a run: one or two of torch's, with one rate, whose state is named tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from onnx_ghn.errors import OptionError

__all__ = ["OPTIMIZERS", "Optimizers"]

#: What --opt takes.
OPTIMIZERS = ("adam", "adamw", "sgd", "muon")


class Optimizers:
    """Torch's optimisers by name. `muon` (Jordan et al. 2024) takes the matrices of linear layers, whose updates it
    makes orthogonal; embeddings and vectors are AdamW's.

    Args:
        model: its trainable parameters.
        kind: one of `OPTIMIZERS`.
        wd: weight decay (published: Adam's L2 penalty).

    Raises:
        OptionError: an unknown kind, or one that this torch does not have.
    """

    def __init__(self, model: nn.Module, kind: str, lr: float, wd: float) -> None:
        if kind not in OPTIMIZERS:
            raise OptionError(f"--opt {kind!r} must be one of {', '.join(OPTIMIZERS)}")
        if not wd >= 0:
            raise OptionError(f"--wd {wd} must be at least 0")
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._each: list[torch.optim.Optimizer] = []
        ours = list(self.parameters.values())
        if kind == "sgd":
            self._each.append(torch.optim.SGD(ours, lr, momentum=0.9, weight_decay=wd))
        elif kind == "adam":
            self._each.append(torch.optim.Adam(ours, lr, weight_decay=wd))
        elif kind == "adamw":
            self._each.append(torch.optim.AdamW(ours, lr, weight_decay=wd))
        else:
            if not hasattr(torch.optim, "Muon"):
                raise OptionError(f"--opt muon needs torch 2.9 or newer, this is {torch.__version__}; choose adamw")
            tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
            matrices = [p for p in ours if p.dim() == 2 and min(p.shape) > 1 and id(p) not in tables]
            chosen = {id(p) for p in matrices}
            # Its updates are scaled to the size of AdamW's, so that both take one rate.
            self._each.append(torch.optim.Muon(matrices, lr, wd, adjust_lr_fn="match_rms_adamw"))
            self._each.append(torch.optim.AdamW([p for p in ours if id(p) not in chosen], lr, weight_decay=wd))

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for optimizer in self._each:
            optimizer.zero_grad(set_to_none=True)

    def step(self, rate: float) -> None:
        """Update the parameters at a learning rate."""
        for optimizer in self._each:
            for group in optimizer.param_groups:
                group["lr"] = rate
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
