"""How optimum, Olive, onnxruntime's own exporters and others name the inputs of a decoder with a key-value cache."""

from __future__ import annotations

import re

__all__ = ["PAST", "cache_role"]

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
