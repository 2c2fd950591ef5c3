"""What commands print with: a console for tables; a spinner and a bar on stderr, silent where that is no terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

__all__ = ["Bar", "bar", "console", "say", "spinner"]


def say(text: str) -> None:
    """Print a line on stderr."""
    import click

    click.echo(text, err=True)


def console(width: int = 160) -> Console:
    """Names from foreign files are printed as they are: neither markup nor emoji.

    Args:
        width: where the output is piped, for programs and logs: no wrapping at 80 columns.
    """
    from rich.console import Console

    plain = Console(markup=False, emoji=False)
    return plain if plain.is_terminal else Console(width=width, markup=False, emoji=False)


class Bar:
    """A progress bar; one without a Progress shows nothing. Calling it advances it.

    Args:
        progress: rich's, with one task.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress

    def __call__(self, count: int = 1) -> None:
        """So many more are done."""
        if self._progress is not None:
            self._progress.advance(self._progress.task_ids[0], count)

    def show(self, done: int, total: int | None = None, text: str | None = None) -> None:
        """So many are done, of a new total and with a new text where they are given."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=done, total=total, description=text)


@contextlib.contextmanager
def bar(what: str, total: int | None = None, done: int = 0, *, keep: bool = False) -> Iterator[Bar]:
    """A bar with the time that has passed and the time left.

    Args:
        what: is being done.
        total: of how many; None where it is not known yet.
        done: how many of them from before.
        keep: leave the bar on the terminal when it ends.
    """
    if not sys.stderr.isatty():
        yield Bar()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with _progress(*columns, keep=keep) as progress:
        progress.add_task(what, total=total, completed=done)
        yield Bar(progress)


@contextlib.contextmanager
def spinner(what: str) -> Iterator[None]:
    """For work of unknown length, with the time that has passed."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.progress import SpinnerColumn, TimeElapsedColumn

    with _progress(SpinnerColumn(), TimeElapsedColumn()) as progress:
        progress.add_task(what, total=None)
        yield


def _progress(*columns: ProgressColumn, keep: bool = False) -> Progress:
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    text = TextColumn("{task.description}", markup=False)  # names from files are not markup
    return Progress(text, *columns, console=Console(stderr=True), transient=not keep)
