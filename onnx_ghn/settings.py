"""Settings: fields of dataclasses that say what they mean, each written once; the commands make options of them."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import numbers
import operator
import os
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from onnx_ghn.arguments import value_told
from onnx_ghn.errors import OptionError

__all__ = [
    "Setting",
    "Settings",
    "ghn_setting",
    "made",
    "patterns_setting",
    "required",
    "setting",
    "setting_of",
    "settings_of",
    "values",
]

T = TypeVar("T")

_KEY = "onnx_ghn.setting"  # in the metadata of a field


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What a field says about itself; its name, type and default are those of the field."""

    help: str
    flag: str = ""  # a short spelling, such as -b
    option: str = ""  # the long spelling, where it is not that of the field's name
    aliases: Sequence[str] = ()  # spellings that are accepted but not listed
    choices: Sequence[Any] = ()  # a Literal lists its own
    least: float | None = None
    most: float | None = None
    above: float | None = None  # where the bound itself is no value
    below: float | None = None
    metavar: str | None = None
    shown: bool = True  # the help tells the default
    imagenet: Any = None  # the default for the data set `imagenet`, where it is another
    check: str = ""  # what a value names, by which it is checked early: ghn, file, pattern, library
    # How a value is written: numbers, cores, words, levels (several in one); slowdown, named_file; shape, named_shapes,
    # named_sizes, provider_option, assignment, figure_limit (may be given several times).
    form: str = ""
    needed: bool = False  # there is no default
    name: str = ""
    kind: Any = str  # the type, without None
    optional: bool = False  # it may be None
    has_other_kinds: bool = False  # it may be of other types beside, which are checked elsewhere
    default: Any = None

    def check_value(self, value: Any) -> None:
        """Refuse a value that is out of bounds, or that is none of its kind. Raises OptionError."""
        if value is None:
            if not self.optional and self.default is not None:
                raise OptionError(f"`{self.name}` None must be {self._wanted}")
            return
        self._check_kind(value)
        bounds: tuple[tuple[str, float | None, Callable[[Any, Any], bool]], ...] = (
            ("at least", self.least, operator.ge),
            ("at most", self.most, operator.le),
            ("more than", self.above, operator.gt),
            ("less than", self.below, operator.lt),
        )
        wrong = [f"{word} {bound}" for word, bound, holds in bounds if bound is not None and not holds(value, bound)]
        if self.choices and not isinstance(value, tuple) and value not in self.choices:
            wrong.append(f"one of {', '.join(map(str, self.choices))}")
        if wrong:
            raise OptionError(f"`{self.name}` {value} must be {' and '.join(wrong)}")

    @property
    def _wanted(self) -> str:
        """What a value is, for messages."""
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        words = {bool: "True or False", int: "a whole number", float: "a number", str: self._of_text}
        return words.get(self.kind, "a list")

    @property
    def _of_text(self) -> str:
        if self.check == "pattern":
            return "a regular expression"
        return f"a text or a path ({self.metavar})" if self.metavar else "a text or a path"

    @property
    def _is_list(self) -> bool:
        return get_origin(self.kind) in (tuple, Sequence)

    def _check_kind(self, value: Any) -> None:
        """Refuse what would be taken for something else: the letters of a text for a list, any text for a yes."""
        wanted = ""
        if self.kind is bool:
            wanted = "" if value in (True, False) else self._wanted
        elif self.kind in (int, float):
            kind = numbers.Integral if self.kind is int else numbers.Real
            if isinstance(value, bool) or not isinstance(value, kind):
                wanted = self._wanted
            elif value != value and None is self.least is self.most is self.above is self.below:  # NaN
                wanted = "a number"
        elif self.kind is str and not self.choices and not self.has_other_kinds:
            wanted = "" if isinstance(value, str | os.PathLike) else self._wanted
        elif self._is_list and isinstance(value, str):
            wanted = f"a list, such as [{value!r}]"
        elif get_args(self.kind) in ((str,), (str, ...)) and isinstance(value, Sequence):
            wrong = next((one for one in value if not isinstance(one, str | os.PathLike)), None)
            if wrong is not None:
                raise OptionError(f"`{self.name}` holds {value_told(wrong)}, which must be {self._of_text}")
        if wanted:
            raise OptionError(f"`{self.name}` {value_told(value)} must be {wanted}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """A dataclass of settings, whose values are within their bounds and of their choices.

    Raises:
        OptionError: a value is not.
    """

    def __post_init__(self) -> None:
        for told in settings_of(type(self)):
            told.check_value(getattr(self, told.name))


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
    text = (
        f"{help}: a shipped name (see `ghns`), a folder, a published .pt file, or `hf://owner/name[@revision][/file]`."
    )
    return setting(None, text, "-C", option="--ghn", aliases=["--ckpt"], metavar="GHN", check=check)


def patterns_setting(help: str) -> tuple[str, ...]:
    """Regular expressions."""
    return setting((), help, metavar="REGEX", check="pattern")


def settings_of(kind: object) -> tuple[Setting, ...]:
    """The settings of a dataclass: its own first, then those that it inherits."""
    return _settings_of(kind)


def setting_of(name: str, field: object, hint: object) -> Setting | None:
    """What a field says, or the default of a function's parameter that is one; None where it says nothing.

    Args:
        name: its name.
        field: that `setting` made.
        hint: its type.
    """
    if not isinstance(field, dataclasses.Field) or _KEY not in field.metadata:
        return None
    told: Setting = field.metadata[_KEY]
    kind, optional, has_others = _without_none(hint)
    choices = told.choices or (get_args(kind) if get_origin(kind) is Literal else ())
    own = {"name": name, "kind": kind, "optional": optional, "choices": choices, "default": field.default}
    return dataclasses.replace(told, has_other_kinds=has_others, **own)


@functools.cache
def _settings_of(kind: type) -> tuple[Setting, ...]:
    hints = get_type_hints(kind)
    found = []
    for name in dict.fromkeys(name for base in kind.__mro__ for name in inspect.get_annotations(base)):
        fields = [base.__dict__.get("__dataclass_fields__", {}).get(name) for base in kind.__mro__]
        told = next(filter(None, (setting_of(name, field, hints[name]) for field in fields)), None)
        if told is not None:
            found.append(dataclasses.replace(told, default=kind.__dict__["__dataclass_fields__"][name].default))
    return tuple(found)


def _without_none(hint: Any) -> tuple[Any, bool, bool]:
    """The type of `X | None`, whether it is one, and whether other types stand beside it; paths go with texts."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, False, False
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    others = [kind for kind in kinds[1:] if get_origin(kind) is not os.PathLike]
    return kinds[0], len(kinds) < len(get_args(hint)), bool(others)


def made(kind: type[T], given: Mapping[str, Any]) -> T:
    """Settings of one kind, of which some are given; the others have their defaults for the data set.

    Args:
        kind: the dataclass.
        given: by name; those that are None, and those that are no settings of this kind, are left out.
    """
    chosen = {told.name: given[told.name] for told in settings_of(kind) if given.get(told.name) is not None}
    if chosen.get("dataset") == "imagenet":
        chosen = {told.name: told.imagenet for told in settings_of(kind) if told.imagenet is not None} | chosen
    return kind(**chosen)


def values(settings: Any, kind: type) -> dict[str, Any]:
    """Those of the settings that are fields of `kind`, which they extend, by name."""
    return {name: getattr(settings, name) for name in kind.__dict__["__dataclass_fields__"]}
