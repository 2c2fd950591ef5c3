"""What commands print with: a console for tables; a spinner and a bar on stderr, silent where that is no terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["bar", "console", "say", "spinner"]


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


@contextlib.contextmanager
def spinner(what: str) -> Iterator[None]:
    """For work of unknown length, with the time that has passed."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task(what, total=None)
        yield


@contextlib.contextmanager
def bar(what: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """A function that is told how many more are done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total, completed=done)
        yield lambda count: progress.update(task, advance=count)
