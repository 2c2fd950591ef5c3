"""Running a command as a process: exit codes, and errors told in one line."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import click

from onnx_ghn.cli.terminal import say
from onnx_ghn.errors import OnnxGhnError, printable
from onnx_ghn.installing import not_installed

__all__ = ["run_command"]


def run_command(command: click.Command, argv: list[str] | None = None, name: str | None = None) -> None:
    """Run a command: exit 0 done, 2 a usage error, 130 and 143 stopped by Ctrl-C and by SIGTERM, 1 anything else; what
    is wrong is told in one line on stderr. A command that holds a model to limits exits 3 where it breaks them.
    """
    arguments = sys.argv[1:] if argv is None else argv
    _open_standard_streams()
    if "--debug" not in arguments:
        _silence_libraries()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names in a file may hold what the terminal cannot show
    try:
        with _ended_in_order():
            command.main(args=arguments, prog_name=name, standalone_mode=False)
            sys.stdout.flush()
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        # Arguments may hold what a terminal would obey.
        context = error.ctx if isinstance(error, click.UsageError) else None
        shown = click.UsageError(printable(error.format_message()), context)
        with contextlib.suppress(OSError):
            shown.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        say("interrupted")
        sys.exit(130)
    except _Terminated as stop:
        say("terminated")
        sys.exit(128 + stop.number)
    except BrokenPipeError:
        sys.exit(1)  # who read what we print has seen enough (`| head`)
    except Exception as error:  # the last line of defence: told, never swallowed
        if "--debug" in arguments:
            raise
        say(_one_line(error))
        sys.exit(1)
    finally:
        _drop_broken_streams()


class _Terminated(BaseException):
    """A signal asks the process to end. Like an interruption it passes all that catches errors, and cleans up."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """Context in which SIGTERM and SIGHUP end the work as Ctrl-C does: half-written files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise _Terminated(number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # What is ignored (`nohup`) stays so.
    before = {n: signal.signal(n, end) for n in numbers if signal.getsignal(n) is signal.SIG_DFL}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _open_standard_streams() -> None:
    """Open what was closed (`>&-`) on nothing: the next file would get its number, and be printed into."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # Numbers are given from the lowest, so this one gets `number`.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            _open_on_nothing(name, mode)


def _drop_broken_streams() -> None:
    """Let nothing more be written where there is no room, or nobody who reads: Python would try once more at its end,
    complain, and exit with 120.
    """
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except OSError:
            _open_on_nothing(name, "w")
        except ValueError:  # closed already
            continue


def _open_on_nothing(name: str, mode: str) -> None:
    setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - it stays open


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
    if isinstance(error, ModuleNotFoundError) and (told := not_installed(error, "this command")) is not None:
        return f"error: {told}"
    if isinstance(error, MemoryError):
        return "error: out of memory; close other programs, or use a machine with more"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:
        # All else that writes tells its target; this is what we print.
        return "error: no space left where the output of this command goes; free some space"
    if isinstance(error, FileNotFoundError) and error.filename is None and not _has_working_directory():
        return "error: the working directory is no more; change to one that is there, or give absolute paths"
    text = " ".join(str(error).split())
    kind = type(error).__name__
    return f"error: unexpected {kind}: {text[:300]}; run again with `onnx-ghn --debug` and report what it prints"


def _has_working_directory() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True
