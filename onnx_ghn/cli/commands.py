"""The commands' classes: published spellings of options, and errors that speak of options."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

import click

from onnx_ghn.errors import OnnxGhnError

__all__ = ["Command", "Group", "Option"]


class Option(click.Option):
    """An option with further spellings, which are accepted but not listed.

    Args:
        aliases: such as ("-n",).
    """

    def __init__(self, *args: Any, aliases: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.aliases = tuple(aliases)


class Command(click.Command):
    """A command whose options are kebab-case and may be given as the published code spells them (`--batch_size`)."""

    def make_parser(self, ctx: click.Context) -> Any:
        """Add to the parser the spellings that are accepted but not listed."""
        parser = super().make_parser(ctx)
        for option in _options(self, ctx):
            twin = copy.copy(option)
            twin.opts = [*_snake_case(option.opts), *(option.aliases if isinstance(option, Option) else ())]
            twin.secondary_opts = _snake_case(option.secondary_opts)
            if twin.opts or twin.secondary_opts:
                twin.add_to_parser(parser, ctx)
        return parser

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; what a misspelt option may have meant is told in the listed spelling."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            listed = {name for option in _options(self, ctx) for name in (*option.opts, *option.secondary_opts)}
            meant = [name for name in error.possibilities or () if name in listed]
            raise click.NoSuchOption(error.option_name, possibilities=meant, ctx=ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run. The library's errors name its arguments (`batch_size`); the user knows them as options."""
        try:
            return super().invoke(ctx)
        except OnnxGhnError as error:
            error.args = (_speak_of_options(str(error), _options(self, ctx)),)
            raise


class Group(click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type


def _options(command: click.Command, ctx: click.Context) -> list[click.Option]:
    return [param for param in command.get_params(ctx) if isinstance(param, click.Option)]


def _snake_case(names: Sequence[str]) -> list[str]:
    return [f"--{name[2:].replace('-', '_')}" for name in names if name.startswith("--") and "-" in name[2:]]


def _speak_of_options(message: str, options: Sequence[click.Option]) -> str:
    """Write --batch-size for a word `batch_size` in backticks that is the name of an option."""
    names = {option.name: next((n for n in option.opts if n.startswith("--")), option.opts[0]) for option in options}
    return re.sub(r"`(\w+)`", lambda match: names.get(match[1], match[0]), message)
