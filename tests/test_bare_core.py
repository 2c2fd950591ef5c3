"""The wheel with `[cpu]` alone, in an environment of its own: no torch, and everything that the core promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "data" / "examples"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment's commands, into which the wheel is installed as a user would."""
    home = tmp_path_factory.mktemp("bare")
    pip = ["-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, *pip, "wheel", "--no-deps", "-w", home, ROOT], check=True)
    (wheel,) = home.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", home / "venv"], check=True)
    commands = home / "venv" / ("Scripts" if os.name == "nt" else "bin")
    subprocess.run([commands / "python", *pip, "install", f"{wheel}[cpu]"], check=True)
    return commands


def _run(bare: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [str(bare / "onnx-ghn"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def _installed(bare: Path) -> set[str]:
    told = subprocess.run([bare / "python", "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True)
    return {line.partition("==")[0].lower() for line in told.stdout.splitlines()}


def test_what_is_installed(bare: Path) -> None:
    found = _installed(bare)
    assert "onnxruntime" in found
    assert not found & {"torch", "torchvision", "scipy", "networkx", "h5py", "matplotlib", "onnxruntime-gpu"}


@pytest.mark.parametrize("name", ["resnet18_cifar10", "gpt_like", "mobilenet_keras", "lstm_text"])
def test_predict_writes_what_an_environment_with_torch_writes(bare: Path, tmp_path: Path, name: str) -> None:
    source = EXAMPLES / f"{name}.onnx"
    done = _run(bare, "predict", source, "-o", "bare.onnx", "--policy", "all", "--calibrate", "none", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    here = [sys.executable, "-m", "onnx_ghn", "predict", source, "-o", tmp_path / "here.onnx"]
    subprocess.run([*here, "--policy", "all", "--calibrate", "none"], check=True, capture_output=True)
    assert (tmp_path / "bare.onnx").read_bytes() == (tmp_path / "here.onnx").read_bytes()


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", EXAMPLES / "audio_m5.onnx", "-o", "out.onnx"],
        ["inspect", EXAMPLES / "bert_like.onnx"],
        ["draw", EXAMPLES / "vit_small_torch.onnx", "-o", "out.svg"],
        ["strip", EXAMPLES / "resnet18_paddle.onnx", "-o", "out.onnx"],
        ["report", EXAMPLES / "convnet_flax.onnx", "-o", "out.html"],
        ["properties", EXAMPLES / "resnet18_cifar10.onnx"],
        ["ghns"],
        ["deepnets", "generate", "train", "-n", "3", "-o", "out.jsonl"],
        ["profile", EXAMPLES / "audio_m5.onnx", "--iterations", "3"],
    ],
    ids=lambda arguments: str(arguments[0]),
)
def test_commands_of_the_core(bare: Path, tmp_path: Path, arguments: list[object]) -> None:
    done = _run(bare, *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
    assert all((tmp_path / str(name)).stat().st_size for name in arguments if str(name).startswith("out."))


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["train"], "torch"),
        (["draw", EXAMPLES / "audio_m5.onnx", "-o", "out.png"], "plot"),
        (["deepnets", "generate", "train", "-n", "3", "-o", "out.hdf5"], "train"),
        (["load", "torchvision:resnet18", EXAMPLES / "resnet18_cifar10.onnx", "-o", "out.pt"], "torch"),
        (["load", "keras:ResNet50", EXAMPLES / "mobilenet_keras.onnx", "-o", "out.keras"], "keras"),
    ],
    ids=["torch", "matplotlib", "h5py", "torchvision", "keras"],
)
def test_what_is_missing_is_named_in_one_line(bare: Path, tmp_path: Path, arguments: list[object], extra: str) -> None:
    done = _run(bare, *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert f"[{extra}]" in line
    assert "pip install" in line
    assert list(tmp_path.iterdir()) == []
