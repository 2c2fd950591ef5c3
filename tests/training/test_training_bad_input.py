"""What can be wrong with data, files and options of the trainers: one line each, and nothing lost."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from colour_data import draw_colours

from onnx_ghn.cli import main
from onnx_ghn.ghn import GHNConfig, new_ghn, save_ghn

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ["train", "--hid", "8", "--max-shape", "16", "--max-cells", "4", "--image-size", "8", "-b", "4", "--steps", "2"]
NET = ["train-net", "--init-channels", "16", "--layers", "3", "-b", "4", "-e", "1", "--until", "1"]
EVAL = ["eval", "--split", "val", "-n", "1"]


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_colours(tmp_path_factory.mktemp("data") / "colours", {"train": 12, "test": 4})


@pytest.fixture(scope="module")
def ghn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_ghn(
        new_ghn(GHNConfig.preset("ghn2", hid=8, max_shape=(16, 16, 7, 7), num_classes=3), seed=0),
        tmp_path_factory.mktemp("ghn"),
    )


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Exit code and stderr of a command."""

    def run(*arguments: object) -> tuple[int, str]:
        extra = ["-S", str(tmp_path / "runs")] if arguments[0] in ("train", "train-net") else []
        try:
            main([*map(str, arguments), *extra])
        except SystemExit as stop:
            return int(stop.code or 0), capsys.readouterr().err
        return 0, capsys.readouterr().err

    return run


def broken_zip(folder: Path, colours: Path) -> Path:
    path = folder / "colours.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i, file in enumerate(sorted(colours.rglob("*.png"))):
            data = file.read_bytes()
            archive.writestr(str(file.relative_to(colours)), data[:60] if i == 20 else data)
    return path


@pytest.mark.parametrize("verb", [TRAIN, NET, EVAL], ids=["train", "train-net", "eval"])
@pytest.mark.parametrize("data", ["absent", "empty", "no cifar10", "a broken image", "a cut zip"])
def test_data_sets(verb: list[str], data: str, colours: Path, tmp_path: Path, said: Callable) -> None:
    source: object = tmp_path / "absent"
    if data == "empty":
        source = tmp_path / "empty"
        source.mkdir()
    elif data == "no cifar10":
        source = "cifar10"
    elif data == "a broken image":
        source = broken_zip(tmp_path, colours)
    elif data == "a cut zip":
        source = broken_zip(tmp_path, colours)
        source.write_bytes(source.read_bytes()[:3000])
    code, told = said(*verb, "-d", source, "-D", tmp_path)
    if verb is EVAL and data == "a broken image":
        assert code == 0 or told.startswith("error: ")  # it lies among the training images
        return
    assert code == 1
    assert told.startswith("error: ")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*TRAIN, "--lr", "-1"], "--lr"),
        ([*TRAIN, "--ckpt", "nothing"], "nothing"),
        ([*TRAIN, "--hid", "9"], "hid"),
        ([*TRAIN, "--ckpt", "ghn-cifar10"], "--hid: ghn-cifar10 has hid 32, not 8"),
        ([*TRAIN, "--hid", "32", "--max-shape", "64", "--ckpt", "ghn-cifar10", "--ln", "-H", "mlp"], "--hypernet"),
        ([*TRAIN, "-b", "0"], "-b"),
        ([*TRAIN, "--threads", "0"], "--threads"),
        ([*TRAIN, "--max-params", "9"], "--max-params 9"),
        ([*TRAIN, "--lr-steps", "a,b"], "--lr-steps a,b"),
        ([*NET, "--init-channels", "37"], "C is 37"),
        ([*NET, "--arch", "resnet18"], "resnet18 is of torchvision"),
        ([*NET, "--device", "gpu"], "--device gpu"),
        ([*EVAL, "--device", "meta2"], "--device meta2"),
        ([*NET, "--lr", "nan"], "--lr nan"),
        ([*TRAIN, "--wd", "-1"], "--wd -1"),
        ([*TRAIN, "--split", "tset"], "tset"),
        ([*EVAL, "--file", "absent.hdf5"], "absent.hdf5"),
        (["eval", "--model", "absent.onnx"], "absent.onnx"),
        ([*EVAL, "--arch", "resnet1000"], "resnet1000"),
        (["eval", "--split", "test"], "-n"),
        (["eval", "--model", "m.onnx", "-C", "ghn-cifar10", "--results", "r.jsonl"], "--ghn, --results: "),
        (["eval", "--model", "m.onnx", "--split", "val", "--amp", "-s", "1"], "--split, --amp, --seed: of networks"),
        (["eval", "--model", "m.onnx", "--init", "kaiming", "--width", "split"], "--init, --width: of networks"),
        ([*EVAL, "--statistics", "batch"], "--statistics: of --model"),
        ([*EVAL, "--backend", "onnxruntime"], "--backend: of --model"),
        ([*EVAL, "-C", "nothing"], "nothing"),
        ([*NET, "--lr", "0"], "--lr"),
    ],
)
def test_options(arguments: list[str], message: str, colours: Path, ghn: Path, said: Callable) -> None:
    extra = ["-C", ghn] if arguments[0] == "eval" and not {"-C", "--model"} & set(arguments) else []
    code, told = said(*arguments, "-d", colours, *extra)
    assert code in (1, 2)
    assert message in told
    assert code == 2 or told.count("\n") == 1


def test_a_truncated_file_of_architectures(reference: Path, colours: Path, ghn: Path, tmp_path: Path, said) -> None:
    source = reference / "ppuda" / "deepnets"
    shutil.copy(source / "deepnets1m_eval_meta.json", tmp_path)
    path = tmp_path / "deepnets1m_eval.hdf5"
    path.write_bytes((source / "deepnets1m_eval.hdf5").read_bytes()[:5000])
    code, told = said(*EVAL, "-d", colours, "-C", ghn, "--file", path)
    assert code == 1
    assert told.startswith("error: ")
    assert told.count("\n") == 1


def test_no_space_loses_no_more_than_the_last_interval(colours: Path, tmp_path: Path) -> None:
    """The first checkpoint is written; then files may not be larger than half of it."""
    command = [
        sys.executable,
        "-m",
        "onnx_ghn",
        *TRAIN,
        "-d",
        str(colours),
        "-S",
        str(tmp_path),
        "--save-interval",
        "1",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--until", "1"], check=True, env=environment, cwd=ROOT, capture_output=True)
    state = tmp_path / "EXP" / "state.safetensors"
    before = state.read_bytes()

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, len(before) // 2))

    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, preexec_fn=small_files, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "cannot be written" in done.stderr
    assert state.read_bytes() == before
    assert sorted(path.name for path in state.parent.glob(".*")) == []
