"""What writing must never do: take away what another model, another run or another name still needs."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import stat
from pathlib import Path

import io_models as m
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_ghn.errors import ModelWriteError
from onnx_ghn.locks import try_lock
from onnx_ghn.onnx_io import check_target, read_model, references, stored_tensors, write_file, write_model
from onnx_ghn.onnx_io.continuing import open_to_continue
from onnx_ghn.onnx_io.references import data_locations, naming_model
from onnx_ghn.onnx_io.strays import create_stray, fitting, stray_name
from onnx_ghn.onnx_io.transaction import Transaction


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def is_whole(path: Path) -> bool:
    """As onnx itself reads it."""
    proto = onnx.load(str(path))
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    return np.array_equal(found["w2"], m.array(64, 64, seed=3))


# -- data of other models ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["link", "link elsewhere", "copy", "backup", "hard link", "above"])
def test_data_that_another_name_needs_stay(tmp_path: Path, kind: str) -> None:
    """The .onnx that is replaced is one of two names of a model, whose data bear the name of the replaced one."""
    folder = tmp_path / "models"
    folder.mkdir()
    target = folder / "m.onnx"
    m.save_external(m.mlp(), target)
    other = folder / {"copy": "other.onnx", "backup": "m.onnx.bak"}.get(kind, "v1.onnx")
    if kind == "link":
        target.rename(other)
        target.symlink_to("v1.onnx")
    elif kind == "link elsewhere":
        other = tmp_path / "v1.onnx"
        target.rename(other)
        shutil.copy(folder / "m.onnx.data", tmp_path)
        target.symlink_to(other)
    elif kind == "hard link":
        os.link(target, other)
    elif kind == "above":
        other = tmp_path / "all.onnx"
        proto = onnx.load(str(target), load_external_data=False)
        for tensor in proto.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = "models/m.onnx.data"
        other.write_bytes(proto.SerializeToString())
    else:
        shutil.copy(target, other)
    write_model(read_model(m.mlp(16)), target, force=True)
    assert (folder / "m.onnx.data").exists()
    assert is_whole(other)
    assert stored_tensors(read_model(target))["w1"].shape == (16, 16)
    assert not target.is_symlink()


def test_data_of_a_model_that_is_replaced_go(tmp_path: Path) -> None:
    for name in ("m.onnx", "w" * 240, "é" * 120):
        target = tmp_path / name
        m.save_external(m.mlp(), tmp_path / "elsewhere.onnx")
        write_model(read_model(tmp_path / "elsewhere.onnx"), target, external=True)
        (tmp_path / "elsewhere.onnx").unlink()
        (tmp_path / "elsewhere.onnx.data").unlink()
        assert len(names(tmp_path)) == 2
        write_model(read_model(target), target, force=True, external=True)
        assert len(names(tmp_path)) == 2
        assert is_whole(target)
        write_model(read_model(m.mlp(16)), target, force=True)
        assert names(tmp_path) == [name]
        target.unlink()


@pytest.mark.parametrize("name", ["w.svg", "w.csv", "weights", "m.onnx.data"])
def test_a_file_that_a_model_names_is_not_replaced(tmp_path: Path, name: str) -> None:
    onnx.save(m.mlp(), str(tmp_path / "net.pb"), save_as_external_data=True, location=name, size_threshold=0)
    before = (tmp_path / name).read_bytes()
    for writes in (
        lambda: check_target(tmp_path / name, True),
        lambda: write_file(tmp_path / name, b"new", force=True),
        lambda: write_model(read_model(m.mlp(16)), tmp_path / name, force=True),
    ):
        with pytest.raises(ModelWriteError, match=r"holds weights of the model .*net\.pb; name another file"):
            writes()
    with (
        pytest.raises(ModelWriteError, match="holds weights of the model"),
        open_to_continue(tmp_path / name),
    ):
        pass
    assert (tmp_path / name).read_bytes() == before
    (tmp_path / "net.pb").unlink()
    assert write_file(tmp_path / name, b"new", force=True).read_bytes() == b"new"


def test_who_names_a_file(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    data = tmp_path / "a" / "b" / "w.bin"
    data.write_bytes(bytes(1 << 16))
    for folder, location in ((data.parent, "w.bin"), (data.parent.parent, "./b//w.bin"), (tmp_path, "a/b/../b/w.bin")):
        model = folder / "net.onnx"
        onnx.save(m.mlp(), str(model), save_as_external_data=True, location="x", size_threshold=0)
        proto = onnx.load(str(model), load_external_data=False)
        for tensor in proto.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        model.write_bytes(proto.SerializeToString())
        assert data_locations(str(model)) == {location}
        assert naming_model(str(data)) == str(model)
        assert naming_model(str(data.parent / "other")) is None
        model.unlink()
    assert naming_model(str(data)) is None


def test_locations_wherever_a_tensor_may_lie(tmp_path: Path) -> None:
    """In attributes, bodies, functions and sparse tensors; large data in between are passed over."""

    def tensor(location: str) -> onnx.TensorProto:
        found = onnx.TensorProto(name=location, data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
        found.external_data.add(key="offset", value="0")
        found.external_data.add(key="location", value=location)
        return found

    body = onnx.helper.make_graph([], "body", [], [])
    body.initializer.append(tensor("in a body"))
    proto = m.mlp(600)
    proto.graph.initializer.append(tensor("after data"))
    proto.graph.node.append(onnx.helper.make_node("Constant", [], ["c"], value=tensor("in a node")))
    proto.graph.node.append(onnx.helper.make_node("If", ["c"], ["d"], then_branch=body, else_branch=body))
    sparse = proto.graph.sparse_initializer.add()
    sparse.values.CopyFrom(tensor("sparse"))
    function = proto.functions.add(name="f")
    function.node.append(onnx.helper.make_node("Constant", [], ["c"], value=tensor("in a function")))
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    everything = {"in a body", "after data", "in a node", "sparse", "in a function"}
    assert data_locations(str(path)) == everything
    path.write_bytes(path.read_bytes()[:-3])
    assert data_locations(str(path)) == frozenset()
    assert data_locations(str(path), damaged=True) == everything - {"in a function"}
    for damaged in (b"\x00" + proto.SerializeToString(), b"text", bytes(99), b"\x3a\xff" * 50):
        path.write_bytes(damaged)
        assert data_locations(str(path), damaged=True) == frozenset()
    assert data_locations(str(tmp_path)) == data_locations("/dev/zero") == data_locations("a\0b") == frozenset()


def test_a_file_that_stays_is_walked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written a moment ago is walked each time, for its time of change may not tell a second change."""
    path = tmp_path / "m.onnx"
    m.save_external(m.mlp(), path)
    content = path.read_bytes()
    walks = []
    walk = references._locations
    monkeypatch.setattr(references, "_locations", lambda *given: walks.append(given) or walk(*given))
    for _ in range(2):
        assert data_locations(str(path)) == {"m.onnx.data"}
    assert len(walks) == 2
    now = references.time.time_ns() + 10**10
    monkeypatch.setattr(references.time, "time_ns", lambda: now)
    for _ in range(3):
        assert data_locations(str(path)) == {"m.onnx.data"}
    assert len(walks) == 3
    path.write_bytes(content.replace(b"m.onnx.data", b"n.onnx.data"))
    os.utime(path, ns=(1, 1))
    for _ in range(2):
        assert data_locations(str(path)) == {"n.onnx.data"}
    assert len(walks) == 4


