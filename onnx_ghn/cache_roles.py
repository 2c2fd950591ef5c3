"""The inputs of a decoder with a key-value cache, by the names that optimum, Olive, onnxruntime's own exporters and
others give them, and what goes with so many tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from onnx_ghn.arrays import Array

__all__ = ["PAST", "cache_role", "following"]

#: An input that is fed back from an output; the group is what both names share.
PAST = re.compile(r"past(?:_key_values|_kv)?[._]?(.*\d.*)")

_OF_ENCODER = re.compile(r"encoder|cross")
_OF_DECODER = re.compile(r"decoder")
_ROLES = {
    "tokens": ("input_ids", "decoder_input_ids", "inputs_embeds", "decoder_inputs_embeds"),
    "mask": ("attention_mask", "decoder_attention_mask"),
    "positions": ("position_ids", "decoder_position_ids", "cache_position"),
    "branch": ("use_cache_branch",),
    "last": ("seqlens_k",),
    "total": ("total_sequence_length", "total_seq_len"),
    "past": ("past_sequence_length", "past_seq_len"),
    "one": ("num_logits_to_keep", "logits_to_keep"),
    "zeros": ("token_type_ids",),
    "ones": ("encoder_attention_mask",),
}
_ROLE_OF = {name: role for role, names in _ROLES.items() for name in names}


def cache_role(name: str) -> str:
    """What an input of a decoder is by its name: "cache" is fed back, "encoder" are the encoder's keys and values,
    "other" is none of those that are known.
    """
    if PAST.fullmatch(name):
        return "encoder" if _OF_ENCODER.search(_OF_DECODER.sub("", name)) else "cache"
    return _ROLE_OF.get(name, "other")


def following(role: str, dims: Sequence[int | None], dtype: str, *, cached: int, new: int, batch: int) -> Array:
    """An input that says how many tokens there are.

    Args:
        role: mask, positions, branch, last, total, past or one; see `cache_role`.
        dims: of the input as it is declared, None or 0 where one is free.
        dtype: as numpy calls it.
        cached: tokens in the cache.
        new: tokens beside it.
    """
    total, rank = cached + new, len(dims)
    if role == "mask":
        if rank == 2:
            return np.ones((batch, total), dtype)
        shape = (batch, *(dim or 1 for dim in dims[1:-2]), new, total)
        # Added to the scores where it is of floats.
        return np.zeros(shape, dtype) if dtype.startswith("float") else np.ones(shape, dtype)
    if role == "positions":
        lead = [dim or batch for dim in dims[:-1]]
        if new == 1:
            return np.full((*lead, 1), cached, dtype)
        places = np.arange(cached, total, dtype=dtype)  # (new,)
        return np.ascontiguousarray(np.broadcast_to(places, (*lead, new)))
    value = {"branch": cached > 0, "last": total - 1, "total": total, "past": cached, "one": 1}[role]
    return np.full(tuple(dim or batch for dim in dims), value, dtype)
