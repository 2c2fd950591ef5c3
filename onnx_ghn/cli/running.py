"""Running a command as a process: exit codes, and errors told in one line."""

from __future__ import annotations

import errno
import io
import os
import sys

import click

from onnx_ghn.cli.terminal import say
from onnx_ghn.errors import OnnxGhnError

__all__ = ["run_command"]


def run_command(command: click.Command, argv: list[str] | None = None, name: str | None = None) -> None:
    """Run a command: exit 0 done, 2 a usage error, 1 anything else, told in one line on stderr."""
    arguments = sys.argv[1:] if argv is None else argv
    if "--debug" not in arguments:
        _silence_libraries()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names in a file may hold what the terminal cannot show
    try:
        command.main(args=arguments, prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        say("interrupted")
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(1)
    except BrokenPipeError:
        # Who read what we print has seen enough (`| head`); Python would complain once more at its end.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - it stays open till then
        sys.exit(1)
    except Exception as error:  # the last line of defence: told, never swallowed
        if "--debug" in arguments:
            raise
        say(_one_line(error))
        sys.exit(1)


def _silence_libraries() -> None:
    """Libraries log what they mend on the way (onnx_ir); on a command line only our own warnings are news."""
    import logging

    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())  # without any, logging prints warnings by its last resort
    if logging.lastResort is not None:
        logging.getLogger("onnx_ghn").addHandler(logging.lastResort)


def _one_line(error: Exception) -> str:
    if isinstance(error, OnnxGhnError):
        return f"error: {error}"
    if isinstance(error, MemoryError):
        return "error: out of memory; close other programs, or use a machine with more"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:
        # All else that writes tells its target; this is what we print.
        return "error: no space left where the output of this command goes; free some space"
    text = " ".join(str(error).split())
    kind = type(error).__name__
    return f"error: unexpected {kind}: {text[:300]}; run again with `onnx-ghn --debug` and report what it prints"
