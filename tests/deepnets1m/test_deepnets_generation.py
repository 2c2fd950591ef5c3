"""Generation: the same bytes whatever the workers, and nothing lost by a kill."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor

from onnx_ghn.deepnets1m import generate, open_deepnets, stream
from onnx_ghn.errors import ModelWriteError, OptionError
from onnx_ghn.parallel import in_order

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 architectures: two jobs and a part of a third."""
    path = tmp_path_factory.mktemp("whole") / "whole.jsonl"
    assert generate("train", 150, 9, path) == 0
    return path


@pytest.mark.parametrize(("workers", "backend"), [(2, None), (3, "threading"), (1, "loky"), (-1, "threading")])
def test_workers_do_not_change_the_file(whole: Path, tmp_path: Path, workers: int, backend: str | None) -> None:
    generate("train", 150, 9, tmp_path / "nets.jsonl", workers=workers, backend=backend)
    assert (tmp_path / "nets.jsonl").read_bytes() == whole.read_bytes()


def test_a_file_is_the_stream_of_its_seed(whole: Path) -> None:
    with open_deepnets(whole) as nets:
        assert [record.architecture for record in nets.records("train")] == list(
            itertools.islice(stream("train", 9), 150)
        )


def test_a_file_cut_at_any_byte_is_completed(whole: Path, tmp_path: Path) -> None:
    data = whole.read_bytes()
    header = data.index(b"\n") + 1
    path = tmp_path / "nets.jsonl"
    cuts = [0, 1, header - 1, header, header + 1, len(data) - 1, *np.random.default_rng(1).integers(0, len(data), 8)]
    for cut in cuts:
        path.write_bytes(data[:cut])
        n_lines = max(0, data[:cut].count(b"\n") - 1)
        assert generate("train", 150, 9, path) == n_lines // 64 * 64
        assert path.read_bytes() == data
    # After a power cut a file may end in zeros that were never written.
    path.write_bytes(data[:9000] + bytes(700) + b"\n" + bytes(3))
    generate("train", 150, 9, path)
    assert path.read_bytes() == data


