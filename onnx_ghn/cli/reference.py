"""The reference of all commands, made from the commands themselves: python -m onnx_ghn.cli.reference > docs/cli.md"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from onnx_ghn.cli.commands import Option
from onnx_ghn.cli.group import cli

__all__ = ["reference"]

_HEAD = """# Commands

<!-- Made by `python -m onnx_ghn.cli.reference > docs/cli.md`; not to be edited. -->

Every command exits with 0 when it is done, with 2 after an error of usage, and with 1 after any other error, which it
tells in one line. `onnx-ghn --debug COMMAND` shows the traceback. Options may be spelt with underscores, as the
published code does (`--batch_size`).
"""


def reference() -> str:
    """The page, in Markdown."""
    with click.Context(cli, info_name="onnx-ghn", **cli.context_settings) as context:
        return _HEAD + "".join(_section(command, inner) for command, inner in _commands(cli, context))


def _commands(group: click.Group, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """All commands that do something, in the order of the help."""
    for name in group.list_commands(context):
        command = group.commands[name]
        inner = click.Context(command, info_name=name, parent=context, **command.context_settings)
        if isinstance(command, click.Group):
            yield from _commands(command, inner)
        else:
            yield command, inner


def _section(command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    text = f"\n## {context.command_path}\n\n`{usage}`\n\n{_paragraphs(command.help or '')}\n"
    rows = [_row(param, context) for param in command.params if isinstance(param, click.Option) and not param.hidden]
    return text + "\n| option | |\n|---|---|\n" + "".join(f"| {names} | {told} |\n" for names, told in rows)


def _paragraphs(text: str) -> str:
    """Help in Markdown: what click is asked not to wrap is a block of code."""
    found = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b\n"):
            found.append("\n".join(f"    {line}" for line in paragraph[2:].splitlines()))
        else:
            found.append(_escaped(paragraph))
    return "\n\n".join(found)


def _row(option: click.Option, context: click.Context) -> tuple[str, str]:
    record = option.get_help_record(context)
    assert record is not None
    names, told = record
    also = ", ".join(f"`{alias}`" for alias in option.aliases) if isinstance(option, Option) else ""
    told = _escaped(" ".join(told.split())) + (f" Also {also}." if also else "")
    return f"`{names}`".replace("|", "\\|"), told


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    click.echo(reference(), nl=False)
