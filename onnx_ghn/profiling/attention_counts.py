"""Multiply-accumulates of attention: queries by keys, then weights by values, over new keys and those of the past.

Masked products (causal attention, windows, padding) count: a mask's values are not known from shapes, and most kernels
multiply them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

__all__ = ["ATTENTION", "attention_macs"]

Shape = tuple[int, ...]
Shapes = Sequence[Shape | None]
#: The operators that `attention_macs` knows. `Attention` is ONNX's or onnxruntime's, which its inputs tell.
ATTENTION = frozenset({"Attention", "MultiHeadAttention", "GroupQueryAttention", "QAttention"})


def attention_macs(op_type: str, attributes: Mapping[str, object], inputs: Shapes, outputs: Shapes) -> int | None:
    """Of one call; None if what it needs is unknown, such as how far a buffer of keys is filled."""
    first = _at(inputs, 0)
    if first is None:
        return None
    if op_type == "QAttention":
        return _projecting(first, _at(inputs, 1), (), _at(inputs, 8))
    if op_type == "Attention":
        second = _at(inputs, 1)
        if second is not None and len(second) == 2 and len(first) == 3:
            widths = attributes.get("qkv_hidden_sizes", ())
            if _at(inputs, 6) is not None:  # past_sequence_length: the past is a buffer, filled up to there
                return None
            return _projecting(first, second, widths if isinstance(widths, list | tuple) else (), _at(inputs, 4))
        return _of_onnx(attributes, inputs)
    if op_type == "MultiHeadAttention":
        return _multi_head(attributes, inputs)
    return _grouped(attributes, inputs, outputs)


def _at(shapes: Shapes, index: int) -> Shape | None:
    return shapes[index] if index < len(shapes) else None


def _number(attributes: Mapping[str, object], name: str) -> int:
    value = attributes.get(name, 0)
    return value if isinstance(value, int) else 0


def _both(batch: int, heads: int, n_queries: int, n_keys: int, widths: int) -> int:
    """`widths`: of a key and of a value, together."""
    return batch * heads * n_queries * n_keys * widths


def _projecting(first: Shape, weight: Shape | None, widths: Sequence[int], past: Shape | None) -> int | None:
    """onnxruntime's Attention and QAttention: X (B, n, width) times the weights of Q, K and V together, then attention.

    The past is (2, B, heads, n_past, size).
    """
    if weight is None or len(first) != 3:
        return None
    batch, n, _ = first
    key = weight[1] // 3 if not widths else int(widths[0])
    value = weight[1] // 3 if not widths else int(widths[2])
    n_keys = n + (past[3] if past is not None and len(past) == 5 else 0)
    return batch * n * math.prod(weight) + _both(batch, 1, n, n_keys, key + value)


def _of_onnx(attributes: Mapping[str, object], inputs: Shapes) -> int | None:
    """ONNX's: Q, K, V of (B, heads, n, size), or (B, n, heads × size); fewer heads of keys are shared by groups."""
    query, key, value = (_at(inputs, index) for index in range(3))
    if query is None or key is None or value is None:
        return None
    past = _at(inputs, 4)
    n_past = past[2] if past is not None and len(past) == 4 else 0
    if len(query) == 4 and len(key) == 4 and len(value) == 4:
        batch, heads, n_queries, size = query
        return _both(batch, heads, n_queries, n_past + key[2], size + value[3])
    heads, kv_heads = _number(attributes, "q_num_heads"), _number(attributes, "kv_num_heads")
    if len(query) != 3 or len(key) != 3 or len(value) != 3 or not heads or not kv_heads:
        return None
    sizes = query[2] // heads + value[2] // kv_heads
    return _both(query[0], heads, query[1], n_past + key[1], sizes)


def _multi_head(attributes: Mapping[str, object], inputs: Shapes) -> int | None:
    """Keys and values beside the queries, or packed with them: (B, n, heads, 3, size), (B, n_keys, heads, 2, size)."""
    query, key, value, past = (_at(inputs, index) for index in (0, 1, 2, 6))
    if query is None or _at(inputs, 8) is not None:  # past_sequence_length: the past is a buffer, filled up to there
        return None
    n_past = past[2] if past is not None and len(past) == 4 else 0
    if len(query) == 5:
        batch, n, heads, _, size = query
        return _both(batch, heads, n, n_past + n, 2 * size)
    if len(query) != 3 or key is None:
        return None
    batch, n, width = query
    if len(key) == 5:
        return _both(batch, 1, n, n_past + key[1], 2 * width)
    if value is None:
        return None
    if len(key) == 4:  # (B, heads, n_keys, size), of an encoder
        return _both(batch, key[1], n, n_past + key[2], key[3] + value[-1])
    return _both(batch, 1, n, n_past + key[1], width + value[-1])


def _grouped(attributes: Mapping[str, object], inputs: Shapes, outputs: Shapes) -> int | None:
    """onnxruntime's: queries (B, n, heads × size), or with keys and values behind them in one tensor."""
    query, key, past = (_at(inputs, index) for index in (0, 1, 3))
    heads, kv_heads = _number(attributes, "num_heads"), _number(attributes, "kv_num_heads")
    if query is None or len(query) != 3 or not heads or not kv_heads:
        return None
    batch, n, width = query
    size = width // heads if key is not None else width // (heads + 2 * kv_heads)
    n_past = past[2] if past is not None and len(past) == 4 else 0
    present = _at(outputs, 1)
    if n_past and (present is None or len(present) != 4 or present[2] != n_past + n):
        return None  # the past is a buffer: total_sequence_length says how far it is filled, not its shape
    return _both(batch, heads, n, n_past + n, 2 * size)
