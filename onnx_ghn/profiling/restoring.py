"""Records back from the JSON that `dataclasses.asdict` gives for them: jobs for a worker, reports from one."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import types
import typing
from typing import TypeVar

__all__ = ["restored"]

_Record = TypeVar("_Record")


def restored(kind: type[_Record], entries: object) -> _Record:
    """A dataclass from a JSON object; the types of its fields say what becomes a record or a tuple inside it."""
    found = _value(kind, entries)
    assert isinstance(found, kind)
    return found


@functools.cache
def _fields(kind: type) -> dict[str, object]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _value(kind: object, value: object) -> object:
    if value is None:
        return None
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:  # with None, and nothing else
        return _value(arguments[0], value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, dict):
        of_field = _fields(kind)
        return kind(**{name: _value(of_field[name], entry) for name, entry in value.items()})
    if origin is tuple and isinstance(value, (list, tuple)):
        each = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_value(inner, entry) for inner, entry in zip(each, value, strict=True))
    if origin is collections.abc.Mapping and isinstance(value, dict):
        return {name: _value(arguments[1], entry) for name, entry in value.items()}
    return value
