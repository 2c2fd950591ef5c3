"""Files, targets and options that are not as they should be: one line, and nothing lost or left half."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import socket
import time
from pathlib import Path

import io_models as m
import onnx
import pytest
from cli_tools import command, one_line, python, save, snapshot
from test_io_external import entries

# -- files -------------------------------------------------------------------------------------------------


def test_what_is_no_model(tmp_path, predictor):
    contents = [
        b"",
        b"hello\n",
        b"PK\x03\x04" + bytes(99),
        b"\x89HDF\r\n\x1a\n",
        b"<html>",
        b"\x80\x02}",
        bytes(4096),
        b"\xff" * 99,
    ]
    for content in contents:
        predictor.fails(save(tmp_path / "in", content), "m.onnx", watch=tmp_path / "in")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(tmp_path)
        server.bind("s")
        for path in (
            tmp_path,
            "/dev/zero",
            "/dev/null",
            "fifo",
            "s",
            "loop",
            "no.onnx",
            "no/m.onnx",
            "",
            "x" * 300,
            "a\nb",
        ):
            began = time.perf_counter()
            predictor.fails(path)
            assert time.perf_counter() - began < 5


@pytest.fixture
def external(tmp_path) -> Path:
    """A model with external data, and things outside its folder that it may not read."""
    folder = tmp_path / "in"
    folder.mkdir()
    m.save_external(m.mlp(), folder / "m.onnx")
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(1 << 16))
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(secret, tmp_path / "elsewhere")
    (folder / "link").symlink_to(secret)
    (folder / "inside-link").symlink_to("m.onnx.data")
    (folder / "parent").symlink_to(tmp_path / "elsewhere")
    os.link(secret, folder / "hardlink")
    (folder / "zero").symlink_to("/dev/zero")
    os.mkfifo(folder / "fifo")
    return folder / "m.onnx"


@pytest.mark.parametrize(
    "location",
    ["../secret", "x/../../secret", "..", ".", "", "/etc/passwd", "/dev/zero", "C:\\x", "..\\secret", "\\\\host\\share",
     "link", "inside-link", "parent/secret", "hardlink", "zero", "fifo", "x" * 5000, "a\0b", "m.onnx/x"],
)  # fmt: skip
def test_external_data_outside(external, predictor, location):
    entries(external, location=location)
    predictor.fails(external, watch=external.parent.parent)


@pytest.mark.parametrize(
    "new",
    [{"offset": "-1"}, {"offset": "1e3"}, {"length": "1"},
     {"length": "-1"}, {"length": "9" * 99}, {"basepath": "/etc"}, {"offset": "٣"}, {"length": ""}, {"offset": "0x10"},
     {"length": str(1 << 50)}],
)  # fmt: skip
def test_external_data_of_wrong_length(external, predictor, new):
    entries(external, **new)
    predictor.fails(external, watch=external.parent.parent)


@pytest.mark.parametrize("new", [{"offset": str(2**63)}, {"offset": "99999999"}, {"location": "missing"}])
def test_external_data_that_are_not_there_are_not_needed(external, predictor, new):
    entries(external, **new)
    outcome = predictor(external, watch=external.parent.parent)
    assert (outcome.code, "is lost or too short" in outcome.out) == (0, True), outcome
    predictor.take()
    predictor.fails(external, options=("--exclude", "."), watch=external.parent.parent)


@pytest.mark.parametrize("size", [0, 1, 4096, 16384])
def test_external_data_cut_short(external, predictor, size):
    os.truncate(external.parent / "m.onnx.data", size)
    outcome = predictor(external, watch=external.parent.parent)
    assert (outcome.code, "is lost or too short" in outcome.out) == (0, True), outcome
    predictor.take()
    predictor.fails(external, "truncated", options=("--exclude", "."), watch=external.parent.parent)


def test_external_data_is_read_and_kept_apart(external, predictor):
    before = snapshot(external.parent)
    predictor.works(external, watch=external.parent)
    assert snapshot(external.parent) == before


# -- targets -----------------------------------------------------------------------------------------------


def test_targets_that_cannot_be_written(good, tmp_path, ghn_folder):
    (tmp_path / "file").write_text("x")
    (tmp_path / "there.onnx").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    before = snapshot(tmp_path)
    targets = [
        tmp_path, tmp_path / "no" / "o.onnx", tmp_path / "file" / "o.onnx", "/dev/null", "/proc/o.onnx",
        "", "/", "x" * 300,
        tmp_path / "there.onnx", tmp_path / "pipe", f"{tmp_path}/", "a\0b", good,
    ]  # fmt: skip
    for target in targets:
        outcome = command("predict", good, "-o", target, "--ghn", ghn_folder)
        one_line(outcome)
        assert snapshot(tmp_path) == before, target


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(good, tmp_path, ghn_folder):  # pragma: no cover - of other machines
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    one_line(command("predict", good, "-o", folder / "o.onnx", "--ghn", ghn_folder), "permission")


@pytest.mark.parametrize("external_data", [False, True])
def test_a_full_disk(tmp_path, predictor, external_data):
    """A limit on file size stops the writing in the middle."""
    path = save(tmp_path / "in", m.mlp(512))
    if external_data:
        m.save_external(m.mlp(512), path)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, old[1]))
    try:
        predictor.fails(path, "free some space")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, previous)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("call", ["write", "fsync", "replace", "open"])
def test_every_call_that_can_fail(good, tmp_path, predictor, monkeypatch, call, number):
    """Writing, syncing, renaming and making files: the error is told and nothing is left."""
    original = getattr(os, call)
    target = str(predictor.folder)

    def fails(*args, **kwargs):
        if call in ("write", "fsync") or any(str(a).startswith(target) and ".onnx" in str(a) for a in args):
            raise OSError(number, os.strerror(number))
        return original(*args, **kwargs)

    monkeypatch.setattr(os, call, fails)
    outcome = command("predict", good, "-o", predictor.output, "--ghn", predictor.ghn)
    monkeypatch.undo()
    one_line(outcome, "cannot be written", os.strerror(number).lower())
    assert list(predictor.folder.iterdir()) == []


@pytest.mark.parametrize("moments", [10, pytest.param(24, marks=pytest.mark.slow)])
def test_kill_during_writing(tmp_path, ghn_folder, moments):
    """SIGKILL at many moments: the whole new file, or what was there before; never anything between."""
    source = save(tmp_path / "in", m.mlp(1024))
    (tmp_path / "old").write_bytes(m.mlp().SerializeToString())
    folder = tmp_path / "out"
    folder.mkdir()
    # One process forks the writers, so that torch is loaded once.
    code = """
        import os, random, shutil, signal, sys, time
        from cli_tools import command
        source, old, target, ghn, moments = sys.argv[1:]
        arguments = ["predict", source, "--ghn", ghn, "--force", "-o"]
        command(*arguments, target + ".whole")
        began = time.monotonic()
        command(*arguments, target + ".whole")
        whole_s = time.monotonic() - began
        contents = {open(path, "rb").read(): name for path, name in ((target + ".whole", "new"), (old, "old"))}
        random.seed(0)
        for i in range(int(moments)):
            if i % 2:
                shutil.copy(old, target)
            elif os.path.exists(target):
                os.unlink(target)
            child = os.fork()
            if not child:
                command(*arguments, target)
                os._exit(0)
            time.sleep(random.uniform(0.2, 1.2) * whole_s)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            found = contents.get(open(target, "rb").read(), "broken") if os.path.exists(target) else "none"
            print(i % 2, found, flush=True)
    """
    run = python(code, source, tmp_path / "old", folder / "o.onnx", ghn_folder, moments)
    assert run.returncode == 0, run.stderr
    states = run.stdout.splitlines()
    assert len(states) == moments
    assert set(states) <= {"0 new", "0 none", "1 new", "1 old"}
    strays = {path.name for path in folder.iterdir()} - {"o.onnx", "o.onnx.whole"}
    assert all(name.startswith(".o.onnx") and name.endswith(".tmp") for name in strays)
    onnx.checker.check_model(str(folder / "o.onnx.whole"))


# -- options -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--include", "("], 1), (["--exclude", "*"], 1), (["--include", "[z-a]"], 1), (["--fallback", "x"], 2),
        (["--post", "x"], 2), (["--post-strength", "0.5"], 1), (["--post-strength", "x"], 2),
        (["--post", "noise", "--post-strength", "-1"], 1),
        (["--post", "noise", "--post-strength", "nan"], 1), (["--post", "orthogonal", "--post-strength", "2"], 1),
        (["--post", "noise", "--post-strength", "inf"], 1), (["--seed", "-1"], 2), (["--seed", "x"], 2),
        (["--seed", str(2**70)], 1), (["--seed", "1.5"], 2), (["--nothing"], 2), (["--calibrate"], 2), (["more"], 2),
    ],
)  # fmt: skip
def test_bad_options(good, predictor, options, code):
    outcome = predictor(good, *options)
    assert outcome.code == code
    one_line(outcome)


def test_a_usage_error_without_arguments():
    for arguments in (
        [],
        ["predict"],
        ["predict", "m.onnx"],
        ["nothing"],
        ["--nothing"],
        ["draw", "m.onnx"],
        ["strip"],
    ):
        outcome = command(*arguments)
        assert outcome.code == (2 if arguments else outcome.code)
        assert "Traceback" not in outcome.err
