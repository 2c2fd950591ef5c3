"""Results of many pieces of work in a file of JSON lines: written as they come, gone on with after a stop."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from onnx_ghn.errors import DataError, ModelWriteError
from onnx_ghn.json_types import Json

__all__ = ["ResultsFile"]


class ResultsFile:
    """Records by name. The first line says what they are results of; another run's file is refused.

        with ResultsFile(path, {"split": "test"}) as results:
            if name not in results.records: results.add(name, {"top1": 40.0})

    Args:
        path: of the file; None keeps records in memory alone.
        settings: what JSON can hold.

    Raises:
        DataError: a file of other settings, or damaged before its last line.
        ModelWriteError: it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str] | None, settings: Json) -> None:
        self.path = None if path is None else Path(path)
        self.records: dict[str, dict[str, Any]] = {}
        self._settings: dict[str, Any] = json.loads(json.dumps(settings))
        self._file: Any = None

    def __enter__(self) -> Self:
        if self.path is None:
            return self
        size = self._read() if self.path.exists() else 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "r+b" if size else "wb")
            self._file.truncate(size)
            self._file.seek(size)
            if not size:
                self._write({"settings": self._settings})
        except OSError as error:
            raise ModelWriteError(f"{self.path}: cannot be written ({error.strerror})") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, name: str, record: Json) -> None:
        """Keep a record. Raises ModelWriteError."""
        self.records[name] = record
        if self._file is not None:
            try:
                self._write({"name": name, **record})
            except OSError as error:
                raise ModelWriteError(f"{self.path}: cannot be written ({error.strerror}); free some space") from error

    def _write(self, line: Json) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()

    def _read(self) -> int:
        """Take up the records; the bytes of whole lines. A last line without its end is dropped."""
        assert self.path is not None
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror})") from error
        size = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:size].splitlines(), start=1):
            try:
                found = json.loads(line)
                if number == 1:
                    theirs = found["settings"]
                else:
                    self.records[found.pop("name")] = found
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                raise DataError(f"{self.path}: line {number} is no result; name another file") from error
            if number == 1 and theirs != self._settings:
                differ = sorted(k for k in {*theirs, *self._settings} if theirs.get(k) != self._settings.get(k))
                raise DataError(f"{self.path}: results of other settings ({', '.join(differ)}); name another file")
        return size
