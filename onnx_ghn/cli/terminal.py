"""What commands print with: a console for tables; a spinner and a bar on stderr, silent where that is no terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from onnx_ghn.errors import counted, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

    from onnx_ghn.training.logs import Report
    from onnx_ghn.training.loop import TrainingLoop
    from onnx_ghn.training.settings import RunConfig

_BAR, _LEAST_BAR = 40, 8  # widths in characters

__all__ = ["Bar", "bar", "begun", "console", "loop_progress", "say", "spinner", "tell", "training_progress"]


def say(text: str) -> None:
    """Print a line on stderr. Where that cannot be written, nobody is there to be told."""
    import click

    with contextlib.suppress(OSError, ValueError):
        click.echo(printable(text), err=True)


def tell(text: str) -> None:
    """Print a line on stdout, without what a terminal would obey in names of files."""
    import click

    click.echo(printable(text))


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
            told = None if text is None else printable(text)
            self._progress.update(self._progress.task_ids[0], completed=done, total=total, description=told)


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

    width = max(_LEAST_BAR, min(_BAR, _console().width // 4))
    columns = (MofNCompleteColumn(), BarColumn(width), TimeElapsedColumn(), TimeRemainingColumn())
    with _progress(*columns, keep=keep) as progress:
        progress.add_task(printable(what), total=total, completed=done)
        yield Bar(progress)


@contextlib.contextmanager
def spinner(what: str) -> Iterator[None]:
    """For work of unknown length, with the time that has passed."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.progress import SpinnerColumn, TimeElapsedColumn

    with _progress(SpinnerColumn(), TimeElapsedColumn()) as progress:
        progress.add_task(printable(what), total=None)
        yield


@contextlib.contextmanager
def training_progress(
    first: int, steps: int, interval: int, per_step: Mapping[str, float], *, silent: bool = False
) -> Iterator[Report | None]:
    """What is called after each step of training: a bar on a terminal, else a line after each interval.

    Args:
        first: the step that the run is at.
        steps: how many the run has.
        interval: steps between lines, over which the bar averages, too.
        per_step: what each step works through, by unit: {"nets": 8, "images": 512}.
        silent: show nothing.
    """
    if silent:
        yield None
        return
    import click

    from onnx_ghn.training.logs import mean_figures

    start, is_terminal = time.perf_counter(), sys.stderr.isatty()
    recent: deque[dict[str, float]] = deque(maxlen=interval)

    def summary(step: int) -> str:
        means = mean_figures(recent)
        seconds, skipped = max(means.pop("seconds"), 1e-9), means.pop("skipped", 0)
        parts = [f"{key} {value:.4g}" for key, value in means.items()]
        parts += [f"{amount / seconds:,.0f} {unit}/s" for unit, amount in per_step.items()]
        parts += [f"{seconds:.2f} s/step", f"{seconds * (steps - step) / 3600:.1f} h left"]
        if skipped:
            parts.append(f"skipped {int(skipped)}")
        return "  ".join(parts)

    with bar("training", steps, first, keep=True) as steps_bar:

        def report(step: int, figures: dict[str, float]) -> None:
            recent.append(figures)
            if is_terminal:
                steps_bar.show(step, text=summary(step))
            elif step % interval == 0 or step == steps:
                click.echo(f"step {step}/{steps}  {summary(step)}  ({time.perf_counter() - start:.0f} s)")

        yield report


def loop_progress(
    loop: TrainingLoop, settings: RunConfig, per_step: Mapping[str, float], *, silent: bool
) -> contextlib.AbstractContextManager[Report | None]:
    """`training_progress` of a loop from where it is."""
    return training_progress(loop.step, loop.steps, settings.log_interval, per_step, silent=silent)


def begun(loop: TrainingLoop, resumed: bool) -> str:
    """How many steps there are, or where a run goes on."""
    return f"going on from step {loop.step} of {loop.steps}" if resumed else counted(loop.steps, "step")


def _progress(*columns: ProgressColumn, keep: bool = False) -> Progress:
    from rich.progress import Progress, TextColumn
    from rich.table import Column

    # A narrow terminal cuts the text, never the time; names from files are not markup.
    text = TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True))
    return Progress(*columns, text, console=_console(), transient=not keep, expand=True)


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True)
