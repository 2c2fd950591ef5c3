"""How wide the keys or values of a head are, where a file names that size instead of giving it.

onnxruntime-genai's builder (0.18.0) declares caches as [batch_size, 2, past_sequence_length, kv_cache_dim], and no
output tells kv_cache_dim either. The attention that reads the cache does: so many heads share the width of what is
projected.
"""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["cache_width"]

_KEYS, _VALUES = 1, 2  # these inputs of each of the operators; queries are the first
#: By operator: its inputs that are caches of keys and of values, and the attributes with the numbers of heads.
#: https://onnx.ai/onnx/operators/onnx__Attention.html and onnxruntime's docs/ContribOperators.md
_CACHES = {
    ("com.microsoft", "GroupQueryAttention"): (3, 4, "num_heads", "kv_num_heads"),
    ("com.microsoft", "MultiHeadAttention"): (6, 7, "num_heads", "num_heads"),
    ("", "Attention"): (4, 5, "q_num_heads", "kv_num_heads"),
}


def cache_width(value: ir.Value) -> int | None:
    """The size of the last axis of a cache (batch, heads, tokens, width); None where no attention tells it."""
    for use in value.uses():
        node = use.node
        keys, values, of_queries, of_keys = _CACHES.get((node.domain, node.op_type), (-1, -1, "", ""))
        if use.idx not in (keys, values):
            continue
        own = _input(node, _KEYS if use.idx == keys else _VALUES)
        n_queries, n_keys = node.attributes.get_int(of_queries, 0), node.attributes.get_int(of_keys, 0)
        if own is not None and own.shape is not None and len(own.shape) == 4:
            found = _whole(own.shape[-1])
        elif own is not None:
            found = _share(_last(own), n_keys)
        else:  # queries, keys and values in one
            found = _share(_last(_input(node, 0)), n_queries + 2 * n_keys)
        if found is not None:
            return found
    return None


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _share(width: int | None, n_heads: int) -> int | None:
    """The width of one of so many heads; None where they do not share it evenly."""
    return width // n_heads if width is not None and n_heads > 0 and width % n_heads == 0 else None


def _last(value: ir.Value | None) -> int | None:
    """The size of a value's last axis: as the file declares it, or by the weights that it was multiplied by."""
    while value is not None:
        if value.shape is not None and len(value.shape) > 0 and (size := _whole(value.shape[-1])) is not None:
            return size
        node = value.producer()
        if node is None:
            return None
        if node.op_type == "MatMulNBits":
            return node.attributes.get_int("N", 0) or None
        if node.op_type not in ("Add", "MatMul"):
            return None
        other = node.inputs[1]  # a matrix or a bias, whose last axis is the output's
        if other is not None and other.shape is not None and len(other.shape) > 0:
            return _whole(other.shape[-1])
        value = node.inputs[0] if node.op_type == "Add" else None
    return None


def _whole(size: object) -> int | None:
    return size if isinstance(size, int) and size > 0 else None
