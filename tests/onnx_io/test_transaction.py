"""Any file, written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from onnx_ghn.errors import ModelWriteError
from onnx_ghn.onnx_io import check_target, write_file


def test_bytes_and_pieces(tmp_path: Path) -> None:
    assert write_file(tmp_path / "a", b"one").read_bytes() == b"one"
    assert write_file(str(tmp_path / "b"), iter([b"one", b"", b"two"])).read_bytes() == b"onetwo"
    assert write_file(tmp_path / "d", "1 × 3").read_bytes() == b"1 \xc3\x97 3"
    assert write_file(tmp_path / "c", b"").read_bytes() == b""


def test_a_relative_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert write_file("a", b"one") == Path("a")
    assert (tmp_path / "a").read_bytes() == b"one"


def test_what_exists_is_replaced_only_if_told(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(ModelWriteError, match="exists already"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    write_file(path, b"new", force=True)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "a").symlink_to("precious")
    with pytest.raises(ModelWriteError, match="exists already"):
        write_file(tmp_path / "a", b"new")
    write_file(tmp_path / "a", b"new", force=True)
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert not (tmp_path / "a").is_symlink()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "is not the name of a file; name a picture"),
        ("a\0b", "is not the name of a file; name a picture"),
        ("folder", "is a directory; name a picture in it"),
        ("none/a", "there is no folder"),
        ("pipe", "is a device, pipe or socket"),
    ],
)
def test_names_that_cannot_be_written(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for refuse in (
        lambda path: check_target(path, True, "a picture"),
        lambda path: write_file(path, b"new", force=True, what="a picture"),
    ):
        with pytest.raises(ModelWriteError, match=says):
            refuse(f"{tmp_path}/{name}")


def test_permissions(tmp_path: Path) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    old = os.umask(0o027)
    try:
        path = write_file(tmp_path / "a", b"one")
        assert mode(path) == 0o640
        for kept in (0o600, 0o666, 0o444):
            path.chmod(kept)
            assert mode(write_file(path, b"two", force=True)) == kept
        (tmp_path / "link").symlink_to("a")  # everybody's, as links are
        assert mode(write_file(tmp_path / "link", b"two", force=True)) == 0o640
    finally:
        os.umask(old)


def test_errors_leave_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def breaks() -> Iterator[bytes]:
        yield b"new"
        raise KeyError

    with pytest.raises(KeyError):
        write_file(path, breaks(), force=True)

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelWriteError, match=r"no space left.*free some space"):
        write_file(path, b"new", force=True)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
