"""How a command ends: without streams, by a signal, in a folder that is gone, with names no terminal should see."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import io_models as m
import onnx
import pytest
from cli_tools import command, one_line, save

from onnx_ghn.errors import DataError, printable
from onnx_ghn.scratch import scratch_folder

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: object, shell: str = "", folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, begun by a shell that closes or redirects its streams."""
    words = [sys.executable, "-m", "onnx_ghn", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["sh", "-c", f'"$@" {shell}', "sh", *words], env=environment, cwd=folder, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


# -- streams -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/null 2>/dev/full"])
def test_streams_that_are_closed(tmp_path: Path, ghn_folder: Path, shell: str) -> None:
    """The file is whole: nothing that is printed goes into it. What is wrong still shows in the exit code."""
    path = save(tmp_path / "in", m.mlp())
    found = run("strip", path, "-o", tmp_path / "o.onnx", shell=shell)
    assert found.returncode == 0, found.stderr
    onnx.checker.check_model(str(tmp_path / "o.onnx"))
    assert "Traceback" not in found.stderr
    found = run("strip", tmp_path / "absent.onnx", "-o", tmp_path / "p.onnx", shell=shell)
    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    assert not (tmp_path / "p.onnx").exists()


def test_a_full_stdout_is_told(tmp_path: Path) -> None:
    path = save(tmp_path / "in", m.mlp())
    found = run("inspect", path, "--json", shell=">/dev/full")
    assert found.returncode != 0
    assert "no space left" in found.stderr
    assert "Traceback" not in found.stderr


# -- signals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_signals_leave_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """What a killed run cannot remove, the next one does: in the target's folder and among the temporary files."""
    code = """
        import os, signal, sys, time
        import click
        # Below nohup, or in the background of a shell, they are ignored, and stay so.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from onnx_ghn.cli.running import run_command
        from onnx_ghn.onnx_io import write_file
        from onnx_ghn.scratch import scratch_folder

        def slow():
            yield b"half"
            print("begun", flush=True)
            time.sleep(60)

        @click.command()
        def work():
            with scratch_folder() as folder:
                (folder / "large").write_bytes(bytes(99))
                write_file(sys.argv[1], slow())

        run_command(work, [])
    """
    target, scratch = tmp_path / "out" / "o.onnx", tmp_path / "scratch"
    target.parent.mkdir()
    scratch.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(scratch)}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(target)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "begun\n"
        assert len(os.listdir(target.parent)) == len(os.listdir(scratch)) == 1
        process.send_signal(number)
        told = process.stderr.read()
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130}.get(number, 128 + number)
    if number != signal.SIGKILL:
        assert told.strip() == ("interrupted" if number == signal.SIGINT else "terminated")
        assert os.listdir(target.parent) == os.listdir(scratch) == []
        return
    assert len(os.listdir(target.parent)) == len(os.listdir(scratch)) == 1
    path = save(tmp_path / "in", m.mlp())
    assert command("strip", path, "-o", target).code == 0
    assert os.listdir(target.parent) == ["o.onnx"]
    before = tempfile.tempdir
    tempfile.tempdir = str(scratch)
    try:
        with scratch_folder() as folder:
            assert os.listdir(scratch) == [folder.name]
    finally:
        tempfile.tempdir = before
    assert os.listdir(scratch) == []


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    assert command("--version").code == 0
    assert command("strip").code == 2
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)] == before


def test_folders_of_others_are_no_strays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("onnx-ghn-abcdefgh", "onnx-ghn-abcdefg1", "other-abcdefgh", "onnx-ghn-x"):
        (tmp_path / name).mkdir()
    (tmp_path / "onnx-ghn-abcdefg1" / ".lock").mkdir()
    for name in ("other-abcdefgh", "onnx-ghn-x"):
        (tmp_path / name / ".lock").write_bytes(b"")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ".lock").write_bytes(b"")
    (tmp_path / "onnx-ghn-abcdefg2").symlink_to("elsewhere")
    (tmp_path / "onnx-ghn-abcdefg3").mkdir()
    (tmp_path / "onnx-ghn-abcdefg3" / ".lock").write_bytes(b"")  # this one is a stray
    before = set(os.listdir(tmp_path))
    with scratch_folder() as one, scratch_folder() as other:
        assert set(os.listdir(tmp_path)) == (before - {"onnx-ghn-abcdefg3"}) | {one.name, other.name}
    assert set(os.listdir(tmp_path)) == before - {"onnx-ghn-abcdefg3"}


# -- folders and names ---------------------------------------------------------------------------------------


