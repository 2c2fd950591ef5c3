"""Running changed files through the commands. A failure is a traceback, a crash, half a file, or a changed input."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), *(str(HERE.parent / name) for name in ("cli", "onnx_io", "graph")), str(HERE.parents[1])]

import onnx  # noqa: E402
from cases import Case, Seeds, make_case  # noqa: E402
from cli_tools import command, snapshot  # noqa: E402

__all__ = ["fuzz", "main"]

_SECONDS = 120  # that a command may take on a file of a few kilobytes


def fuzz(folder: Path, n_files: int, seed: int, first: int = 0) -> list[str]:
    """Try files `first` to `first + n_files` of a seed; what failed, one text each with the number of the file.

    Each command runs in a process of its own, so that a crash is a result and not the end.
    Failures are printed when found, for thousands of files take an hour.
    """
    seeds = Seeds(folder)
    _load_libraries(seeds, folder)
    failures = []
    for number in range(first, first + n_files):
        rng = random.Random(f"{seed}-{number}")
        place = folder / "case"
        case = make_case(seeds, place, rng)
        failure = _tried(case, place / "told")
        if failure is not None:
            failures.append(f"file {number} of seed {seed}, {case.what}: {failure}")
            sys.stdout.write(f"{failures[-1]}\n")
            sys.stdout.flush()
        shutil.rmtree(place)
    return failures


def _load_libraries(seeds: Seeds, folder: Path) -> None:
    """Once, before all processes: torch, onnxruntime and our own modules."""
    child = os.fork()
    if not child:  # in a process of its own, for onnxruntime's threads do not survive a fork
        code = 1
        try:
            command("predict", seeds.model, "--ghn", seeds.ghn, "-o", folder / "first.onnx")
            seeds.prepare()
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("the sound files cannot be evaluated and trained")
    import onnxruntime  # noqa: F401
    import torch

    import onnx_ghn.deepnets1m
    import onnx_ghn.prediction.predicting  # noqa: F401

    torch.set_num_threads(1)


def _tried(case: Case, told: Path) -> str | None:
    """What failed; None: nothing."""
    before = snapshot(case.inputs)
    child = os.fork()
    if not child:
        code = 70
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_SECONDS)
            found = _judged(case)
            told.write_text(found or "", "utf-8", "backslashreplace")
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return "still runs" if number == signal.SIGALRM else f"killed by {signal.Signals(number).name}"
    if os.WEXITSTATUS(status):
        return "the process failed outside the command"
    if snapshot(case.inputs) != before:
        return "an input was changed"
    return told.read_text("utf-8") or None


def _judged(case: Case) -> str | None:
    outcome = command(*case.arguments)
    text = outcome.err[-2000:]
    if "Traceback" in outcome.err:
        return f"traceback: {text}"
    left = [path for path in case.output.parent.rglob("*") if path.is_file() and "runs" not in path.parts]
    if any(path.name.startswith(".") for path in left):
        return f"left {[path.name for path in left]}"
    if outcome.code not in (0, 1, 2):
        return f"exit {outcome.code}: {text}"
    if outcome.code:
        errors = [line for line in outcome.lines if line.lower().startswith("error: ")]
        if len(errors) != 1:
            return f"{len(errors)} lines of error: {text}"
        if "error: unexpected" in errors[0]:
            return f"nobody foresaw: {text}"
        return f"half a file: {[path.name for path in left]}" if left else None
    if case.output.suffix and case.arguments[0] != "deepnets" and not case.output.is_file():
        return "no output"
    if case.output.suffix == ".onnx" and case.output.is_file():
        onnx.load(str(case.output))
    return None


def main() -> None:
    """The command line: what failed, and exit 1 if anything did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000, help="How many files to try.")
    parser.add_argument("--seed", type=int, default=0, help="The seed of the changes.")
    parser.add_argument("--first", type=int, default=0, help="The number of the first file, to try one again.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        failures = fuzz(Path(folder), given.files, given.seed, given.first)
    sys.stdout.write(f"{given.files} files, {len(failures)} failures\n")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
