"""Options that several commands have, written once. Nothing heavy is imported here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import click

from onnx_ghn.cli.checks import check_ghn, check_model
from onnx_ghn.cli.commands import Option, checked
from onnx_ghn.errors import OptionError
from onnx_ghn.settings import Settings, setting

__all__ = [
    "Machine",
    "as_json",
    "force",
    "ghn",
    "model",
    "named_shape",
    "output",
    "seed",
    "shape",
    "together",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Decorator(Protocol):
    """What adds options to a command."""

    def __call__(self, command: _Command, /) -> _Command: ...


def together(*options: _Decorator) -> _Decorator:
    """A decorator that adds all of them, in this order."""

    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def ghn(help_text: str) -> _Decorator:
    """A GHN, as `ghn`: a shipped name, a folder, a published file."""
    return click.option(
        "-C",
        "--ghn",
        cls=Option,
        aliases=["--ckpt"],
        metavar="GHN",
        callback=checked(check_ghn),
        help=f"{help_text}: a shipped name (see `ghns`), a folder, or a published .pt file.",
    )


def output(help_text: str) -> _Decorator:
    """The file to write, as `output`."""
    return click.option("-o", "--output", required=True, metavar="FILE", help=help_text)


model = click.argument("model", callback=checked(check_model))
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
force = click.option("--force", is_flag=True, help="Overwrite an existing output file.")
seed = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed.")


def shape(text: str | tuple[int, ...]) -> tuple[int, ...]:
    """A type of options: a shape, such as `1x3x224x224`; commas between are accepted, too."""
    if isinstance(text, tuple):
        return text
    try:
        return tuple(int(side) for side in text.replace("×", "x").replace(",", "x").split("x")) if text else ()
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no shape; write 1x3x224x224") from error


def named_shape(text: str | tuple[str, tuple[int, ...]]) -> tuple[str, tuple[int, ...]]:
    """A type of options: the name of an input, or none, and a shape, such as `images:1x3x224x224`."""
    if isinstance(text, tuple):
        return text
    name, _, sides = text.rpartition(":")
    return name, shape(sides)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine(Settings):
    """What of this machine is used."""

    threads: int | None = setting(None, "Threads of each process on the CPU (default: all cores).", least=1)
    device: str | None = setting(None, "Device to compute on: cpu or cuda (default: cuda where there is one).")

    def set_up(self) -> str:
        """Give torch its threads, and say which device to use. Raises OptionError: it is not there."""
        import torch

        if self.threads:
            torch.set_num_threads(self.threads)
        if self.device is None:
            return "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            told = str(error)[:80]
            raise OptionError(f"`device` {self.device}: torch cannot use it here ({told}…); try cpu") from error
        return self.device
