"""write_model: whole or not at all, in every kind of failure."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import textwrap
import time

import io_models as m
import numpy as np
import onnx
import pytest

from onnx_ghn.errors import ModelWriteError
from onnx_ghn.onnx_io import inject, read_model, stored_tensors, write_model


def names(folder) -> list[str]:
    return sorted(os.listdir(folder))


def test_bytes_are_those_of_the_source(tmp_path):
    proto = m.mlp(128)
    path = tmp_path / "m.onnx"
    onnx.save(proto, str(path))
    (back,) = write_model(read_model(path), tmp_path / "back.onnx")
    assert back.read_bytes() == path.read_bytes()
    # Writing lends the model stand-ins; afterwards it is as it was.
    model = read_model(path)
    for external in (True, False):
        paths = write_model(model, tmp_path / "again.onnx", external=external, force=True)
        assert onnx.load(str(paths[0])).SerializeToString() == proto.SerializeToString() or external
    np.testing.assert_array_equal(stored_tensors(model)["w1"].numpy(), m.array(128, 128, seed=1))
    assert model.graph.initializers["w1"].shape == (128, 128)


def test_external_layout(tmp_path):
    paths = write_model(read_model(m.mlp(1024)), tmp_path / "m.onnx", external=True)
    assert [path.name for path in paths] == ["m.onnx", "m.onnx.data"]
    onnx.checker.check_model(str(paths[0]), full_check=True)
    proto = onnx.load(str(paths[0]), load_external_data=False)
    offsets = [{e.key: e.value for e in t.external_data}["offset"] for t in proto.graph.initializer if t.external_data]
    assert offsets == ["0", str(4 << 20), str((4 << 20) + (1 << 16))]
    # Written again: from file to file, without passing through memory.
    again = write_model(read_model(paths[0]), tmp_path / "again.onnx", external=True)
    assert again[1].read_bytes() == paths[1].read_bytes()
    inside = write_model(read_model(paths[0]), tmp_path / "inside.onnx")
    assert len(inside) == 1
    np.testing.assert_array_equal(stored_tensors(read_model(inside[0]))["w2"].numpy(), m.array(1024, 1024, seed=3))


def test_refusals(tmp_path):
    model = read_model(m.mlp())
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")
    with pytest.raises(ModelWriteError, match="`force`"):
        write_model(model, path)
    with pytest.raises(ModelWriteError, match="is a directory"):
        write_model(model, tmp_path, force=True)
    with pytest.raises(ModelWriteError, match="no folder"):
        write_model(model, tmp_path / "none" / "m.onnx")
    with pytest.raises(ModelWriteError, match="not the name of a file"):
        write_model(model, f"{tmp_path}/")
    with pytest.raises(ModelWriteError, match="device"):
        write_model(model, "/dev/null", force=True)
    with pytest.raises(ModelWriteError, match="cannot be written"):
        write_model(model, "/proc/m.onnx")
    with pytest.raises(ModelWriteError, match="cannot be written"):
        write_model(model, tmp_path / ("x" * 256))
    (tmp_path / "link.onnx").symlink_to("nowhere")
    with pytest.raises(ModelWriteError, match="`force`"):
        write_model(model, tmp_path / "link.onnx")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["link.onnx", "m.onnx"]


def test_a_linked_target_is_replaced_not_followed(tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "m.onnx").symlink_to("precious")
    write_model(read_model(m.mlp()), tmp_path / "m.onnx", force=True)
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert not (tmp_path / "m.onnx").is_symlink()


def test_mode_respects_umask(tmp_path):
    old = os.umask(0o027)
    try:
        (path,) = write_model(read_model(m.mlp()), tmp_path / "m.onnx")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o600)
    write_model(read_model(m.mlp()), path, force=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600  # what replaces a private file is private


def test_overwriting_the_source_and_its_data(tmp_path):
    path = tmp_path / "m.onnx"
    m.save_external(m.mlp(), path)
    model = read_model(path)
    inject(model, {"w1": lambda: np.zeros((64, 64), np.float32)})
    paths = write_model(model, path, force=True, external=True)
    assert paths[1].name != "m.onnx.data"
    assert names(tmp_path) == sorted(p.name for p in paths)  # the superseded data file is gone
    tensors = stored_tensors(read_model(path))
    assert not tensors["w1"].numpy().any()
    np.testing.assert_array_equal(tensors["w2"].numpy(), m.array(64, 64, seed=3))
    # The model read before still reads the removed file.
    np.testing.assert_array_equal(stored_tensors(model)["w2"].numpy(), m.array(64, 64, seed=3))
    (single,) = write_model(read_model(path), path, force=True, external=False)
    assert names(tmp_path) == ["m.onnx"]
    onnx.checker.check_model(str(single), full_check=True)


def test_data_shared_with_the_source_stays(tmp_path):
    m.save_external(m.mlp(), tmp_path / "m.onnx")
    source = tmp_path / "source.onnx"
    source.write_bytes((tmp_path / "m.onnx").read_bytes())  # it too refers to m.onnx.data
    write_model(read_model(source), tmp_path / "m.onnx", force=True)
    np.testing.assert_array_equal(stored_tensors(read_model(source))["w2"].numpy(), m.array(64, 64, seed=3))


def test_foreign_data_files_are_left_alone(tmp_path):
    (tmp_path / "m.onnx.data").write_bytes(b"foreign")
    paths = write_model(read_model(m.mlp()), tmp_path / "m.onnx", external=True)
    assert paths[1].name != "m.onnx.data"
    m.save_external(m.mlp(), tmp_path / "other.onnx")
    proto = onnx.load(str(tmp_path / "other.onnx"), load_external_data=False)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    write_model(read_model(m.mlp()), tmp_path / "m.onnx", force=True)
    assert (tmp_path / "m.onnx.data").read_bytes() == b"foreign"
    assert (tmp_path / "other.onnx.data").exists()


def _message(function) -> str | None:
    try:
        function()
    except ModelWriteError as error:
        return str(error)
    return None


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("call", ["write", "fsync", "replace", "copy_file_range"])
@pytest.mark.parametrize("existing", [False, True])
def test_failures_leave_everything_as_it_was(tmp_path, monkeypatch, external, call, existing):
    source = tmp_path / "source.onnx"
    m.save_external(m.mlp(256), source)
    folder = tmp_path / "out"
    folder.mkdir()
    if existing:
        write_model(read_model(m.mlp()), folder / "m.onnx", external=True)
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    real = getattr(os, call)
    how = {"external": external, "force": existing}
    for failing in range(16):
        count = 0

        def fail(*args, limit=failing, **kwargs):
            nonlocal count
            count += 1
            if count > limit:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            message = _message(lambda: write_model(read_model(source), folder / "m.onnx", **how))
        if message is None:
            break
        assert "no space left" in message
        assert "free some space" in message
        assert {name: (folder / name).read_bytes() for name in names(folder)} == before
    else:
        pytest.fail("never got through")
    assert stored_tensors(read_model(folder / "m.onnx"))["w1"].shape == (256, 256)


def test_an_error_in_a_function_leaves_nothing(tmp_path):
    for error in (KeyboardInterrupt, ValueError, MemoryError):
        model = read_model(m.mlp())

        def function(error=error):
            raise error

        inject(model, {"w2": function})
        for external in (False, True):
            with pytest.raises(error):
                write_model(model, tmp_path / "m.onnx", external=external)
            assert names(tmp_path) == []


def test_a_full_disk(tmp_path):
    """A limit on file size, the kernel's nearest kin of a full disk."""
    model = read_model(m.mlp(512))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, old[1]))
    try:
        for external in (False, True):
            with pytest.raises(ModelWriteError, match="free some space"):
                write_model(model, tmp_path / "m.onnx", external=external)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert names(tmp_path) == []


