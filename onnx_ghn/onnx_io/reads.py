"""How a model reads its tensors: by which operator, at which input, and along which axis it multiplies by them."""

from __future__ import annotations

import math
from typing import NamedTuple

import onnx_ir as ir

from onnx_ghn.onnx_io.stored import StoredTensor, stored_tensors

__all__ = ["Read", "reads", "reads_of"]

_LINEAR = frozenset({"MatMul", "Gemm", "FusedMatMul", "FusedGemm", "TransposeMatMul"})
_KERNELS = {"Conv": "Conv", "FusedConv": "Conv", "NhwcConv": "NhwcConv", "ConvTranspose": "ConvTranspose"}
_SAME = frozenset({"Identity", "Cast"})


class Read(NamedTuple):
    """One use of a tensor: the operator by its first output's name, the place among its inputs, and how it reads.

    `how` says what order of axes the operator takes the tensor for: "linear:0" where it sums over the tensor's first
    axis, "Conv", "ConvTranspose", or "plain" where nothing depends on it.
    """

    output: str
    place: int
    how: str


def reads(model: ir.Model) -> dict[str, tuple[tuple[int, ...], tuple[Read, ...]]]:
    """The shape of each stored tensor of floats with several elements, and what reads it in the main graph."""
    return {
        name: (stored.shape, reads_of(stored, model))
        for name, stored in stored_tensors(model).items()
        if stored.dtype.is_floating_point() and not stored.is_sparse and math.prod(stored.shape) > 1
    }


def reads_of(stored: StoredTensor, model: ir.Model) -> tuple[Read, ...]:
    """What reads a tensor in the main graph, in the order of the file."""
    return tuple(
        Read(use.node.outputs[0].name or "", use.idx, _how(use.node, use.idx, len(stored.shape)))
        for use in stored.value.uses()
        if use.node.graph is model.graph and use.node.outputs
    )


def _how(node: ir.Node, index: int, rank: int) -> str:
    axes = tuple(range(rank))  # of the tensor as it is stored, in the order in which the operator sees them
    while not node.domain and (node.op_type in _SAME or node.op_type == "Transpose"):
        if node.op_type == "Transpose":
            permutation = tuple(node.attributes.get_ints("perm") or range(rank)[::-1])
            if sorted(permutation) != sorted(axes):
                return "plain"
            axes = tuple(axes[axis] for axis in permutation)
        uses = list(node.outputs[0].uses())
        if not uses:
            return "plain"
        node, index = uses[0].node, uses[0].idx
    if rank > 1 and node.op_type in _LINEAR and index < 2:
        turned = node.attributes.get_int("transB" if index == 1 else "transA", 0)
        return f"linear:{axes[-2:][(index == 0) ^ bool(turned)]}"
    if rank > 1 and node.op_type in _KERNELS and index == 1:
        domain = f"{node.domain}." if node.domain == "com.microsoft.nchwc" else ""
        return domain + _KERNELS[node.op_type]
    return "plain"
