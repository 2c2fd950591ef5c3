"""The least of all limits on memory is the one that counts."""

from __future__ import annotations

import resource
from pathlib import Path

import psutil
import pytest

from onnx_ghn import limits
from onnx_ghn.limits import memory_bytes


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Control groups of our own, in which the process is in a/b."""
    root = tmp_path / "cgroup"
    (root / "a" / "b").mkdir(parents=True)
    (root / "memory" / "a" / "b").mkdir(parents=True)
    (tmp_path / "own").write_text("0::/a/b\n")
    monkeypatch.setattr(limits, "_CGROUPS", root)
    monkeypatch.setattr(limits, "_OWN_CGROUPS", tmp_path / "own")
    return root


@pytest.mark.parametrize(
    "where", ["memory.max", "a/memory.max", "a/b/memory.max", "a/b/memory.high", "memory/memory.limit_in_bytes"]
)
def test_control_groups(groups: Path, where: str) -> None:
    whole = memory_bytes()
    (groups / where).write_text("max\n")
    assert memory_bytes() == whole
    (groups / where).write_text("1073741824\n")
    assert memory_bytes() == 1 << 30


def test_control_groups_of_version_1(groups: Path, tmp_path: Path) -> None:
    (tmp_path / "own").write_text("12:cpu,cpuacct:/c\n4:memory:/a/b\n")
    (groups / "memory" / "a" / "memory.limit_in_bytes").write_text(str(1 << 29))
    assert memory_bytes() == 1 << 29
    (groups / "memory" / "a" / "b" / "memory.limit_in_bytes").write_text(str(1 << 28))
    assert memory_bytes() == 1 << 28


@pytest.mark.parametrize("content", ["", "0::/absent\n", "no line of it", "0::/../../etc\n"])
def test_groups_that_are_not_there(groups: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "own").write_text(content)
    assert memory_bytes() <= psutil.virtual_memory().total
    (tmp_path / "own").unlink()
    assert memory_bytes() <= psutil.virtual_memory().total


@pytest.mark.parametrize("extra", [1 << 28, 1 << 30])
def test_limits_of_the_process(extra: int) -> None:
    """Of addresses (`ulimit -v`) what is not used yet counts, of data (`ulimit -d`) all."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = psutil.Process().memory_info()
    resource.setrlimit(resource.RLIMIT_AS, (used.vms + extra, hard))
    try:
        assert memory_bytes() == pytest.approx(used.rss + extra, rel=0.05)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used.data + extra, hard))
    try:
        assert memory_bytes() <= used.data + extra
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
