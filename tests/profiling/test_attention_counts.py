"""Attention against a loop in numpy that counts what it multiplies, and whose result onnxruntime gives."""

from __future__ import annotations

import itertools

import pytest

from onnx_ghn.profiling.attention_counts import attention_macs


def products(batch: int, heads: int, n_queries: int, n_keys: int, key_size: int, value_size: int) -> int:
    """Each query with each key of its head, and each weight with each value."""
    n = 0
    for _ in itertools.product(range(batch), range(heads), range(n_queries), range(n_keys)):
        n += key_size  # the score
        n += value_size  # its share of the output
    return n


@pytest.mark.parametrize(
    ("heads", "kv_heads", "past", "key_size", "value_size"), [(4, 4, 0, 8, 8), (4, 2, 9, 8, 12), (6, 1, 3, 4, 5)]
)
def test_onnx_attention(heads: int, kv_heads: int, past: int, key_size: int, value_size: int) -> None:
    batch, n, n_new = 2, 3, 5
    expected = products(batch, heads, n, past + n_new, key_size, value_size)
    kept = [None, (batch, kv_heads, past, key_size), (batch, kv_heads, past, value_size)] if past else []
    flat = [(batch, n, heads * key_size), (batch, n_new, kv_heads * key_size), (batch, n_new, kv_heads * value_size)]
    numbers = {"q_num_heads": heads, "kv_num_heads": kv_heads}
    assert attention_macs("Attention", numbers, [*flat, *kept], []) == expected
    split = [(batch, heads, n, key_size), (batch, kv_heads, n_new, key_size), (batch, kv_heads, n_new, value_size)]
    assert attention_macs("Attention", {}, [*split, *kept], []) == expected


@pytest.mark.parametrize("past", [0, 1, 7])
def test_multi_head_attention(past: int) -> None:
    batch, n, heads, size = 2, 3, 4, 8
    expected = products(batch, heads, n, past + n, size, size)
    width, cache = heads * size, (batch, heads, past, size)
    kept = [None, None, None, cache, cache] if past else [None] * 5
    flat = (batch, n, width)
    assert attention_macs("MultiHeadAttention", {}, [flat, flat, flat, *kept], []) == expected
    packed = [(batch, n, heads, 3, size), None, None, *kept]
    assert attention_macs("MultiHeadAttention", {}, packed, []) == expected
    two = [flat, (batch, n, heads, 2, size), None, *kept]
    assert attention_macs("MultiHeadAttention", {}, two, []) == expected
    # A past that is a buffer: its shape does not say how far it is filled.
    assert attention_macs("MultiHeadAttention", {}, [flat, flat, flat, *kept, ()], []) is None


def test_keys_of_an_encoder() -> None:
    shapes = [(2, 3, 32), (2, 4, 7, 8), (2, 4, 7, 8)]
    assert attention_macs("MultiHeadAttention", {"num_heads": 4}, shapes, []) == products(2, 4, 3, 7, 8, 8)


@pytest.mark.parametrize(("past", "n"), [(0, 6), (10, 1), (4, 3)])
def test_grouped_queries(past: int, n: int) -> None:
    numbers = {"num_heads": 4, "kv_num_heads": 2}
    expected = products(2, 4, n, past + n, 8, 8)
    cache = (2, 2, past, 8) if past else None
    outputs = [(2, n, 32), (2, 2, past + n, 8), (2, 2, past + n, 8)]
    apart = [(2, n, 32), (2, n, 16), (2, n, 16), cache, cache, (2,), ()]
    assert attention_macs("GroupQueryAttention", numbers, apart, outputs) == expected
    packed = [(2, n, 64), None, None, cache, cache, (2,), ()]
    assert attention_macs("GroupQueryAttention", numbers, packed, outputs) == expected


def test_a_buffer_of_keys_is_unknown() -> None:
    numbers, cache = {"num_heads": 4, "kv_num_heads": 2}, (1, 2, 128, 8)
    shapes = [(1, 1, 32), (1, 1, 16), (1, 1, 16), cache, cache, (1,), ()]
    assert attention_macs("GroupQueryAttention", numbers, shapes, [(1, 1, 32), cache, cache]) is None
    assert attention_macs("GroupQueryAttention", numbers, shapes, [(1, 1, 32)]) is None


@pytest.mark.parametrize(("op_type", "at"), [("QAttention", 8), ("Attention", 4)])
def test_projections_are_counted_with_the_attention(op_type: str, at: int) -> None:
    batch, n, width, inner, heads, past = 2, 6, 32, 24, 4, 5
    projected = batch * n * width * 3 * inner
    shapes: list[tuple[int, ...] | None] = [(batch, n, width), (width, 3 * inner), (3 * inner,), *[None] * 6]
    assert attention_macs(op_type, {}, shapes, []) == projected + products(batch, heads, n, n, 6, 6)
    shapes[at] = (2, batch, heads, past, 6)
    assert attention_macs(op_type, {}, shapes, []) == projected + products(batch, heads, n, n + past, 6, 6)


def test_values_wider_than_keys() -> None:
    shapes = [(2, 6, 32), (32, 16 + 16 + 40)]
    found = attention_macs("Attention", {"qkv_hidden_sizes": [16, 16, 40]}, shapes, [])
    assert found == 2 * 6 * 32 * 72 + products(2, 4, 6, 6, 4, 10)
