"""Context managers that keep from the terminal what converters print and log about themselves."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator

__all__ = ["captured", "quiet"]


@contextlib.contextmanager
def captured() -> Iterator[Callable[[], str]]:
    """Redirect both output streams of the process to a file; the context's value is a function that reads it."""
    with tempfile.TemporaryFile() as file:

        def text() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        sys.stdout.flush()
        sys.stderr.flush()
        duplicates = [(stream, os.dup(stream)) for stream in (1, 2)]
        try:
            for stream, _ in duplicates:
                os.dup2(file.fileno(), stream)
            yield text
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, duplicate in duplicates:
                os.dup2(duplicate, stream)
                os.close(duplicate)


@contextlib.contextmanager
def quiet(name: str) -> Iterator[None]:
    """Suppress warnings, and everything below errors from the logger called `name`."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
