"""The forms in which torch modules come: wrapped, sharded, quantised, in half precision."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

from onnx_ghn.errors import OptionError

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["check_tensors", "copy_weights", "in_float32", "inputs_in_float32", "unwrapped"]


def check_tensors(tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise OptionError for parameters and buffers whose values cannot be read and set element by element."""
    from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

    for name, tensor in tensors.items():
        if isinstance(tensor, UninitializedTensorMixin):
            raise OptionError("the module has lazy layers, which have no weights yet: call it once on an input")
        if kind := _kind_of(tensor):
            raise OptionError(
                f"weight {name!r} is a {kind}, whose elements cannot be set: initialize the module before it is "
                "sharded or quantised"
            )
        if tensor.is_meta:
            raise OptionError(
                "the module is on the meta device: it has no weights to set; use module.to_empty(device='cpu')"
            )
        if tensor.is_inference():
            raise OptionError(
                f"weight {name!r} was made in torch.inference_mode(), outside of which it cannot be set: build the "
                "module outside of it"
            )
        if any(size > 1 and step == 0 for size, step in zip(tensor.shape, tensor.stride(), strict=True)):
            raise OptionError(
                f"weight {name!r} is expanded, so that several of its elements are one number: give the module a copy "
                "of its own (tensor.clone())"
            )


def _kind_of(tensor: torch.Tensor) -> str:
    """The name of a class that stands for a tensor (a shard, a quantised weight); "" for a tensor as it is."""
    import torch

    kind = type(tensor.detach())
    return "" if kind is torch.Tensor else kind.__name__


def unwrapped(module: nn.Module) -> nn.Module:
    """What a module that spreads its batches over processes runs: no exporter follows the communication."""
    from torch.nn.parallel import DistributedDataParallel

    inner = module.module if isinstance(module, DistributedDataParallel) else module
    assert not isinstance(inner, tuple)
    return inner


def in_float32(module: nn.Module) -> nn.Module | None:
    """A copy of a module in float32, in which it can be exported and run; None where it is in float32 already.

    Raises:
        OptionError: the module cannot be copied.
    """
    import torch

    state = module.state_dict(keep_vars=True)
    others = {name: t for name, t in state.items() if isinstance(t, torch.Tensor) and t.is_floating_point()}
    first = next((name for name, tensor in others.items() if tensor.dtype is not torch.float32), None)
    if first is None:
        return None
    try:
        return copy.deepcopy(module).float()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        dtype = str(others[first].dtype).removeprefix("torch.")
        raise OptionError(
            f"weight {first!r} is {dtype}, and the module cannot be copied ({type(error).__name__}): convert it to "
            "float32 first"
        ) from error


def inputs_in_float32(example_inputs: object) -> object:
    """The same inputs with tensors of numbers in float32."""
    import torch
    from torch.utils import _pytree

    def converted(leaf: object) -> object:
        return leaf.float() if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() else leaf

    found: object = _pytree.tree_map(converted, example_inputs)
    return found


def copy_weights(source: nn.Module, target: nn.Module, before: Mapping[str, torch.Tensor]) -> None:
    """Set a module's tensors to those of its copy in float32, but for those that are as before.

    Args:
        before: the tensors that the copy began with; what stays keeps the digits that float32 has not.
    """
    import torch

    own = target.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, tensor in source.state_dict().items():
            if isinstance(tensor, torch.Tensor) and not torch.equal(tensor, before[name]):
                own[name].copy_(tensor)