# -- inputs --------------------------------------------------------------------------------------------------


def test_what_is_read_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"read")
    (tmp_path / "link").symlink_to("m.onnx")
    (tmp_path / "folder").symlink_to(tmp_path)
    for target, given in (
        ("m.onnx", "m.onnx"), ("m.onnx", "link"), ("link", "link"), ("folder/m.onnx", "link"),
        ("m.onnx", "folder/link"), (f"../{tmp_path.name}/m.onnx", "m.onnx"),
    ):  # fmt: skip
        with pytest.raises(ModelWriteError, match="is the file that is read"):
            check_target(tmp_path / target, True, inputs=[None, 3, "no such file", "a\0b", tmp_path / given])
    # A link is replaced, and another hard link keeps the content.
    check_target(tmp_path / "link", True, inputs=[path])
    os.link(path, tmp_path / "second")
    check_target(tmp_path / "second", True, inputs=[path])
    with pytest.raises(ModelWriteError, match="is the file that is read"):
        check_target(path, True, inputs=[path])


def test_the_data_of_what_is_read_are_not_written(tmp_path: Path) -> None:
    """Also where the model lies so that only the one who reads it knows: without an ending, two folders above."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    onnx.save(m.mlp(), str(tmp_path / "net"), save_as_external_data=True, location="w.bin", size_threshold=0)
    proto = onnx.load(str(tmp_path / "net"), load_external_data=False)
    for tensor in proto.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = "a/b/w.bin"
    (tmp_path / "net").write_bytes(proto.SerializeToString())
    (tmp_path / "w.bin").rename(tmp_path / "a" / "b" / "w.bin")
    check_target(tmp_path / "a" / "b" / "w.bin", True)
    with pytest.raises(ModelWriteError, match="holds weights of the model"):
        check_target(tmp_path / "a" / "b" / "w.bin", True, inputs=[tmp_path / "net"])


# -- several writers -----------------------------------------------------------------------------------------


def _write(source: str, target: str, barrier: object) -> None:
    model = read_model(source)
    barrier.wait()  # type: ignore[attr-defined]
    write_model(model, target, force=True, external=True)


def test_the_last_of_several_writers_names_its_own_data(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for number in (1, 2, 3):
        proto = m.mlp()
        for tensor in proto.graph.initializer:
            values = np.full(numpy_helper.to_array(tensor).shape, number, np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        proto.graph.initializer.append(numpy_helper.from_array(np.full(99999 * number, number, np.float32), "big"))
        proto.graph.doc_string = str(number)
        onnx.save(proto, str(tmp_path / f"{number}.onnx"))
    folder = tmp_path / "out"
    folder.mkdir()
    for _ in range(12):
        barrier = context.Barrier(3)
        given = [(str(tmp_path / f"{number}.onnx"), str(folder / "o.onnx"), barrier) for number in (1, 2, 3)]
        processes = [context.Process(target=_write, args=one) for one in given]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0
        proto = onnx.load(str(folder / "o.onnx"))
        values = {float(v) for t in proto.graph.initializer for v in np.unique(numpy_helper.to_array(t))}
        assert values == {float(proto.graph.doc_string)}
        assert not [name for name in names(folder) if name.startswith(".")]


def test_a_claimed_name_is_not_given_again(tmp_path: Path) -> None:
    target = str(tmp_path / "m.onnx")
    with Transaction(target) as first, Transaction(target) as second:
        assert first.claim(["d", "e"]) == "d"
        assert second.claim(["d", "e"]) == "e"
        file = first.create("d")
        file.write(b"first")
        (tmp_path / "d").write_bytes(b"foreign")  # made by another program in the meantime
        with pytest.raises(FileExistsError):
            first.place(file, "d", last=False, new=True)
    assert (tmp_path / "d").read_bytes() == b"foreign"
    assert names(tmp_path) == ["d"]


def test_a_pair_is_replaced_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old a")
    (tmp_path / "link").symlink_to("a")
    for first in ("a", "link", "new"):
        with pytest.raises(KeyError):
            _replace_first_and_fail(tmp_path, first)
    assert names(tmp_path) == ["a", "link"]
    assert (tmp_path / "a").read_bytes() == b"old a"
    assert (tmp_path / "link").is_symlink()


def _replace_first_and_fail(folder: Path, first: str) -> None:
    with Transaction(str(folder / "b")) as transaction:
        file = transaction.create(first)
        file.write(b"new a")
        transaction.place(file, first, last=False)
        assert (folder / first).read_bytes() == b"new a"
        raise KeyError


def test_data_are_as_private_as_the_model(tmp_path: Path) -> None:
    target = tmp_path / "m.onnx"
    write_model(read_model(m.mlp()), target)
    for mode in (0o600, 0o640, 0o444):
        target.chmod(mode)
        written = write_model(read_model(m.mlp()), target, force=True, external=True)
        assert [stat.S_IMODE(path.stat().st_mode) for path in written] == [mode, mode]


# -- what killed runs leave ----------------------------------------------------------------------------------


def test_the_next_run_removes_what_killed_ones_left(tmp_path: Path) -> None:
    strays = [stray_name("m.onnx"), stray_name("é" * 127), fitting(".m.onnx.data", ".onnx-ghn-claim.tmp")]
    for name in strays:
        (tmp_path / name).write_bytes(b"half")
    kept = [".m.onnx.tmp", ".m.onnx.0123abcd.tmp", "m.onnx-ghn-0123abcd.tmp", ".a.onnx-ghn-0123abcd.tmp.bak"]
    for name in kept:
        (tmp_path / name).write_bytes(b"foreign")
    (tmp_path / "precious").write_bytes(b"precious")
    link, folder = stray_name("x"), stray_name("y")
    (tmp_path / link).symlink_to("precious")
    (tmp_path / folder).mkdir()
    alive, path = create_stray(str(tmp_path), "m.onnx", 0o666)
    write_file(tmp_path / "out", b"new")
    assert set(names(tmp_path)) == {*kept, "precious", link, folder, os.path.basename(path), "out"}
    assert try_lock(alive)
    os.close(alive)
    write_file(tmp_path / "out", b"new", force=True)
    assert set(names(tmp_path)) == {*kept, "precious", link, folder, "out"}


@pytest.mark.parametrize("name", ["x" * 250, "x" * 255, "é" * 127, "字" * 85])
def test_names_as_long_as_a_file_system_takes(tmp_path: Path, name: str) -> None:
    assert write_file(tmp_path / name, b"one").read_bytes() == b"one"
    written = write_model(read_model(m.mlp()), tmp_path / name, force=True, external=True)
    assert is_whole(written[0])
    assert len(os.fsencode(written[1].name)) <= 255
    assert names(tmp_path) == sorted(path.name for path in written)


# -- files that grow -----------------------------------------------------------------------------------------


def test_what_grows_does_not_change_another_file(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("precious")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.link(tmp_path / "precious", tmp_path / "second")
    os.mkfifo(tmp_path / "pipe")
    for name, says in (
        ("link", "is a link to"), ("dangling", "is a link to"), ("second", "2 hard links"), ("pipe", "pipe"),
    ):  # fmt: skip
        with pytest.raises(ModelWriteError, match=says), open_to_continue(tmp_path / name):
            pass
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()
    with open_to_continue(tmp_path / "new") as fd:
        os.write(fd, b"one")
        with pytest.raises(ModelWriteError, match="another process"), open_to_continue(tmp_path / "new"):
            pass
    assert (tmp_path / "new").read_bytes() == b"one"
