"""Whole runs of the trainer as processes: two that share the nets, and one that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from colour_data import draw_colours
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "training" / "train_ghn.py"
SMALL = ["-H", "graphormer", "--dirac", "--pooled-flatten", "--hid", "8", "--max-shape", "16"]
SMALL += ["--max-cells", "4", "--image-size", "8"]
RUN = [
    *SMALL,
    "-b",
    "8",
    "-m",
    "2",
    "--steps",
    "12",
    "--save-interval",
    "3",
    "-l",
    "1",
    "--threads",
    "1",
    "--ema",
    "0.9",
    "--device",
    "cpu",  # to the bit: on GPUs sums have no fixed order
]


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_colours(tmp_path_factory.mktemp("data") / "colours", {"train": 24, "test": 4})


def command(colours: Path, folder: Path, name: str, *extra: str, processes: int = 1) -> list[str]:
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return [*start, str(SCRIPT), "-d", str(colours), "-S", str(folder), "--name", name, *RUN, *extra]


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "ONNX_GHN_CACHE": str(folder / "cache")}


def log(folder: Path, name: str) -> dict[int, float]:
    lines = (folder / name / "log.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    assert [line["step"] for line in steps] == sorted({line["step"] for line in steps})
    return {line["step"]: line["loss"] for line in steps}


@pytest.fixture(scope="module")
def alone(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    subprocess.run(command(colours, folder, "run"), check=True, env=environment(folder), capture_output=True)
    return folder


@pytest.fixture(scope="module")
def pair(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    done = subprocess.run(
        command(colours, folder, "run", processes=2), env=environment(folder), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_two_processes_learn_as_one(alone: Path, pair: Path) -> None:
    ours, theirs = log(pair, "run"), log(alone, "run")
    assert list(ours) == list(theirs) == list(range(1, 13))
    # Sums in another order, and Adam's steps follow signs: curves part slowly.
    np.testing.assert_allclose(list(ours.values())[:4], list(theirs.values())[:4], rtol=2e-3)
    np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=0.1)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_to_the_bit(
    colours: Path, alone: Path, pair: Path, tmp_path: Path, processes: int
) -> None:
    """torchrun's workers outlive it unless they see to it; then they would write beside the next run's."""
    psutil = pytest.importorskip("psutil")
    started = command(colours, tmp_path, "run", processes=processes)
    process = subprocess.Popen(started, env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = tmp_path / "run" / "state.safetensors"
    end = time.monotonic() + 120
    while not state.exists() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(workers) >= processes - 1
    _, left = psutil.wait_procs(workers, timeout=20)
    assert not left
    assert state.exists()
    done = subprocess.run(started, env=environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stdout
    whole = alone if processes == 1 else pair
    assert log(tmp_path, "run") == log(whole, "run")
    ours, theirs = (load_file(folder / "run" / "ghn" / "model.safetensors") for folder in (tmp_path, whole))
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_a_ghn_of_other_settings_is_told_in_one_line(colours: Path, alone: Path) -> None:
    done = subprocess.run(
        command(colours, alone, "run", "--lr", "0.5"), env=environment(alone), capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "lr" in done.stderr
