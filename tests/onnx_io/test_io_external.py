"""External data: only regular files of the model's folder, within their bounds, and nothing read early."""

from __future__ import annotations

import os
import shutil

import io_models as m
import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from onnx_ghn.errors import ModelReadError
from onnx_ghn.onnx_io import read_model, stored_tensors, write_model


@pytest.fixture
def model_path(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    m.save_external(m.mlp(), folder / "m.onnx")
    return folder / "m.onnx"


def entries(path, change=None, **new: str) -> onnx.ModelProto:
    """Rewrite the external-data entries of w1."""
    proto = onnx.load(str(path), load_external_data=False)
    tensor = proto.graph.initializer[0]
    old = {entry.key: entry.value for entry in tensor.external_data}
    old.update(new)
    del tensor.external_data[:]
    for key, value in old.items():
        tensor.external_data.add(key=key, value=value)
    if change is not None:
        change(tensor)
    path.write_bytes(proto.SerializeToString())
    return proto


def fails(path, *words: str) -> None:
    with pytest.raises(ModelReadError) as caught:
        read_model(path)
    assert "\n" not in str(caught.value)
    for word in ("w1", *words):
        assert word in str(caught.value), str(caught.value)


def test_external_data_is_read(model_path):
    for stored in stored_tensors(read_model(model_path)).values():
        expected = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(model_path)).graph.initializer}
        np.testing.assert_array_equal(stored.numpy(), expected[stored.name])


def test_a_relative_path_and_a_subfolder(model_path, monkeypatch):
    (model_path.parent / "sub").mkdir()
    shutil.move(model_path.parent / "m.onnx.data", model_path.parent / "sub" / "d")
    proto = onnx.load(str(model_path), load_external_data=False)
    for tensor in proto.graph.initializer:
        tensor.external_data[0].value = "./sub//d"
    model_path.write_bytes(proto.SerializeToString())
    monkeypatch.chdir(model_path.parent)
    assert stored_tensors(read_model("m.onnx"))["w1"].numpy().shape == (64, 64)


def test_proto_needs_base_dir(model_path):
    proto = onnx.load(str(model_path), load_external_data=False)
    before = proto.SerializeToString()
    with pytest.raises(ModelReadError, match="base_dir"):
        read_model(proto)
    model = read_model(proto, base_dir=model_path.parent)
    assert stored_tensors(model)["w2"].numpy().shape == (64, 64)
    assert proto.SerializeToString() == before


@pytest.mark.parametrize(
    ("location", "word"),
    [
        ("../secret", "outside the model's folder"),
        ("sub/../../secret", "outside the model's folder"),
        ("sub\\..\\..\\secret", "outside the model's folder"),
        ("/etc/hostname", "outside the model's folder"),
        ("C:\\secret", "outside the model's folder"),
        ("\\\\server\\share", "outside the model's folder"),
        ("", "not a path"),
        ("a\0b", "not a path"),
        (".", "cannot be read"),
        ("sub", "regular file"),
        ("missing", "no such file"),
        ("x" * 5000, "cannot be read"),
        ("link", "symbolic link"),
        ("inside-link", "symbolic link"),
        ("folder-link/secret", "symbolic link"),
        ("fifo", "regular file"),
        ("hardlink", "hard links"),
        ("zero", "symbolic link"),
        ("*/_ORT_MEM_ADDR_/*", "no such file"),
    ],
)
def test_locations_refused(model_path, location, word):
    folder = model_path.parent
    (folder.parent / "elsewhere").mkdir()
    secret = folder.parent / "elsewhere" / "secret"
    secret.write_bytes(bytes(1 << 16))
    (folder.parent / "secret").write_bytes(bytes(1 << 16))
    (folder / "sub").mkdir()
    (folder / "link").symlink_to(secret)
    (folder / "inside-link").symlink_to("m.onnx.data")
    (folder / "folder-link").symlink_to(secret.parent)
    (folder / "zero").symlink_to("/dev/zero")
    os.link(secret, folder / "hardlink")
    os.mkfifo(folder / "fifo")
    entries(model_path, location=location)
    if location in ("sub", "fifo", "hardlink"):  # named by the file, not by the tensor
        with pytest.raises(ModelReadError, match=word):
            read_model(model_path)
    else:
        fails(model_path, word)