def test_two_gib_do_not_fit_inside(tmp_path):
    data = tmp_path / "m.onnx.data"
    proto = m.mlp(8)
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.dims[:] = [1 << 15, 1 << 15]  # 4 GiB
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=data.name)
    with open(data, "wb") as file:
        file.truncate(4 << 30)
    model = read_model(proto, base_dir=tmp_path)
    with pytest.raises(ModelWriteError, match="external data"):
        write_model(model, tmp_path / "out.onnx", external=False)
    assert names(tmp_path) == ["m.onnx.data"]


def _script(code: str, *args: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("external", [False, True])
def test_kill_leaves_the_old_target(tmp_path, external):
    target = tmp_path / "m.onnx"
    old = write_model(read_model(m.mlp()), target, external=True)
    before = {path: path.read_bytes() for path in old}
    code = """
        import sys, time
        import numpy as np
        from onnx_ghn.onnx_io import inject, read_model, write_model
        model = read_model(sys.argv[1])
        def slow():
            print("writing", flush=True)
            time.sleep(60)
        inject(model, {"w2": slow})
        write_model(model, sys.argv[1], force=True, external=sys.argv[2] == "True")
    """
    with _script(code, target, external) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    assert {path: path.read_bytes() for path in old} == before
    strays = set(names(tmp_path)) - {path.name for path in old}
    assert all(name.startswith(".m.onnx") and name.endswith(".tmp") for name in strays)
    np.testing.assert_array_equal(stored_tensors(read_model(target))["w2"].numpy(), m.array(64, 64, seed=3))


def test_peak_memory_of_a_large_external_model(tmp_path):
    """256 MiB in eight tensors: read, half of it injected, written. The peak stays near one tensor."""
    width = 2896  # 32 MiB a matrix
    nodes = [onnx.helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]) for i in range(8)]
    proto = m.model(nodes, [m.info("x0", 1, width)], [m.info("x8", 1, width)])
    data = tmp_path / "m.onnx.data"
    with open(data, "wb") as file:
        block = m.array(width, width).tobytes()
        for i in range(8):
            file.write(block)
            tensor = proto.graph.initializer.add(name=f"w{i}", data_type=m.F, dims=[width, width])
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=data.name)
            tensor.external_data.add(key="offset", value=str(i * len(block)))
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    code = """
        import resource, sys
        import numpy as np
        from onnx_ghn.onnx_io import inject, read_model, stored_tensors, write_model
        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        import onnx, onnx_ir
        start = peak()
        model = read_model(sys.argv[1])
        stored = stored_tensors(model)
        read = peak()
        inject(model, {f"w{i}": lambda: np.ones((2896, 2896), np.float32) for i in range(0, 8, 2)})
        write_model(model, sys.argv[2], external=True)
        print(read - start, peak() - start)
    """
    began = time.perf_counter()
    with _script(code, tmp_path / "m.onnx", tmp_path / "out.onnx") as process:
        assert process.stdout is not None
        reading, writing = map(float, process.stdout.read().split())
    assert process.returncode == 0
    assert reading < 8  # MiB
    assert writing < 32 * 1.5  # MiB
    assert time.perf_counter() - began < 30
    back = stored_tensors(read_model(tmp_path / "out.onnx"))
    assert back["w0"].numpy()[0, 0] == 1
    np.testing.assert_array_equal(back["w7"].numpy(), m.array(width, width))