def test_a_working_directory_that_is_gone(tmp_path: Path) -> None:
    path = save(tmp_path / "in", m.mlp())
    gone = tmp_path / "gone"
    words = f'"{sys.executable}" -m onnx_ghn'
    for arguments, code in (
        (f"strip {path} -o {tmp_path}/o.onnx", 0),
        (f"inspect {path}", 0),
        (f"profile {path} --seconds 0.01 --no-operators", 0),
        ("strip m.onnx -o o.onnx", 1),
        (f"strip {path} -o o.onnx", 1),
        (f"draw {path} -o o.svg", 1),
    ):
        gone.mkdir()
        found = subprocess.run(
            ["sh", "-c", f'cd "{gone}" && rmdir "{gone}" && {words} {arguments}'],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert found.returncode == code, (arguments, found.stderr)
        lines = [line for line in found.stderr.splitlines() if "getcwd" not in line]
        assert "Traceback" not in found.stderr
        if code:
            assert len(lines) == 1, found.stderr
            assert lines[0].startswith("error: ")
            assert "unexpected" not in lines[0]


@pytest.mark.parametrize("length", [10**6, 10**4])
def test_names_of_a_megabyte(tmp_path: Path, predictor, length: int) -> None:
    proto = m.mlp()
    proto.graph.node[0].input[0] = "n" * length
    line = predictor.fails(save(tmp_path / "in", proto), "which nothing produces")
    assert len(line) < 4000
    proto = m.mlp()
    old = proto.graph.initializer[0].name
    proto.graph.initializer[0].name = "w" * length
    for node in proto.graph.node:
        node.input[:] = ["w" * length if name == old else name for name in node.input]
    path = save(tmp_path / "in", proto)
    for name, more in (("inspect", ()), ("predict", ("-o", tmp_path / "o.onnx", "--ghn", predictor.ghn))):
        outcome = command(name, path, *more)
        assert outcome.code == 0, outcome.err
        assert len(outcome.out) < 60_000
    found = json.loads(command("inspect", path, "--json").out)
    assert "w" * length in json.dumps(found)  # programs are told the whole name


def test_long_messages_keep_what_and_remedy() -> None:
    for text in ("x" * 10**6, "x " * 10**6, "字" * 10**5):
        told = str(DataError(f"the file: node {text} is wrong; mend it"))
        assert len(told) < 5000
        assert told.startswith("the file: node ")
        assert told.endswith("is wrong; mend it")
    path = "/".join(["folder" * 20] * 4)
    assert str(DataError(f"{path}: absent; name another")) == f"{path}: absent; name another"
    assert len(printable("\x1b" * 10**6)) < 20_000


@pytest.mark.parametrize("name", ["a\x1b[31mred", "a\nb", "a\rb", "a\x07b", "a\x9bb", "a\u202eb"])
def test_control_characters_in_paths(tmp_path: Path, ghn_folder: Path, name: str) -> None:
    """A terminal obeys none of them, whether the command works or fails."""
    folder = tmp_path / name
    path = save(folder, m.mlp())
    target = folder / f"{name}.onnx"
    outcomes = [
        command("strip", path, "-o", target),
        command("strip", path, "-o", target),  # it exists
        command("draw", path, "-o", folder / f"{name}.svg"),
        command("predict", path, "-o", folder / f"{name}.2.onnx", "--ghn", ghn_folder),
        command("report", path, "-o", folder / f"{name}.html", "--no-predict"),
        command("inspect", folder / "absent.onnx"),
        command("predict", name, "--nothing-like-it"),
        command(name),
        command("predict", path, "-o", target, f"--{name}"),
        command("predict", path, "-o", target, "--fallback", name),
    ]
    assert [outcome.code for outcome in outcomes] == [0, 1, 0, 0, 0, 1, 2, 2, 2, 2]
    character = next(c for c in name if not c.isprintable())
    for outcome in outcomes:
        if character == "\n":
            assert "a\nb" not in outcome.out + outcome.err
        else:
            assert character not in outcome.out + outcome.err
    one_line(outcomes[1], "exists already")


# -- numbers in metadata -------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["onnx_ghn.frozen", "onnx_ghn.trace"])
@pytest.mark.parametrize(
    "text",
    ['{"w1": [[0, 1e400]]}', '{"w1": [[0, Infinity]]}', '{"w1": [[NaN, 1]]}', '{"w1": [[0, 1.5]]}',
     '{"w1": [[-1, 2]]}', '{"w1": [[2, 1]]}', '{"w1": [[0, 9' + "9" * 30 + "]]}", '{"w1": [[true, 2]]}', '{"w1": 7}',
     '{"w1": [["0", "1"]]}', "[" * 9999, "9" * 9999, '{"version": 1, "shapes": {"w": [1e400]}, "stored": {}}'],
)  # fmt: skip
def test_numbers_in_metadata_that_are_none(tmp_path: Path, predictor, key: str, text: str) -> None:
    proto = m.mlp()
    proto.metadata_props.add(key=key, value=text)
    path = save(tmp_path / "in", proto)
    if key == "onnx_ghn.frozen":
        predictor.fails(path, "metadata onnx_ghn.frozen is damaged")
    else:
        predictor.works(path)


def test_time_is_short() -> None:
    """A name of a megabyte is cut before it is escaped."""
    began = time.perf_counter()
    for _ in range(20):
        printable("\x1b字" * 10**6)
    assert time.perf_counter() - began < 5
