"""Commands that put a framework to work: its chatter, its missing shape, its misspelt names."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NETS = """
import logging, os, sys, warnings
os.write(2, b"I0000 the compiled part speaks\\n")
os.write(1, b"and on stdout\\n")
logging.getLogger("tensorflow").warning("so does its logger")
warnings.warn("and so do its warnings")

import torch

def build():
    print("the user's own words")
    return torch.nn.Linear(3, 2)
"""


def command(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    if not (folder / "nets.py").exists():
        (folder / "nets.py").write_text(NETS)
    return subprocess.run(
        [sys.executable, "-m", "onnx_ghn", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **variables},
        capture_output=True,
        text=True,
    )


def test_a_framework_s_words_are_for_debug(tmp_path: Path) -> None:
    arguments = ("export", "torch:nets.py:build", "-o", "m.onnx", "--shape", "1x3", "--json", "--force")
    done = command(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_elements"] == 8
    assert done.stderr == "the user's own words\n"
    loud = command(tmp_path, "--debug", *arguments)
    for words in ("the compiled part speaks", "so does its logger", "and so do its warnings"):
        assert words in loud.stderr
    loaded = command(tmp_path, "load", "torch:nets.py:build", "m.onnx", "-o", "w.safetensors")
    assert (loaded.returncode, loaded.stderr) == (0, "the user's own words\n")
    assert loaded.stdout.startswith("w.safetensors for torch:nets.py:build: 2 of 2 weights loaded")


def test_a_missing_shape_is_asked_for_by_its_option(tmp_path: Path) -> None:
    done = command(tmp_path, "export", "torch:nets.py:build", "-o", "m.onnx")
    assert done.returncode == 1
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: a module cannot be exported without inputs")
    assert "give --shape (such as --shape 1x3x224x224)" in last
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("kears:ResNet50", "did you mean keras:ResNet50?"),
        ("torchvison:resnet18", "did you mean torchvision:resnet18?"),
        ("nets.py:build", "did you mean torch:nets.py:build?"),
        ("torch:nets.py:biuld", "has no function 'biuld'; there are build, …"),
        ("torchvision:resnet19", "there are resnet18"),
    ],
)
def test_what_was_meant(tmp_path: Path, target: str, meant: str) -> None:
    done = command(tmp_path, "export", target, "-o", "m.onnx")
    assert done.returncode == 1
    assert meant in done.stderr.splitlines()[-1]


def test_a_misspelt_ghn(tmp_path: Path) -> None:
    done = command(tmp_path, "predict", "nets.py", "-o", "m.onnx", "--ghn", "ghn-cifra10")
    assert done.stderr.splitlines()[-1].endswith("did you mean ghn-cifar10?")


def test_keras_takes_a_backend_that_is_installed(tmp_path: Path) -> None:
    """Keras notes TensorFlow for its backend when it is first imported, whether that is installed or not."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("Keras is not installed")
    (tmp_path / "keras.json").write_text('{"backend": "tensorflow"}')
    (tmp_path / "nets.py").write_text(
        "import keras\n\ndef build():\n    return keras.Sequential([keras.layers.Dense(2)])\n"
    )
    variables = {"KERAS_HOME": str(tmp_path)}
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-m", "onnx_ghn", "export", "keras:nets.py:build", "-o", "m.onnx", "--shape", "1x3"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[2]), **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "2 of 2 weights traced (100.00% of 8 elements)" in done.stdout
