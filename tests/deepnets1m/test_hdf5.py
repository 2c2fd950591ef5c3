"""HDF5 files that point elsewhere, ask for more than they hold, or hold numbers that are none."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from onnx_ghn.deepnets1m import sample
from onnx_ghn.deepnets1m.compact import header_line
from onnx_ghn.deepnets1m.files import open_deepnets
from onnx_ghn.deepnets1m.hdf5 import open_hdf5, read_matrix
from onnx_ghn.deepnets1m.official import OfficialFile
from onnx_ghn.deepnets1m.official_write import write_official
from onnx_ghn.deepnets1m.records import whole_number
from onnx_ghn.errors import DataError

N = 40


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("official") / "a.hdf5"
    drawn = (sample("val", np.random.default_rng(seed)) for seed in range(9))
    write_official(path, {"val": [next(net for net in drawn if net is not None)]})
    return path


@pytest.fixture
def file(written: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for path in (written, written.with_name("a_meta.json")):
        shutil.copy(path, folder)
    return folder / "a.hdf5"


def _external_link(h5: h5py.File, other: Path) -> None:
    del h5["val/0/adj"]
    h5["val/0/adj"] = h5py.ExternalLink(str(other), "adj")


def _external_group(h5: h5py.File, other: Path) -> None:
    del h5["val/0"]
    h5["val/0"] = h5py.ExternalLink(str(other), "/")


def _soft_link_to_data(h5: h5py.File, other: Path) -> None:
    h5.move("val/0/adj", "adj")
    h5["val/0/adj"] = h5py.SoftLink("/adj")


def _soft_link_through_a_link(h5: h5py.File, other: Path) -> None:
    h5["out"] = h5py.ExternalLink(str(other), "/")
    del h5["val/0/adj"]
    h5["val/0/adj"] = h5py.SoftLink("/out/adj")


def _external_storage(h5: h5py.File, other: Path) -> None:
    like = h5["val/0/adj"]
    shape = like.shape
    del h5["val/0/adj"]
    h5.create_dataset("val/0/adj", shape, np.uint8, external=[(str(other), 0, h5py.h5f.UNLIMITED)])


def _virtual(h5: h5py.File, other: Path) -> None:
    shape = h5["val/0/adj"].shape
    del h5["val/0/adj"]
    layout = h5py.VirtualLayout(shape, np.uint8)
    layout[...] = h5py.VirtualSource(str(other), "adj", shape)
    h5.create_virtual_dataset("val/0/adj", layout)


@pytest.mark.parametrize(
    "change",
    [_external_link, _external_group, _soft_link_to_data, _soft_link_through_a_link, _external_storage, _virtual],
)
def test_nothing_is_read_from_elsewhere(file: Path, tmp_path: Path, change: Callable[..., None]) -> None:
    other = tmp_path / "secret.h5"
    with h5py.File(file, "r") as h5, h5py.File(other, "w") as secret:
        secret["adj"], secret["nodes"] = h5["val/0/adj"][()], h5["val/0/nodes"][()]
    with h5py.File(file, "r+") as h5:
        change(h5, other)
    with open_deepnets(file) as nets, pytest.raises(DataError, match="into the file"):
        nets.matrix("val", 0)  # type: ignore[attr-defined]


def test_splits_elsewhere_are_not_there(file: Path, tmp_path: Path) -> None:
    shutil.copy(file, tmp_path / "other.h5")
    for link in (h5py.ExternalLink(str(tmp_path / "other.h5"), "val"), h5py.SoftLink("/held")):
        with h5py.File(file, "r+") as h5:
            if "held" not in h5:
                h5.move("val", "held")
            else:
                del h5["val"]
            h5["val"] = link
        with pytest.raises(DataError, match="holds none of the splits"):
            open_deepnets(file)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"chunks": (4096, 4096), "maxshape": (None, None), "compression": "gzip"}, "chunks .* out of proportion"),
        ({"chunks": (1, 1 << 24), "maxshape": (None, None)}, "chunks .* out of proportion"),
        ({"chunks": (N, N), "scaleoffset": 2}, "packed by the filter 6"),
    ],
)
def test_storage_out_of_proportion(tmp_path: Path, how: dict[str, Any], says: str) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as h5:
        h5.create_dataset("x/y", (N, N), np.uint8, **how)
    with open_hdf5(str(path)) as h5, pytest.raises(ValueError, match=says):
        read_matrix(h5, ("x", "y"), (N, N))


def test_gaps_are_no_data(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as h5:
        h5.create_dataset("empty", (5000, 5000), np.uint8)
        h5.create_dataset("small", (500, 500), np.uint8)
        h5.create_dataset("zeros", data=np.zeros((5000, 5000), np.uint8), compression="gzip", chunks=(500, 5000))
    with open_hdf5(str(path)) as h5:
        with pytest.raises(ValueError, match="out of proportion to the 0 that are stored"):
            read_matrix(h5, ("empty",), (5000, 5000))
        assert not read_matrix(h5, ("small",), (500, 500)).any()
        assert read_matrix(h5, ("zeros",), (5000, 5000)).shape == (5000, 5000)


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_usual_storage_is_read(tmp_path: Path, compression: str | None) -> None:
    values = np.random.default_rng(0).integers(0, 250, (N, N), np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5.create_dataset("x/y", data=values, compression=compression, shuffle=compression is not None)
    with open_hdf5(str(tmp_path / "a.h5")) as h5:
        np.testing.assert_array_equal(read_matrix(h5, ("x", "y"), (N, N)), values)
        for names in (("x", "z"), ("z", "y"), ("x",)):
            with pytest.raises((KeyError, TypeError)):
                read_matrix(h5, names, (N, N))


def test_what_is_no_regular_file(file: Path) -> None:
    """Nobody writes to the pipes: reading them would wait for ever."""
    before = threading.active_count()
    meta = file.with_name("a_meta.json")
    content = meta.read_bytes()
    meta.unlink()
    for made in (os.mkfifo, os.mkdir):
        made(meta)
        with pytest.raises(DataError, match="cannot be read"):
            open_deepnets(file)
        meta.unlink() if made is os.mkfifo else meta.rmdir()
    meta.write_bytes(content)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(DataError):
        OfficialFile(str(file))
    assert threading.active_count() <= before


@pytest.mark.parametrize("bad", [float("inf"), float("nan"), 1e30, 10**30, -1, 1.5, "7", True, None, [7]])
def test_numbers_that_are_none(file: Path, bad: object) -> None:
    meta = file.with_name("a_meta.json")
    good = json.loads(meta.read_text())
    for key in ("num_nodes", "cifar10", "n_cells", "C"):
        record = json.loads(json.dumps(good))
        net = record["val"]["nets"][0]
        (net["num_params"] if key == "cifar10" else net)[key] = bad
        meta.write_text(json.dumps(record))
        with open_deepnets(file) as nets:
            if (key, bad) in (("n_cells", True),):
                continue  # Python's True is 1
            with pytest.raises(DataError, match="is damaged"):
                nets.record("val", 0)
            if key == "num_nodes":
                with pytest.raises(DataError, match="num_nodes of split val is damaged"):
                    nets.n_nodes("val")


@pytest.mark.parametrize("bad", ["Infinity", "1e400", "9" * 30, '"7"', "-1"])
def test_numbers_of_the_compact_form_that_are_none(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(header_line("val", 0) + f"[{bad},{bad},{bad}]\n".encode())
    with open_deepnets(path) as nets:
        with pytest.raises(DataError, match="architecture 0 is damaged"):
            nets.record("val", 0)
        with pytest.raises(DataError, match="architecture 0 is damaged"):
            nets.n_nodes("val")


def test_whole_numbers() -> None:
    assert [whole_number(value) for value in (0, 7, 7.0, 1 << 62)] == [0, 7, 7, 1 << 62]
