"""Options of commands from settings: a command has one for each setting that it takes, alone or in a dataclass."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click

from onnx_ghn.cli.checks import check_file, check_ghn, check_library, check_pattern
from onnx_ghn.cli.number_lists import (
    assignment,
    cores,
    figure_limit,
    levels,
    named_file,
    named_shapes,
    named_sizes,
    numbers,
    provider_option,
    shape,
    slowdown,
    words,
)
from onnx_ghn.settings import Setting, made, setting_of, settings_of

__all__ = ["Option", "checked", "from_settings"]

Given = TypeVar("Given", str | None, tuple[str, ...])

CHECKS = "onnx_ghn.checks"  # in a context's meta: checks, and what each is of
_FORMS = {"numbers": numbers, "cores": cores, "words": words, "levels": levels, "slowdown": slowdown}
_FORMS |= {"named_file": named_file}
_REPEATED_FORMS = {"shape": shape, "named_shapes": named_shapes, "assignment": assignment, "figure_limit": figure_limit}
_REPEATED_FORMS |= {"named_sizes": named_sizes, "provider_option": provider_option}
_CHECKS: dict[str, Callable[[str], None]] = {
    "ghn": check_ghn,
    "file": check_file,
    "pattern": check_pattern,
    "library": check_library,
}


class Option(click.Option):
    """An option with further spellings, which are accepted but not listed.

    Args:
        aliases: such as ("-n",).
    """

    def __init__(self, *args: Any, aliases: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.aliases = tuple(aliases)


class _Numbers(click.Choice[str]):
    """One of a few whole numbers."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return int(super().convert(str(value), param, ctx))


def checked(check: Callable[[str], None]) -> Callable[[click.Context, click.Parameter, Given], Given]:
    """A callback of parameters: a check of what is given.

    It takes place after the command line is parsed, so that errors of usage are told first, and before the command
    imports anything. Of several values each is checked.
    """

    def note(ctx: click.Context, parameter: click.Parameter, value: Given) -> Given:
        given = value if isinstance(value, tuple) else () if value is None else (value,)
        ctx.meta.setdefault(CHECKS, []).extend((check, one) for one in given)
        return value

    return note


def from_settings(
    callback: Callable[..., Any], params: Sequence[click.Parameter]
) -> tuple[Callable[..., Any], list[click.Parameter]]:
    """A command's function that click can call, and its parameters in the order of the function's.

    Args:
        callback: what the command does. It takes dataclasses of settings, single settings (parameters whose default
            is a `setting`), and the values of parameters.
        params: the parameters that are written by hand.
    """
    hints = get_type_hints(callback)
    kinds = {name: kind for name, kind in hints.items() if hasattr(kind, "__dataclass_fields__")}
    by_hand = {param.name: param for param in params}
    found: list[click.Parameter] = []
    taken = inspect.signature(callback).parameters
    plain: list[Setting] = []
    for name, parameter in taken.items():
        told = setting_of(name, parameter.default, hints.get(name))
        if name in kinds:
            found += map(_option, settings_of(kinds[name]))
        elif told is not None:
            plain.append(told)
            found.append(_option(told))
        elif name in by_hand:
            found.append(by_hand.pop(name))

    @functools.wraps(callback)
    def call(**given: Any) -> Any:
        for told in plain:
            told.check_value(given[told.name])
        own = {name: given[name] for name in taken if name not in kinds}
        return callback(**{name: made(kind, given) for name, kind in kinds.items()}, **own)

    return call, [*by_hand.values(), *found]


def _option(told: Setting) -> Option:
    long = told.option or f"--{told.name.replace('_', '-')}"
    more: dict[str, Any] = {} if told.needed else {"default": None if told.imagenet is not None else told.default}
    is_shown = told.shown and told.imagenet is None and told.default is not None
    if told.kind is bool and long.startswith("--no-"):
        more |= {"is_flag": True, "flag_value": False}
        is_shown = False
    elif told.kind is bool:
        more["is_flag"] = True
        if told.default is True or told.optional:
            long += f"/--no-{long[2:]}"
        is_shown = is_shown and told.default
    elif told.form in _REPEATED_FORMS:
        more |= {"multiple": True, "type": _REPEATED_FORMS[told.form]}
        is_shown = False
    elif told.form:
        more["type"], is_shown = _FORMS[told.form], False
    elif get_origin(told.kind) in (tuple, Sequence):
        more |= {"multiple": True, "type": _type(told, get_args(told.kind)[0])}
        is_shown = False
    else:
        more["type"] = _type(told, told.kind)
    return Option(
        [told.name, *filter(None, [told.flag]), long],
        help=told.help,
        required=told.needed,
        show_default=is_shown,
        metavar=told.metavar,
        aliases=told.aliases,
        callback=checked(_CHECKS[told.check]) if told.check else None,
        **more,
    )


def _type(told: Setting, kind: Any) -> Any:
    choices = told.choices or (get_args(kind) if get_origin(kind) is Literal else ())
    if choices:
        return (_Numbers if isinstance(choices[0], int) else click.Choice)([str(choice) for choice in choices])
    if kind is int and told.least is not None:
        return click.IntRange(int(told.least))
    if kind is float and told.least is not None and told.most is not None:
        return click.FloatRange(told.least, told.most)
    return kind