def test_a_device_is_refused(model_path):
    try:
        os.mknod(model_path.parent / "null", 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("not allowed to make devices")
    entries(model_path, location="null")
    with pytest.raises(ModelReadError, match=r"regular file|permission"):
        read_model(model_path)


@pytest.mark.parametrize(
    ("new", "word"),
    [
        ({"offset": "-1"}, "not a count"),
        ({"offset": "1e3"}, "not a count"),
        ({"offset": " 1"}, "not a count"),
        ({"offset": "٣"}, "not a count"),
        ({"length": "-5"}, "not a count"),
        ({"length": "9" * 40}, "not a count"),
        ({"length": "16383"}, "needs 16384 bytes but its external data has 16383"),
        ({"offset": str(1 << 40)}, "truncated"),
        ({"offset": "33025"}, "truncated"),
        ({"offset": str(2**63 - 1)}, "truncated"),
        ({"basepath": "/etc"}, "unknown external-data key 'basepath'"),
        ({"__class__": "x"}, "unknown external-data key"),
    ],
)
def test_entries_refused(model_path, new, word):
    entries(model_path, **new)
    fails(model_path, word)


def test_more_refusals(model_path):
    good = model_path.read_bytes()

    def with_change(change, word):
        model_path.write_bytes(good)
        entries(model_path, change)
        fails(model_path, word)

    with_change(lambda t: t.dims.extend([1 << 30]), "bytes but its external data has")
    with_change(lambda t: t.external_data.add(key="offset", value="0"), "repeats")
    with_change(lambda t: setattr(t, "raw_data", b"1234"), "both inside and outside")
    with_change(lambda t: setattr(t, "data_type", TensorProto.STRING), "strings")
    with_change(lambda t: t.ClearField("external_data"), "names no external file")
    model_path.write_bytes(good)
    os.truncate(model_path.parent / "m.onnx.data", 100)
    fails(model_path, "truncated")


def test_no_length_and_a_checksum_are_fine(model_path):
    def change(tensor):
        kept = [entry for entry in tensor.external_data if entry.key != "length"]
        del tensor.external_data[:]
        tensor.external_data.extend(kept)
        tensor.external_data.add(key="checksum", value="0" * 40)

    entries(model_path, change)
    np.testing.assert_array_equal(stored_tensors(read_model(model_path))["w1"].numpy(), m.array(64, 64, seed=1))


def test_a_file_that_shrinks_later_is_an_error_not_a_crash(model_path, tmp_path):
    model = read_model(model_path)
    os.truncate(model_path.parent / "m.onnx.data", 100)
    with pytest.raises(ModelReadError, match="shrunk"):
        stored_tensors(model)["w1"].numpy()
    with pytest.raises(ModelReadError, match="shrunk"):
        write_model(model, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()
    assert not list(tmp_path.glob(".*"))


def test_constants_in_functions_and_branches(tmp_path):
    paths = write_model(read_model(m.every_form()), tmp_path / "m.onnx", external=True)
    assert [path.name for path in paths] == ["m.onnx", "m.onnx.data"]
    assert paths[0].stat().st_size < 4096
    x = m.array(1, 64, seed=9)
    for cond in (True, False):
        for expected, got in zip(
            m.run(m.every_form(), x=x, cond=np.array(cond)),
            m.run(paths[0], x=x, cond=np.array(cond)),
            strict=True,
        ):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    again = stored_tensors(read_model(paths[0]))
    for name, stored in stored_tensors(read_model(m.every_form())).items():
        np.testing.assert_array_equal(again[name].numpy(), stored.numpy())


@pytest.mark.parametrize("rest", [0, 1, 4096, 5000])
def test_data_that_shrink_while_they_are_read(tmp_path, rest):
    """Reading is told the loss; a process that had mapped the file would be killed."""
    path = tmp_path / "m.onnx"
    m.save_external(m.mlp(), path)
    model = read_model(path)
    stored = stored_tensors(model)
    held = stored["w1"].numpy()
    os.truncate(tmp_path / "m.onnx.data", rest)
    np.testing.assert_array_equal(held, m.array(64, 64, seed=1))  # what is held stays what it was
    with pytest.raises(ModelReadError, match="has shrunk"):
        stored["w2"].numpy()
    with pytest.raises(ModelReadError, match="has shrunk"):
        write_model(model, tmp_path / "out.onnx")
    assert sorted(os.listdir(tmp_path)) == ["m.onnx", "m.onnx.data"]


def test_data_are_read_once_while_they_are_held(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    m.save_external(m.mlp(), path)
    stored = stored_tensors(read_model(path))
    reads = []
    pread, preadv = os.pread, os.preadv
    monkeypatch.setattr(os, "pread", lambda fd, length, at: reads.append(length) or pread(fd, length, at))
    monkeypatch.setattr(os, "preadv", lambda fd, parts, at: reads.append(sum(map(len, parts))) or preadv(fd, parts, at))
    first = stored["w1"].numpy()
    second = stored["w1"].numpy()
    assert np.shares_memory(first, second)
    assert sum(reads) == 64 * 64 * 4
    assert not first.flags.writeable
    del first, second
    np.testing.assert_array_equal(stored["w1"].numpy(), m.array(64, 64, seed=1))
    assert sum(reads) == 2 * 64 * 64 * 4
