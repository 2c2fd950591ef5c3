"""Mutations that know the structure of what they change: most results are files that a reader has to look into."""

from __future__ import annotations

import json
import math
import random
import struct
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

__all__ = ["mutated_bytes", "mutated_json", "mutated_message", "mutated_safetensors"]

_INTEGERS = (0, 1, -1, 2, 3, 7, 127, 255, 2**31 - 1, -(2**31), 2**32, 2**40, 2**62, -(2**63), 2**63 - 1)
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e30, -1e38, math.inf, -math.inf, math.nan)
_TEXTS = ("", "x", "w1", "..", "/etc/hostname", "a\x1b[31m", "é" * 99, "n" * 5000, "0", "-1", "1e400", "NaN", "[]")
_LARGEST_SEEN = 64  # elements of a repeated field that are doubled at once


def _integer(rng: random.Random, kind: int, old: int) -> int:
    new = rng.choice((*_INTEGERS, old + 1, old - 1, old * 2, rng.randrange(64)))
    bits, signed = (
        (64, True) if kind in _SIGNED_64 else (64, False) if kind in _UNSIGNED_64 else (32, kind in _SIGNED_32)
    )
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return min(max(new, low), high)


_F = FieldDescriptor
_SIGNED_64 = {_F.TYPE_INT64, _F.TYPE_SINT64, _F.TYPE_SFIXED64}
_UNSIGNED_64 = {_F.TYPE_UINT64, _F.TYPE_FIXED64}
_SIGNED_32 = {_F.TYPE_INT32, _F.TYPE_SINT32, _F.TYPE_SFIXED32}


def _scalar(rng: random.Random, field: Any, old: Any, texts: list[str]) -> Any:
    if field.type == _F.TYPE_STRING:
        return rng.choice((*_TEXTS, *texts, old + "x"))
    if field.type == _F.TYPE_BYTES:
        return mutated_bytes(rng, old) if old else b"\0" * rng.choice((1, 4, 99))
    if field.type in (_F.TYPE_FLOAT, _F.TYPE_DOUBLE):
        return rng.choice(_FLOATS)
    if field.type == _F.TYPE_ENUM:
        return rng.choice([value.number for value in field.enum_type.values])
    if field.type == _F.TYPE_BOOL:
        return not old
    return _integer(rng, field.type, old)


def mutated_message(rng: random.Random, message: Message) -> None:
    """Change one to four places of a message, each in a random submessage, by what its fields may hold."""
    for _ in range(rng.randint(1, 4)):
        places: list[Message] = []
        texts: list[str] = []
        _collect(message, places, texts)
        _change(rng, rng.choice(places), texts)


def _collect(message: Message, places: list[Message], texts: list[str]) -> None:
    places.append(message)
    for field, value in message.ListFields():
        if field.type == _F.TYPE_MESSAGE:
            for inner in value if field.is_repeated else (value,):
                _collect(inner, places, texts)
        elif field.type == _F.TYPE_STRING and len(texts) < 500:
            texts += [str(text)[:200] for text in (value if field.is_repeated else (value,))]


def _change(rng: random.Random, message: Message, texts: list[str]) -> None:
    present = [field for field, _ in message.ListFields()]
    # Mostly what is there; sometimes a field that is not.
    fields = present if present and rng.random() < 0.85 else list(message.DESCRIPTOR.fields)
    field = rng.choice(fields)
    if not field.is_repeated:
        if field.type == _F.TYPE_MESSAGE:
            if message.HasField(field.name) and rng.random() < 0.5:
                message.ClearField(field.name)
            else:
                getattr(message, field.name).SetInParent()
        elif rng.random() < 0.2:
            message.ClearField(field.name)
        else:
            setattr(message, field.name, _scalar(rng, field, getattr(message, field.name), texts))
        return
    items = getattr(message, field.name)
    how = rng.choice(("drop", "double", "shuffle", "change", "add", "clear"))
    if how == "clear" or (how == "drop" and len(items) == 1):
        message.ClearField(field.name)
    elif how == "drop" and items:
        del items[rng.randrange(len(items))]
    elif how == "double" and 0 < len(items) <= _LARGEST_SEEN:
        items.MergeFrom(list(items)[: rng.randint(1, len(items))])
    elif how == "shuffle" and 1 < len(items) <= 10_000:
        kept = list(items) if field.type != _F.TYPE_MESSAGE else [_copy(item) for item in items]
        rng.shuffle(kept)
        message.ClearField(field.name)
        items.extend(kept)
    elif field.type == _F.TYPE_MESSAGE:
        items.add()
    elif items and how == "change":
        at = rng.randrange(len(items))
        items[at] = _scalar(rng, field, items[at], texts)
    else:
        items.append(
            _scalar(
                rng, field, "" if field.type == _F.TYPE_STRING else b"" if field.type == _F.TYPE_BYTES else 0, texts
            )
        )


def _copy(message: Message) -> Message:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def mutated_bytes(rng: random.Random, data: bytes) -> bytes:
    """Flip, cut, repeat or insert."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(found)) if found else 0
        how = rng.choice(("flip", "flip", "number", "cut", "repeat", "insert"))
        if how == "flip" and found:
            found[at] ^= 1 << rng.randrange(8)
        elif how == "number" and len(found) >= at + 4:
            struct.pack_into("<I", found, at, rng.choice((0, 1, 0xFF, 0xFFFF, 2**31 - 1, 2**32 - 1)))
        elif how == "cut":
            del found[at : rng.choice((at + 1, at + 16, len(found)))]
        elif how == "repeat":
            found[at:at] = found[at : at + rng.choice((1, 16, 256))]
        else:
            found[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice((1, 4, 16))))
    return bytes(found)


def mutated_json(rng: random.Random, value: Any) -> Any:
    """Change one place of what JSON holds: a value, its type, a key."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        how = rng.random()
        if how < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if how < 0.2:
            return {**value, rng.choice(_TEXTS): value[key]}
        return {**value, key: mutated_json(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        how = rng.random()
        if how < 0.15:
            return value[:at] + value[at + 1 :]
        if how < 0.3:
            return value + value[at:]
        return [*value[:at], mutated_json(rng, value[at]), *value[at + 1 :]]
    return rng.choice((None, True, False, [], {}, [[]], {"x": 1}, *_INTEGERS, 10**30, *_FLOATS, *_TEXTS))


def mutated_safetensors(rng: random.Random, data: bytes) -> bytes:
    """Change the header, which is JSON, or the bytes."""
    if rng.random() < 0.3:
        return mutated_bytes(rng, data)
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    name = rng.choice(list(header))
    if name == "__metadata__":
        entries = header[name]
        for key, text in entries.items():
            try:
                entries[key] = json.dumps(mutated_json(rng, json.loads(text)))
            except ValueError:
                entries[key] = rng.choice(_TEXTS)
    elif rng.random() < 0.3:
        header[name]["dtype"] = rng.choice(("F16", "BF16", "F64", "I64", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "X", ""))
    else:
        header[name] = mutated_json(rng, header[name])
    new = json.dumps(header).encode()
    return struct.pack("<Q", len(new)) + new + data[8 + length :]
