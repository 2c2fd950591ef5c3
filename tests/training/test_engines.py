"""Dask and Ray, really started on this machine: what comes out of them has the bytes of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from colour_data import draw_colours

from onnx_ghn.deepnets1m import stream
from onnx_ghn.errors import DataError, OptionError
from onnx_ghn.parallel import in_order
from onnx_ghn.training.properties.ground_truth import train_briefly
from onnx_ghn.training.properties.settings import Brief

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ["dask", "ray"]
_TIMED = ("wall_s", "cpu_s")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster from elsewhere, and no report of Ray's to its makers."""
    for name in ("RAY_ADDRESS", "DASK_SCHEDULER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent), str(ROOT / "tests")])
    monkeypatch.setenv("PYTHONPATH", path)  # so that workers find this module


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_colours(tmp_path_factory.mktemp("data") / "colours", {"train": 60, "test": 6}, side=16)


def _run(*command: object) -> str:
    done = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _spread(backend: str) -> list[str]:
    return ["--workers", "2", "--backend", backend]


def _square(i: int) -> tuple[int, int]:
    return i * i, os.getpid()


def _refuse(_: int) -> int:
    raise DataError("line 3 is no record")


def _die(_: int) -> int:
    os._exit(3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of the engines are not ours
@pytest.mark.parametrize("backend", ENGINES)
def test_jobs_come_back_in_order_with_their_errors(backend: str) -> None:
    pytest.importorskip("distributed" if backend == "dask" else backend)
    found = list(in_order(_square, [(i,) for i in range(30)], 2, backend))
    assert [value for value, _ in found] == [i * i for i in range(30)]
    assert os.getpid() not in {pid for _, pid in found}
    with pytest.raises(DataError, match=r"^line 3 is no record$"):
        list(in_order(_refuse, [(0,)], 2, backend))
    with pytest.raises(OptionError, match="a worker process was killed"):
        list(in_order(_die, [(0,)], 2, backend))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ENGINES)
def test_generated_files_are_those_of_one_process(backend: str, tmp_path: Path) -> None:
    pytest.importorskip("distributed" if backend == "dask" else backend)
    command = ["-m", "onnx_ghn", "deepnets", "generate", "test", "--count", "200", "--seed", "3", "-o"]
    _run(*command, tmp_path / "one.jsonl")
    _run(*command, tmp_path / "many.jsonl", *_spread(backend))
    assert (tmp_path / "many.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ENGINES)
def test_a_search_is_that_of_one_process(backend: str, tmp_path: Path) -> None:
    """As a script: its folder, which is first where Python looks for modules, must hide none of the engine's."""
    pytest.importorskip("distributed" if backend == "dask" else backend)
    command = ["training/nas.py", "--count", "130", "--seed", "5", "--top", "1", "-o"]
    _run(*command, tmp_path / "one")
    _run(*command, tmp_path / "many", *_spread(backend))
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert {"ranking.csv", "front.csv", "front.svg"} < set(names)
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == names
    for name in names:
        assert (tmp_path / "many" / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("backend", ENGINES)
def test_measurements_are_those_of_one_process(backend: str, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed" if backend == "dask" else backend)
    command = ["training/property_prediction.py", "measure", "--split", "val", "--count", "3", "-d", data]
    command += ["--channels", "8", "--steps", "4", "--batch-size", "8", "--n-images", "12", "--out"]
    _run(*command, tmp_path / "one")
    _run(*command, tmp_path / "many", *_spread(backend))
    assert _records(tmp_path / "many") == _records(tmp_path / "one")


def _records(folder: Path) -> list[dict[str, object]]:
    lines = (folder / "training-val.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in _TIMED} for line in lines]


def _trained(run: Callable[[list[tuple[object, ...]]], list[dict[str, object]]], data: Path) -> list[dict[str, object]]:
    brief = Brief(dataset=str(data), channels=8, steps=4, batch_size=8, n_images=12, amp=False)
    nets = [net for net, _ in zip(stream("val", seed=7), range(3), strict=False)]
    records = run([(net, brief, "") for net in nets])
    return [{key: value for key, value in record.items() if key not in _TIMED} for record in records]


def test_threads_of_one_process_measure_the_same(data: Path) -> None:
    """They share torch's random numbers, so that networks which train at once would get each other's."""
    alone = _trained(lambda tasks: [train_briefly(*task) for task in tasks], data)  # type: ignore[arg-type]
    together = _trained(lambda tasks: list(in_order(train_briefly, tasks, 3, "threading")), data)
    assert together == alone


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_running_dask_cluster_of_threads_measures_the_same(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    alone = _trained(lambda tasks: [train_briefly(*task) for task in tasks], data)  # type: ignore[arg-type]
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster:
        import dask

        with dask.config.set({"scheduler-address": cluster.scheduler_address}):
            assert _trained(lambda tasks: list(in_order(train_briefly, tasks, 1, "dask")), data) == alone
        assert cluster.scheduler_info["workers"]  # it is not ours to stop
