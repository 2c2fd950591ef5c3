"""What a start looks like before any training: ranks, attention, how alike inputs become, the scale of outputs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

__all__ = ["Health", "effective_rank", "health"]

_FEWEST = 8  # singular values below which a rank says little
_MOST_ROWS = 1024  # of a matrix; more of them cost minutes
_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


@dataclasses.dataclass(frozen=True)
class Health:
    """Figures of a network on one batch; nan where there is nothing to measure.

    Attributes:
        rank: the mean over matrices of the effective rank (Roy & Vetterli 2007) as a share of the full one, 0 to 1.
        entropy: the mean over attention maps, as a share of that of even attention, 0 to 1.
        cosine: the mean between the last layer's inputs of two different samples.
        scale: root mean square of the outputs.
    """

    rank: float
    entropy: float
    cosine: float
    scale: float


def effective_rank(matrix: Tensor) -> float:
    """exp(entropy of the singular values as shares of their sum) / min(m, n), of (m, n); 0 for zeros.

    Of a larger matrix, of rows spread evenly over it.
    """
    matrix = matrix[:: -(-len(matrix) // _MOST_ROWS)]
    values = torch.linalg.svdvals(matrix.double())
    shares = values / values.sum().clamp_min(torch.finfo(torch.float64).tiny)
    entropy = -(shares * shares.clamp_min(torch.finfo(torch.float64).tiny).log()).sum()
    return float(entropy.exp()) / min(matrix.shape) if float(values.sum()) > 0 else 0.0


@torch.no_grad()
def health(module: nn.Module, inputs: Tensor) -> Health:
    """Measure a network in training mode, its running statistics left as they are.

    Args:
        inputs: a batch of different samples.
    """
    matrices = [
        tensor.flatten(1)
        for layer in module.modules()
        for name, tensor in layer.named_parameters(recurse=False)
        if tensor.ndim >= 2 and "bias" not in name
    ]
    ranks = [effective_rank(matrix) for matrix in matrices if min(matrix.shape) >= _FEWEST]
    buffers = {name: value.clone() for name, value in module.named_buffers()}
    layers = [layer for layer in module.modules() if isinstance(layer, _LAYERS)]
    given: list[Tensor] = []
    hook = layers[-1].register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    was_training = module.training
    module.train()
    try:
        with _Attention() as attention:
            outputs = module(inputs)
    finally:
        hook.remove()
        module.train(was_training)
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])
    features = given[-1].float()  # (B, …, d) or (B, C, …)
    return Health(
        _mean(ranks),
        _mean(attention.entropies),
        _cosine(features.flatten(1)),
        float(outputs.float().square().mean().sqrt()),
    )


class _Attention(TorchFunctionMode):
    """Notes the entropy of what is a softmax between places, as a share of the entropy of even attention."""

    def __init__(self) -> None:
        super().__init__()
        self.entropies: list[float] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            query, key = args[0], args[1]  # (…, N, d) each
            scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
            mask = kwargs.get("attn_mask")
            if kwargs.get("is_causal"):
                scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf)
            elif mask is not None:
                scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
            self._note(scores.float().softmax(-1), (scores > -math.inf).sum(-1))
        elif func in (F.softmax, torch.softmax, Tensor.softmax) and isinstance(result, Tensor) and result.ndim >= 4:
            self._note(result.float(), torch.full(result.shape[:-1], result.shape[-1]))
        return result

    def _note(self, maps: Tensor, seen: Tensor) -> None:
        """Of maps (…, N, M) with the number of places that each row may see; one place alone says nothing."""
        entropy = -(maps * maps.clamp_min(1e-30).log()).sum(-1)
        told = seen > 1
        if told.any():
            self.entropies.append(float((entropy[told] / seen[told].float().log()).mean()))


def _cosine(features: Tensor) -> float:
    """The mean over pairs of different rows of (B, d)."""
    rows = F.normalize(features, dim=1)
    n = len(rows)
    return (float((rows @ rows.T).sum()) - n) / (n * (n - 1)) if n > 1 else math.nan


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
