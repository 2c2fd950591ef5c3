"""Running commands as a user does, and what every run must keep to."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import onnx

from onnx_ghn.cli import main

_USAGE = ("Usage: ", "Try '")  # click's own lines before "Error: ..."


class Outcome(NamedTuple):
    """Exit code and what was printed. `err` is what the file descriptor got: of libraries in C++ too."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Lines of stderr that tell of an error: neither the untrained notice nor click's usage."""
        told = [line for line in self.err.splitlines() if line.strip()]
        return [line for line in told if " is untrained (seed " not in line and not line.startswith(_USAGE)]


def command(*arguments: object) -> Outcome:
    """One command in this process, through the entry point."""
    out = io.StringIO()
    code: object = 0
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as err:
        saved = os.dup(2)
        os.dup2(err.fileno(), 2)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            err.flush()
            os.dup2(saved, 2)
            os.close(saved)
        err.seek(0)
        text = err.read()
    assert isinstance(code, int)
    return Outcome(code, out.getvalue(), text)


def save(folder: Path, proto: onnx.ModelProto | bytes) -> Path:
    """In a folder of its own, so that what lies beside it can be watched."""
    folder.mkdir(exist_ok=True)
    path = folder / "m.onnx"
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return path


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Code in a process of its own, that can import the tests' modules."""
    folder = os.path.dirname(__file__)
    path = os.pathsep.join([folder, os.path.join(folder, "..", ".."), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def snapshot(folder: Path) -> dict[str, str]:
    """Every file of a folder by its content; links and devices by what they are."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[str(path)] = "other"
    return found


def one_line(outcome: Outcome, *words: str) -> str:
    """The one line of a failure, which is an error that the library foresaw and tells what to do."""
    assert outcome.code in (1, 2), outcome
    assert len(outcome.lines) == 1, outcome.err
    line = outcome.lines[0]
    assert line.lower().startswith("error: "), line
    assert "Traceback" not in outcome.err, outcome.err
    assert not line.startswith("error: unexpected"), line  # the last line of defence, for what nobody foresaw
    for word in words:
        assert word in line, line
    return line


class Predictor:
    """`predict` with a small GHN, held to what every run must keep to."""

    def __init__(self, folder: Path, ghn: Path) -> None:
        self.folder = folder  # of the output alone
        self.ghn = ghn
        self.output = folder / "out.onnx"

    def __call__(self, model: object, *options: object, watch: Path | None = None) -> Outcome:
        """Run on a file; nothing may change in the folder `watch`, nor be left beside the output."""
        before = snapshot(watch) if watch is not None else {}
        ghn = () if "--ghn" in options else ("--ghn", self.ghn)
        outcome = command("predict", model, "-o", self.output, *ghn, *options)
        assert (snapshot(watch) if watch is not None else {}) == before
        names = sorted(path.name for path in self.folder.iterdir())
        if outcome.code:
            one_line(outcome)
            assert names == []
            assert outcome.out == ""
        else:
            assert outcome.lines == [], outcome.err
            assert outcome.out
            assert set(names) <= {"out.onnx", "out.onnx.data"}
            assert "out.onnx" in names
        return outcome

    def fails(self, model: object, *words: str, options: tuple[object, ...] = (), watch: Path | None = None) -> str:
        """Exit 1 with one line that has all the words."""
        outcome = self(model, *options, watch=watch)
        assert outcome.code == 1, outcome
        return one_line(outcome, *words)

    def works(self, model: object, *options: object, watch: Path | None = None) -> onnx.ModelProto:
        """Exit 0; the model written."""
        outcome = self(model, *options, watch=watch)
        assert outcome.code == 0, outcome.err
        return self.take()

    def take(self) -> onnx.ModelProto:
        """The output, which parses; it is removed."""
        proto = onnx.load(str(self.output))
        assert proto.HasField("graph")
        self.clear()
        return proto

    def clear(self) -> None:
        """Remove the output."""
        for path in self.folder.iterdir():
            path.unlink()


Change = Callable[[onnx.ModelProto], object]
