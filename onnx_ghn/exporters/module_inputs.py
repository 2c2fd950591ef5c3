"""How many of its example inputs a torch module reads, found by running it on others."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from onnx_ghn.errors import GraphError
from onnx_ghn.exporters.bridge import converting
from onnx_ghn.torch_export import state_kept

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["n_tensors", "n_tensors_read"]

logger = logging.getLogger(__name__)


def n_tensors(args: tuple[object, ...], kwargs: Mapping[str, object]) -> int:
    """The number of tensors among a module's inputs, at any depth of lists and dicts."""
    import torch

    return sum(isinstance(leaf, torch.Tensor) for leaf in _leaves((args, dict(kwargs))))


def n_tensors_read(module: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]) -> int:
    """The number of those on whose values the module's outputs depend, in inference mode with its present weights.

    0 where the module cannot be run again, or gives other outputs for the same inputs.
    """
    import torch
    from torch.utils import _pytree

    leaves, structure = _pytree.tree_flatten((args, dict(kwargs)))
    before, again = _run(module, args, kwargs), _run(module, args, kwargs)
    if before is None or again is None or not _same(before, again):
        return 0
    count = 0
    for index, leaf in enumerate(leaves):
        if not isinstance(leaf, torch.Tensor) or not leaf.numel():
            continue
        changed = [_changed(leaf) if number == index else other for number, other in enumerate(leaves)]
        other_args, other_kwargs = _pytree.tree_unflatten(changed, structure)
        outputs = _run(module, other_args, other_kwargs)
        count += outputs is not None and not _same(before, outputs)
    return count


def _leaves(tree: object) -> list[object]:
    from torch.utils import _pytree

    leaves: list[object] = _pytree.tree_flatten(tree)[0]
    return leaves


def _run(module: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]) -> list[torch.Tensor] | None:
    """The tensors of a module's outputs; None where it cannot be run on these inputs."""
    import torch

    with state_kept(module), torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        module.eval()
        try:
            with converting(type(module).__name__, "torch"):
                outputs = module(*args, **kwargs)
        except GraphError as error:  # of other values than those of the example
            logger.debug("%s", error)
            return None
    return [leaf.clone() for leaf in _leaves(outputs) if isinstance(leaf, torch.Tensor)]


def _changed(tensor: torch.Tensor) -> torch.Tensor:
    """Other values of the same range and type."""
    import torch

    if tensor.dtype is torch.bool:
        return ~tensor
    if tensor.is_floating_point():
        return 0.5 * tensor.flip(tuple(range(tensor.dim()))) + 0.25
    mirrored = tensor.min() + tensor.max() - tensor
    return tensor + 1 if torch.equal(mirrored, tensor) else mirrored


def _same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    import torch

    return len(one) == len(other) and all(
        a.shape == b.shape and bool(torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)))
        for a, b in zip(one, other, strict=True)
    )
