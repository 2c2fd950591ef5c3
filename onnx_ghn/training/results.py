"""Results of many pieces of work in a file of JSON lines: written as they come, gone on with after a stop."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from onnx_ghn.errors import DataError, ModelWriteError
from onnx_ghn.json_types import Json
from onnx_ghn.onnx_io.continuing import open_to_continue

__all__ = ["ResultsFile"]


class ResultsFile:
    """Records by name. The first line says what they are results of; another run's file is refused.

        with ResultsFile(path, {"split": "test"}) as results:
            if name not in results.records: results.add(name, {"top1": 40.0})

    Args:
        path: of the file; None keeps records in memory alone.
        settings: what JSON can hold.
        figures: what each record has to hold as a finite number, unless it says under `error` why it does not.

    Raises:
        DataError: a file of other settings, or damaged before its last line.
        ModelWriteError: it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str] | None, settings: Json, figures: Sequence[str] = ()) -> None:
        self.path = None if path is None else Path(path)
        self.records: dict[str, dict[str, Any]] = {}
        self._settings: dict[str, Any] = json.loads(json.dumps(settings))
        self._figures = tuple(figures)
        self._file: int | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if self.path is None:
            return self
        with contextlib.ExitStack() as stack:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = stack.enter_context(open_to_continue(self.path))
                size = self._read(self._file)
                os.ftruncate(self._file, size)
                os.lseek(self._file, size, os.SEEK_SET)
                if not size:
                    self._write({"settings": self._settings})
            except OSError as error:
                raise ModelWriteError(f"{self.path}: cannot be written ({error.strerror})") from error
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def add(self, name: str, record: Json) -> None:
        """Keep a record. Raises ModelWriteError."""
        self.records[name] = record
        if self._file is not None:
            try:
                self._write({"name": name, **record})
            except OSError as error:
                raise ModelWriteError(f"{self.path}: cannot be written ({error.strerror}); free some space") from error

    def _write(self, line: Json) -> None:
        assert self._file is not None
        data = memoryview(json.dumps(line).encode() + b"\n")
        while data:
            data = data[os.write(self._file, data) :]

    def _read(self, fd: int) -> int:
        """Take up the records; the bytes of whole lines. A last line without its end is dropped."""
        with open(fd, "rb", closefd=False) as file:
            data = file.read()
        size = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:size].splitlines(), start=1):
            try:
                found = json.loads(line)
                if number == 1:
                    theirs = dict(found["settings"])
                else:
                    name = str(found.pop("name"))
                    self.records[name] = _sound(dict(found), self._figures)
            except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
                raise DataError(f"{self.path}: line {number} is no result; name another file") from error
            if number == 1 and theirs != self._settings:
                differ = sorted(k for k in {*theirs, *self._settings} if theirs.get(k) != self._settings.get(k))
                raise DataError(f"{self.path}: results of other settings ({', '.join(differ)}); name another file")
        return size


def _sound(record: dict[str, Any], figures: Sequence[str]) -> dict[str, Any]:
    """The record. Raises ValueError: a figure is missing, or no finite number."""
    if isinstance(record.get("error"), str):
        return record
    for key in figures:
        value = record.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(key)
    return record
