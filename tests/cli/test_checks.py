"""Misspelt paths, names and patterns are told before anything heavy is imported; outputs end as their content does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cli_models as models
import pytest
from cli_tools import command, one_line

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "onnx", "onnx_ir", "onnxruntime", "scipy", "numpy", "rich"}
MODEL = "data/examples/resnet18_cifar10.onnx"

MISSPELT = [
    ("predict", "typo.onnx", "-o", "x.onnx"),
    ("predict", MODEL, "-o", "x.onnx", "--ghn", "typo"),
    ("predict", MODEL, "-o", "x.onnx", "--include", "("),
    ("predict", MODEL, "-o", "x.onnx", "--exclude", "["),
    ("predict", MODEL, "-o", "x.pt"),
    ("predict", MODEL, "-o", "typo/x.onnx"),
    ("inspect", "typo.onnx"),
    ("inspect", MODEL, "--ghn", "typo"),
    ("draw", "typo.onnx", "-o", "x.svg"),
    ("strip", "typo.onnx", "-o", "x.onnx"),
    ("profile", "typo.onnx"),
    ("profile", MODEL, "--against", "typo.onnx"),
    ("profile", MODEL, "--inputs", "typo.npz"),
    ("profile", MODEL, "--csv", "x.pdf"),
    ("properties", "typo.onnx"),
    ("report", "typo.onnx", "-o", "x.html"),
    ("report", MODEL, "-o", "x.pdf"),
    ("export", "torch:typo.py:build", "-o", "x.onnx"),
    ("export", "torchvision:resnet18", "-o", "k.pt"),
    ("export", "typo:resnet18", "-o", "x.onnx"),
    ("load", "torchvision:resnet18", "typo.onnx", "-o", "x.safetensors"),
    ("deepnets", "info", "typo.hdf5"),
    ("eval", "--model", "typo.onnx"),
    ("eval", "--ghn", "typo"),
    ("finetune", "typo.onnx", "-d", "x", "-o", "x.onnx"),
    ("finetune", MODEL, "-d", "x", "-o", "x.pt"),
    ("finetune", MODEL, "-d", "x", "-o", "x.onnx", "--freeze", "("),
    ("predikt", MODEL),
]


@pytest.mark.parametrize("arguments", MISSPELT, ids=" ".join)
def test_a_typo_is_told_before_anything_heavy_is_imported(arguments):
    code = (
        "import sys, contextlib, onnx_ghn.cli\n"
        "try: onnx_ghn.cli.main(sys.argv[1:])\n"
        "except SystemExit as stop: code = stop.code\n"
        "print(code, *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    status, *loaded = run.stdout.split()
    assert status in ("1", "2")
    assert not HEAVY & set(loaded)
    assert len([line for line in run.stderr.splitlines() if line.lower().startswith("error: ")]) == 1, run.stderr


@pytest.fixture
def path(tmp_path) -> Path:
    """A small convolutional net."""
    (tmp_path / "net.onnx").write_bytes(models.conv_net().SerializeToString())
    return tmp_path / "net.onnx"


@pytest.mark.parametrize(
    ("name", "output", "ending"),
    [
        ("predict", "x.pt", ".onnx"),
        ("strip", "x.txt", ".onnx"),
        ("draw", "x.jpg", ".svg"),
        ("report", "x.pdf", ".html"),
    ],
)
def test_an_ending_that_contradicts_the_content(path, tmp_path, name, output, ending):
    one_line(command(name, path, "-o", tmp_path / output), output, "name another file", ending)
    assert [one.name for one in tmp_path.iterdir()] == ["net.onnx"]


def test_no_ending_contradicts_nothing(path, tmp_path):
    assert command("strip", path, "-o", tmp_path / "architecture").code == 0
    assert command("strip", path, "-o", tmp_path / "a.ONNX").code == 0
    assert command("strip", path, "-o", tmp_path / "net.onnx.bak").code == 0


@pytest.mark.parametrize("name", ["predict", "strip", "draw", "report"])
def test_the_standard_output_is_no_file(path, tmp_path, monkeypatch, name):
    """Where a dash is said to mean it, a file of that name would be the last thing that is looked for."""
    monkeypatch.chdir(tmp_path)
    one_line(command(name, path, "-o", "-"), "-: nothing is written to the standard output; name a")
    assert [one.name for one in tmp_path.iterdir()] == ["net.onnx"]


def test_a_model_in_the_place_of_a_ghn(path, tmp_path):
    outcome = command("predict", path, "-o", tmp_path / "o.onnx", "--ghn", path)
    one_line(outcome, "net.onnx: is a model, not a GHN; name a shipped one")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("table.csv", b"a\n1\n", "is neither a folder nor a zip archive; give a folder"),
        ("one.png", b"\x89PNG", "is a single image; name the folder that it lies in; give a folder"),
        ("half.zip", b"PK\x03\x04", "is a damaged zip archive (File is not a zip file); fetch it again"),
    ],
)
def test_data_of_another_kind(path, tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    outcome = command("predict", path, "-o", tmp_path / "o.onnx", "--data", tmp_path / name)
    one_line(outcome, f"--data {tmp_path / name}: {told}")


def test_include_that_matches_nothing(path, tmp_path, ghn_folder):
    options = ("--ghn", ghn_folder, "--include", "stem", "--include", "nothing")
    outcome = command("predict", path, "-o", tmp_path / "o.onnx", *options)
    one_line(outcome, "--include nothing", "stem.weight")
    assert [one.name for one in tmp_path.iterdir()] == ["net.onnx"]
    assert command("predict", path, "-o", tmp_path / "o.onnx", *options[:4]).code == 0
    assert (tmp_path / "o.onnx").exists()


def test_a_misspelt_command():
    assert "Did you mean predict" in command("predct").err
    assert "Did you mean generate?" in command("deepnets", "genrate").err
    assert "Did you mean" not in command("xyzzy").err
