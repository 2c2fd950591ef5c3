"""Options that several commands have, written once. Nothing heavy is imported here."""

from __future__ import annotations

import dataclasses

import click

from onnx_ghn.cli.checks import check_model
from onnx_ghn.cli.commands import checked
from onnx_ghn.errors import OptionError
from onnx_ghn.settings import Settings, required, setting

__all__ = ["Machine", "as_json", "force", "given", "model", "output"]

model = click.argument("model", callback=checked(check_model))


def force(help_text: str = "Overwrite an existing output file.") -> bool:
    """Whether what is there is written over."""
    return setting(False, help_text)


def as_json(printed: str = "the result") -> bool:
    """Whether something is printed as JSON."""
    return setting(False, f"Print {printed} as JSON.", option="--json")


def given() -> list[str]:
    """The parameters of the running command that were given on the command line, not by their defaults."""
    context = click.get_current_context()
    source = click.core.ParameterSource.COMMANDLINE
    return [name for name in context.params if context.get_parameter_source(name) is source]


def output(help_text: str, metavar: str = "FILE") -> str:
    """What to write."""
    path: str = required(help_text, "-o", metavar=metavar)
    return path


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
