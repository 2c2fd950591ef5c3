"""How a library function tells of its progress, whoever shows it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

__all__ = ["Bar", "no_bar"]


class Bar(Protocol):
    """Opens a progress bar; the command line's is `onnx_ghn.cli.terminal.bar`."""

    def __call__(self, what: str, total: int, done: int = 0) -> AbstractContextManager[Callable[[int], None]]:
        """Show `what`, of which `done` of `total` are done; the function that is given is told how many more are."""


@contextlib.contextmanager
def no_bar(what: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show nothing."""
    yield lambda _: None
