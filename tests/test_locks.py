"""Temporary files and folders of processes that live are never taken for strays, whichever moment another one looks."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from onnx_ghn import locks, scratch
from onnx_ghn.locks import abandoned, try_lock
from onnx_ghn.onnx_io import strays

pytest.importorskip("fcntl")


def test_a_file_that_is_abandoned_is_held_while_it_is_judged(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with open(path, "rb") as file:
        with abandoned(str(path)) as is_stray:
            assert is_stray
            assert try_lock(file.fileno()) is False
        assert try_lock(file.fileno()) is True
        with abandoned(str(path)) as is_stray:
            assert not is_stray
    with abandoned(str(tmp_path / "absent")) as is_stray:
        assert not is_stray


def test_a_folder_that_has_just_begun_is_no_stray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may look between the making of the lock's file and its locking."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    looked = []

    def looked_at(fd: int) -> bool | None:
        looked.append(os.listdir(tmp_path))
        scratch._remove_strays(str(tmp_path))
        return try_lock(fd)

    monkeypatch.setattr(scratch, "try_lock", looked_at)
    with scratch.scratch_folder() as folder:
        assert looked == [[folder.name]]
        (folder / "file").write_bytes(b"kept")
        scratch._remove_strays(str(tmp_path))
        assert (folder / "file").read_bytes() == b"kept"
    assert os.listdir(tmp_path) == []


def test_a_file_under_construction_that_was_removed_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_calls = 0

    def looked_at(fd: int) -> bool | None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 1:
            strays.remove_strays(str(tmp_path))
        return try_lock(fd)

    monkeypatch.setattr(strays, "try_lock", looked_at)
    fd, path = strays.create_stray(str(tmp_path), "m.onnx", 0o600)
    try:
        assert n_calls == 2
        strays.remove_strays(str(tmp_path))
        assert os.listdir(tmp_path) == [os.path.basename(path)]
    finally:
        os.close(fd)
    strays.remove_strays(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_a_stray_is_held_until_it_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who makes a file of that name meanwhile, and would lock it, must see that it is about to go."""
    (tmp_path / strays.stray_name("m.onnx")).touch()
    unlink = os.unlink
    seen = []

    def watched(path: str) -> None:
        with open(path, "rb") as file:
            seen.append(locks.try_lock(file.fileno()))
        unlink(path)

    monkeypatch.setattr(os, "unlink", watched)
    strays.remove_strays(str(tmp_path))
    assert seen == [False]
    assert os.listdir(tmp_path) == []
