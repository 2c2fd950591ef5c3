"""Settings: fields of dataclasses that say what they mean, each written once; the commands make options of them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

__all__ = ["Setting", "ghn_setting", "made", "required", "setting", "settings_of", "values"]

T = TypeVar("T")

_KEY = "onnx_ghn.setting"  # in the metadata of a field


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What a field says about itself, beside its name, type and default."""

    help: str
    flag: str = ""  # a short spelling, such as -b
    option: str = ""  # the long spelling, where it is not that of the field's name
    aliases: Sequence[str] = ()  # spellings that are accepted but not listed
    choices: Sequence[Any] = ()  # a Literal lists its own
    least: float | None = None
    most: float | None = None
    metavar: str | None = None
    shown: bool = True  # the help tells the default
    imagenet: Any = None  # the default for the data set `imagenet`, where it is another
    check: str = ""  # what a value names, by which it is checked early: ghn, file, pattern
    needed: bool = False  # there is no default


def setting(default: T, help: str, flag: str = "", **told: Any) -> T:
    """A field of a dataclass with its description; a subclass may write another default alone.

    Args:
        default: its default.
        help: what it is, in a sentence.
        flag: a short spelling, such as -b.
        told: the other fields of `Setting`.
    """
    field: T = dataclasses.field(default=default, metadata={_KEY: Setting(help=help, flag=flag, **told)})
    return field


def required(help: str, flag: str = "", **told: Any) -> Any:
    """A field without a default; see `setting`."""
    return dataclasses.field(metadata={_KEY: Setting(help=help, flag=flag, needed=True, **told)})


def ghn_setting(help: str, check: str = "ghn") -> str | None:
    """A GHN: a shipped name, a folder, or a published file; see `Setting` for `check`."""
    text = f"{help}: a shipped name (see `ghns`), a folder, or a published .pt file."
    return setting(None, text, "-C", option="--ghn", aliases=["--ckpt"], metavar="GHN", check=check)


def settings_of(kind: type) -> Iterator[tuple[str, Setting, Any]]:
    """The settings of a dataclass by name, with their defaults: its own first, then those that it inherits."""
    names = dict.fromkeys(name for base in kind.__mro__ for name in inspect.get_annotations(base))
    for name in names:
        fields = (base.__dict__.get("__dataclass_fields__", {}).get(name) for base in kind.__mro__)
        told = next((f.metadata[_KEY] for f in fields if f is not None and _KEY in f.metadata), None)
        if told is not None:
            yield name, told, kind.__dict__["__dataclass_fields__"][name].default


def made(kind: type[T], given: Mapping[str, Any]) -> T:
    """Settings of one kind, of which some are given; the others have their defaults for the data set.

    Args:
        kind: the dataclass.
        given: by name; those that are None, and those that are not of this kind, are left out.
    """
    chosen = {name: given[name] for name in kind.__dict__["__dataclass_fields__"] if given.get(name) is not None}
    if chosen.get("dataset") == "imagenet":
        published = {name: told.imagenet for name, told, _ in settings_of(kind) if told.imagenet is not None}
        chosen = published | chosen
    return kind(**chosen)


def values(settings: Any, kind: type) -> dict[str, Any]:
    """Those of the settings that are fields of `kind`, which they extend, by name."""
    return {name: getattr(settings, name) for name in kind.__dict__["__dataclass_fields__"]}
