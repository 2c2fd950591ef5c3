"""Matrices of one value that several layers read: what simplifiers make of the fills of a stripped file."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from onnx_ghn.onnx_io.common_value import common_value
from onnx_ghn.onnx_io.provenance import changes_state
from onnx_ghn.onnx_io.stored import StoredTensor
from onnx_ghn.onnx_io.view_operators import VIEW_OPERATORS
from onnx_ghn.passes.fills import plain
from onnx_ghn.passes.folded import stored_tensor

__all__ = ["shared_fills"]

_LAYERS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose", "Gather", "LSTM", "GRU", "RNN"})


def shared_fills(tensors: Mapping[str, StoredTensor]) -> dict[str, int]:
    """How many layers read a matrix or kernel whose elements are all equal, by its name, where these are several.

    A fill that `strip` gave to one matrix alone is none of these: its layers were tied before.

    Args:
        tensors: all that a model stores.
    """
    return {
        name: n_readers
        for name, stored in tensors.items()
        if len(stored.shape) > 1 and (n_readers := _n_readers(stored.value)) > 1 and _is_filled(stored)
    }


def _n_readers(value: ir.Value) -> int:
    readers, pending = 0, [value]
    while pending:
        for use in pending.pop().uses():
            if use.node.op_type == "Gather" and use.idx == 0 and _takes_pieces(use.node):
                continue
            if use.node.op_type in VIEW_OPERATORS and use.idx == 0:
                pending += use.node.outputs
            elif not changes_state(use.node, use.idx):  # layers may all begin with one state
                readers += use.node.op_type in _LAYERS
    return readers


def _takes_pieces(gather: ir.Node) -> bool:
    """Whether a Gather always takes the same rows: a layer's own numbers from the table of all, and no embedding."""
    return stored_tensor(gather.inputs[1]) is not None


def _is_filled(stored: StoredTensor) -> bool:
    if math.prod(stored.shape) < 2 or not stored.dtype.is_floating_point():
        return False
    value = common_value(stored)
    if value is None:
        return False
    fill = np.full(1, value, stored.dtype.numpy())
    return bool((plain(fill) == fill).all())
