"""Options of commands from settings: a command that takes a dataclass has an option for each of its settings."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import click

from onnx_ghn.cli.checks import check_file, check_ghn, check_pattern
from onnx_ghn.settings import Setting, made, settings_of

__all__ = ["Option", "checked", "from_settings"]

Given = TypeVar("Given", str | None, tuple[str, ...])

CHECKS = "onnx_ghn.checks"  # in a context's meta: checks, and what each is of
_CHECKS: dict[str, Callable[[str], None]] = {"ghn": check_ghn, "file": check_file, "pattern": check_pattern}


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
        callback: what the command does. It takes dataclasses with settings, and the values of parameters.
        params: the parameters that are written by hand.
    """
    hints = get_type_hints(callback)
    kinds = {name: kind for name, kind in hints.items() if hasattr(kind, "__dataclass_fields__")}
    by_hand = {param.name: param for param in params}
    found: list[click.Parameter] = []
    taken = list(inspect.signature(callback).parameters)
    for name in taken:
        if name in kinds:
            found += _options(kinds[name])
        elif name in by_hand:
            found.append(by_hand.pop(name))

    @functools.wraps(callback)
    def call(**given: Any) -> Any:
        own = {name: given[name] for name in taken if name not in kinds}
        return callback(**{name: made(kind, given) for name, kind in kinds.items()}, **own)

    return call, [*by_hand.values(), *found]


def _options(kind: type) -> Iterator[click.Option]:
    hints = get_type_hints(kind)
    for name, told, default in settings_of(kind):
        yield _option(name, told, default, hints[name])


def _option(name: str, told: Setting, default: Any, hint: Any) -> click.Option:
    hint, is_optional = _without_none(hint)
    long = told.option or f"--{name.replace('_', '-')}"
    is_switch = hint is bool and (default is True or is_optional)
    names = f"{long}/--no-{long[2:]}" if is_switch else long
    is_shown = told.shown and told.imagenet is None and (is_switch or default is not False) and default is not None
    more: dict[str, Any] = {} if told.needed else {"default": None if told.imagenet is not None else default}
    if hint is bool:
        more["is_flag"] = True
    elif get_origin(hint) in (tuple, Sequence):
        more |= {"multiple": True, "type": _type(told, get_args(hint)[0])}
        is_shown = False
    else:
        more["type"] = _type(told, hint)
    return Option(
        [name, *filter(None, [told.flag]), names],
        help=told.help,
        required=told.needed,
        show_default=is_shown,
        metavar=told.metavar,
        aliases=told.aliases,
        callback=checked(_CHECKS[told.check]) if told.check else None,
        **more,
    )


def _without_none(hint: Any) -> tuple[Any, bool]:
    """The type of `X | None`, and whether it is one."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, False
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    return (kinds[0] if kinds else str), len(kinds) < len(get_args(hint))


def _type(told: Setting, hint: Any) -> Any:
    choices = told.choices or (get_args(hint) if get_origin(hint) is Literal else ())
    if choices:
        return (_Numbers if isinstance(choices[0], int) else click.Choice)([str(choice) for choice in choices])
    if hint in (int, float) and (told.least, told.most) != (None, None):
        kind: Any = click.IntRange if hint is int else click.FloatRange
        return kind(told.least, told.most)
    return hint
