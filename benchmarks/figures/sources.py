"""What was measured: benchmarks/results/sources.toml names each result, its command, machine, date and inputs."""

from __future__ import annotations

import dataclasses
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path

__all__ = ["RESULTS", "ROOT", "Source", "changed_since", "sources"]

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"


@dataclasses.dataclass(frozen=True)
class Source:
    """One measurement.

    Attributes:
        command: which one wrote it; it runs from a clone.
        data: which data it needs, and where to get them.
        machine: on what it ran, with the versions that matter.
        measured: year and month.
        revision: of this repository, when its first figure was measured.
        inputs: files and folders on which the figures depend.
        pages: the pages that show them.
        file: what the benchmark wrote, in benchmarks/results; empty where it was not kept: nothing can be checked.
    """

    command: str
    data: str
    machine: str
    measured: str
    revision: str
    inputs: tuple[str, ...]
    pages: tuple[str, ...]
    file: str = ""


def sources(path: Path = RESULTS / "sources.toml") -> Mapping[str, Source]:
    """By name. Raises TypeError: a field is missing or unknown."""
    read = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        name: Source(**{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})
        for name, fields in read.items()
    }


def changed_since(source: Source) -> list[str]:
    """Its inputs that differ from those of its revision, each with the number of files.

    Raises:
        LookupError: this is no checkout that knows the revision.
    """
    changed = []
    for path in source.inputs:
        command = ["git", "diff", "--name-only", source.revision, "--", path]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LookupError(f"git does not know the revision {source.revision}: a full clone is needed")
        if names := done.stdout.split():
            changed.append(path if names == [path] else f"{path} ({len(names)} files)")
    return changed
