"""Arrays of files of inputs, against what was saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnx_ghn.errors import OptionError
from onnx_ghn.input_files import read_arrays


def text(folder: Path, content: str) -> Path:
    path = folder / "samples.txt"
    path.write_text(content)
    return path


def test_arrays_come_back_as_they_were_saved(tmp_path: Path) -> None:
    one, two = np.arange(6, dtype=np.int32).reshape(2, 3), np.float16([0.5])
    np.save(tmp_path / "a.npy", one)
    np.savez_compressed(tmp_path / "a.npz", one=one, two=two)
    lone = read_arrays(tmp_path / "a.npy")
    assert isinstance(lone, np.ndarray)
    np.testing.assert_array_equal(lone, one)
    named = read_arrays(tmp_path / "a.npz")
    assert not isinstance(named, np.ndarray)
    assert {name: array.dtype for name, array in named.items()} == {"one": np.int32, "two": np.float16}
    np.testing.assert_array_equal(named["one"], one)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("3 1 4\n1 5\n\n9 -2 6 5\n", np.int64([[3, 1, 4, 0], [1, 5, 0, 0], [9, -2, 6, 5]])),
        ("0.5,1,-2\n1e-3, 2, 3\n", np.float32([[0.5, 1, -2], [1e-3, 2, 3]])),
        ("7\n", np.int64([[7]])),
    ],
)
def test_a_text_is_a_sample_a_line(content: str, expected: np.ndarray, tmp_path: Path) -> None:
    found = read_arrays(text(tmp_path, content))
    assert isinstance(found, np.ndarray)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("1 2\nthe cat sat\n", "sample 2: 'the' is no number"),
        ("", "no numbers in it"),
        ("1 2\n99999999999999999999\n", "sample 2: '99999999999999999999' is no number"),
    ],
)
def test_what_is_no_text_of_numbers_is_refused(content: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=told) as raised:
        read_arrays(text(tmp_path, content))
    assert "\n" not in str(raised.value)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 no archive")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe1")
    for name in ("a.npz", "objects.npy", "bytes.txt", "absent.npz", "absent.txt"):
        with pytest.raises(OptionError, match="cannot be read") as raised:
            read_arrays(tmp_path / name)
        assert "\n" not in str(raised.value)


def test_more_than_the_memory_holds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((1000, 1000)))
    path = text(tmp_path, "1\n" * 9 + "1 " * 1000)
    monkeypatch.setattr("onnx_ghn.input_files.memory_bytes", lambda: 50_000)
    for given in (tmp_path / "a.npz", path):
        with pytest.raises(OptionError, match="more than half of this machine's memory"):
            read_arrays(given)