def test_more_of_the_same_file(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "nets.jsonl"
    generate("train", 70, 9, path)
    assert whole.read_bytes().startswith(path.read_bytes())
    told: list[tuple[str, int]] = []
    assert generate("train", 150, 9, path, progress=lambda doing, done: told.append((doing, done))) == 64
    assert told == [("generating", 128), ("generating", 150)]
    assert path.read_bytes() == whole.read_bytes()
    assert generate("train", 150, 9, path) == 150
    assert generate("train", 20, 9, path) == 150  # nothing is taken away
    assert path.read_bytes() == whole.read_bytes()


def test_files_of_other_content_are_kept(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "nets.jsonl"
    for content in (b"my notes\n", whole.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ModelWriteError, match="exists already"):
            generate("train", 10, 8, path)
        assert path.read_bytes() == content
    assert generate("train", 10, 8, path, force=True) == 0
    with open_deepnets(path) as nets:
        assert len(nets) == 10


def test_official_file_goes_on_from_its_partial_one(tmp_path: Path) -> None:
    once, again = tmp_path / "once.hdf5", tmp_path / "again.hdf5"
    generate("val", 80, 2, once)
    generate("val", 70, 2, tmp_path / "again.partial.jsonl")
    assert generate("val", 80, 2, again, workers=2, backend="threading") == 64
    assert again.read_bytes() == once.read_bytes()
    names = ["again.hdf5", "again_meta.json", "once.hdf5", "once_meta.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    with pytest.raises(ModelWriteError, match="exists already"):
        generate("val", 80, 2, again)


def test_wrong_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "nets.jsonl"
    for options, pattern in (
        ({"split": "predefined"}, "no split 'predefined'"),
        ({"n": 0}, "at least one"),
        ({"seed": -1}, "seed"),
        ({"workers": 0}, "0 workers"),
        ({"backend": "pigeons"}, "no backend 'pigeons'"),
    ):
        with pytest.raises(OptionError, match=pattern):
            generate(**{"split": "val", "n": 5, "seed": 1, "out": path, **options})  # type: ignore[arg-type]
    needed = {None: "joblib", "ray": "ray: pip install ray", "dask": "distributed: pip install distributed"}
    for absent, backend in (("joblib", None), ("ray", "ray"), ("distributed", "dask")):
        monkeypatch.setitem(sys.modules, absent, None)
        with pytest.raises(OptionError, match=needed[backend]):
            generate("val", 5, 1, path, workers=2, backend=backend)
    assert not path.exists()
    with pytest.raises(ModelWriteError, match="no folder"):
        generate("val", 5, 1, tmp_path / "absent" / "nets.jsonl")


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    path = tmp_path / "nets.jsonl"
    generate("val", 5, 1, path)
    with open(path, "rb+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ModelWriteError, match="another process"):
            generate("val", 10, 1, path)


def test_no_space(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    link = tmp_path / "nets.jsonl"
    link.symlink_to("/dev/full")
    with pytest.raises(ModelWriteError):
        generate("val", 5, 1, link, force=True)


def _dies(_: int) -> int:
    os._exit(3)


def test_a_killed_worker_is_told() -> None:
    with pytest.raises(OptionError, match="a worker process was killed"):
        list(in_order(_dies, [(i,) for i in range(4)], 2))
    assert list(in_order(_double, [(i,) for i in range(4)], 2)) == [0, 2, 4, 6]  # by new processes


def test_a_lost_minder_of_the_workers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that minds loky's processes ends where it warns and warnings are errors: nobody waits for ever."""
    monkeypatch.setattr("onnx_ghn.parallel._LOOK_SECONDS", 0.1)
    results = in_order(_waits, [(0.0,), (5.0,)], 2)
    assert next(results) == 0.0
    ended = threading.Thread(target=int)
    ended.start()
    ended.join()
    pool = get_reusable_executor(2, reuse=True)
    monkeypatch.setattr(pool, "_executor_manager_thread", ended)
    with pytest.raises(OptionError, match="a worker process was killed"):
        next(results)


def test_workers_that_nobody_waits_for_are_ended() -> None:
    for _ in range(3):
        results = in_order(_waits, [(0.0,), (600.0,), (600.0,)], 2)
        assert next(results) == 0.0
        pool = get_reusable_executor(2, reuse=True)
        processes = list(pool._processes.values())
        results.close()
        assert len(processes) == 2
        assert not any(process.is_alive() for process in processes)
    assert list(in_order(_double, [(1,), (2,)], 2)) == [2, 4]


def _double(number: int) -> int:
    return 2 * number


def _waits(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def _kills(tmp_path: Path, n_kills: int, n: int, workers: int, longest: float) -> None:
    """Kill a run at random moments, each time going on; what was written stays, and the end is as if nothing was."""
    expected = tmp_path / "expected.jsonl"
    generate("train", n, 5, expected)
    data = expected.read_bytes()
    path = tmp_path / "nets.jsonl"
    options = ["-n", str(n), "--seed", "5", "--workers", str(workers), "-o", str(path)]
    command = [sys.executable, "-m", "onnx_ghn", "deepnets", "generate", "train", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    rng = np.random.default_rng(n_kills)
    lengths = [0]
    for number in range(n_kills):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if number % 2 == 0:  # however long a busy machine takes to start: while it writes
            _wait_for_more(path, lengths[-1], process)
        time.sleep(rng.uniform(0.1, longest))
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = path.read_bytes() if path.exists() else b""
        assert data.startswith(found)
        lengths.append(len(found))
        assert lengths[-1] > lengths[-2] - 64 * 200  # only an unfinished job is made again
    assert max(lengths) > 0
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    assert path.read_bytes() == data


def _wait_for_more(path: Path, length: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end and (not path.exists() or path.stat().st_size <= length):
        time.sleep(0.01)


def test_kill_9(tmp_path: Path) -> None:
    _kills(tmp_path, 5, 1500, 1, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_kill_9_at_twenty_moments(tmp_path: Path, workers: int) -> None:
    _kills(tmp_path, 20, 20_000, workers, 4.0)


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    path = tmp_path / "nets.jsonl"
    code = f"from onnx_ghn.deepnets1m import generate; generate('train', 10**5, 1, {str(path)!r}, workers=2)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (not path.exists() or path.stat().st_size < 20_000):
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert len(children) >= 2
    _, left = psutil.wait_procs(children, timeout=10)
    assert not left


def test_lines_are_plain_json(whole: Path) -> None:
    header, *lines = [json.loads(line) for line in whole.read_text().splitlines()]
    assert header["split"] == "train"
    assert header["seed"] == 9
    assert len(lines) == 150
    assert all(len(line) == len(header["columns"]) for line in lines)
