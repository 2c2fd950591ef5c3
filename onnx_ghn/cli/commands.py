"""The commands' classes: published spellings of options, and errors that speak of options."""

from __future__ import annotations

import copy
import difflib
import importlib
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import click

from onnx_ghn.cli.settings_options import CHECKS, Option, checked, from_settings
from onnx_ghn.errors import OnnxGhnError

__all__ = ["Command", "CommandsOnDemand", "Group", "Option", "checked", "speak_of_options"]


class Command(click.Command):
    """A command whose options are kebab-case and may be given as the published code spells them (`--batch_size`).

    A function that takes a dataclass with settings has an option for each of them (`settings_options.from_settings`).
    """

    def __init__(
        self,
        name: str | None,
        *,
        callback: Callable[..., Any],
        params: Sequence[click.Parameter] | None = None,
        **more: Any,
    ) -> None:
        callback, params = from_settings(callback, params or ())
        super().__init__(name, callback=callback, params=params, **more)

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

    def invoke(self, ctx: click.Context) -> object:
        """Run, after the checks of what is given.

        The library's errors name its arguments (`batch_size`); the user knows them as options.
        """
        try:
            for check, value in ctx.meta.get(CHECKS, ()):
                check(value)
            return super().invoke(ctx)
        except OnnxGhnError as error:
            error.args = (speak_of_options(str(error), ctx),)
            raise


class Group(click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; of a misspelt one, say which may have been meant."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-") and not ctx.resilient_parsing:
            meant = difflib.get_close_matches(name, self.list_commands(ctx))
            told = f" Did you mean {' or '.join(meant)}?" if meant else ""
            raise click.UsageError(f"No such command {name!r}.{told}", ctx)
        return super().resolve_command(ctx, args)


class CommandsOnDemand(MutableMapping[str, click.Command]):
    """Commands by name, each imported when it is asked for: one command costs nothing of what the others import.

    Args:
        package: has their modules.
        homes: by the name of a command, that of its module, which defines it under the module's own name.
    """

    def __init__(self, package: str, homes: Mapping[str, str]) -> None:
        self._package = package
        self._homes = homes
        self._found: dict[str, click.Command | None] = dict.fromkeys(homes)

    def __getitem__(self, name: str) -> click.Command:
        command = self._found[name]
        if command is None:
            module = self._homes[name]
            command = getattr(importlib.import_module(f"{self._package}.{module}"), module)
            assert isinstance(command, click.Command), f"{self._package}.{module} has no command of its name"
            self._found[name] = command
        return command

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._found[name] = command

    def __delitem__(self, name: str) -> None:
        del self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, name: object) -> bool:  # the mixin's would import it
        return name in self._found


def _options(command: click.Command, ctx: click.Context) -> list[click.Option]:
    return [param for param in command.get_params(ctx) if isinstance(param, click.Option)]


def _snake_case(names: Sequence[str]) -> list[str]:
    return [f"--{name[2:].replace('-', '_')}" for name in names if name.startswith("--") and "-" in name[2:]]


def speak_of_options(message: str, ctx: click.Context) -> str:
    """Write --batch-size for a word `batch_size` in backticks that is the name of an option of the running command."""
    options = _options(ctx.command, ctx)
    names = {option.name: next((n for n in option.opts if n.startswith("--")), option.opts[0]) for option in options}
    return re.sub(r"`(\w+)`", lambda match: names.get(match[1], match[0]), message)
