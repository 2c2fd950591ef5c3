"""Models by name, and the commands that take them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from click.testing import CliRunner
from safetensors.torch import load_model

from onnx_ghn.cli import cli
from onnx_ghn.errors import ModelWriteError, OnnxGhnError, OptionError
from onnx_ghn.exporters.registry import FRAMEWORKS, SUFFIXES, resolve

NET = """
import torch

def build(width=4):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, width, 3), torch.nn.BatchNorm2d(width), torch.nn.ReLU())
    return net, torch.rand(1, 3, 8, 8)

def broken():
    raise ValueError("no such luck")

number = 5
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


def run(*arguments: str) -> object:
    return CliRunner().invoke(cli, list(arguments))


def test_commands_there_and_back(net: Path, tmp_path: Path) -> None:
    model, init, weights = (str(tmp_path / name) for name in ("m.onnx", "i.onnx", "w.safetensors"))
    done = run("export", f"torch:{net}:build", "-o", model, "--set", "width=6", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.output)
    assert (report["n_weights"], report["share"], report["left"]) == (6, 1.0, [])
    assert run("predict", model, "-o", init, "--policy", "all").exit_code == 0
    done = run("load", f"torch:{net}:build", init, "-o", weights, "--set", "width=6")
    assert done.exit_code == 0, done.output
    assert "6 of 6 weights loaded (100.00% of" in done.output
    module = resolve(f"torch:{net}:build", (), {"width": 6}).model
    before = module[0].weight.detach().clone()
    assert load_model(module, weights) == (set(), [])
    assert not torch.equal(module[0].weight, before)
    with pytest.raises(ModelWriteError, match="exists already"):
        CliRunner().invoke(cli, ["load", f"torch:{net}:build", init, "-o", weights], catch_exceptions=False)


def test_torchvision_by_name(tmp_path: Path) -> None:
    target = resolve("torchvision:squeezenet1_1", [(1, 3, 64, 64)], {"num_classes": 7})
    assert isinstance(target.model, torchvision.models.SqueezeNet)
    assert target.model(*target.example_inputs).shape == (1, 7)
    report = target.exporter.export(target.model, tmp_path / "m.onnx", target.example_inputs)
    assert report.complete
    assert np.isclose(report.share, 1)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("resnet50", "must be FRAMEWORK:TARGET"),
        ("jaxx:net", "must be FRAMEWORK:TARGET"),
        ("torchvision:resnet5", "there are resnet50"),
        ("torchvision:", "must be FRAMEWORK:TARGET"),
        ("torch:resnet50", "name a function"),
        ("torch:absent.py:build", "no such file"),
        ("torch:NET:nothing", "has no function 'nothing'"),
        ("torch:NET:number", "has no function 'number'"),
        ("torch:NET:broken", "ValueError: no such luck"),
        ("hf:no_such_type", "neither a model type"),
    ],
)
def test_wrong_names_are_one_line(target: str, message: str, net: Path) -> None:
    if target.startswith("hf:"):
        pytest.importorskip("transformers")
    with pytest.raises(OptionError, match=message):
        resolve(target.replace("NET", str(net)))


def test_a_broken_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text("import no_such_module\n")
    with pytest.raises(OptionError, match="ModuleNotFoundError"):
        resolve(f"torch:{path}:build")


def test_absent_frameworks_name_their_extra() -> None:
    import importlib.util
    import tomllib

    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for framework, module in (("keras", "keras"), ("paddle", "paddle")):
        if importlib.util.find_spec(module) is None:
            with pytest.raises(OptionError, match=rf"pip install .*\[{framework}\]"):
                resolve(f"{framework}:ResNet50")
        assert framework in extras
    assert {"flax", "equinox", "sklearn", "hf", "torch"} <= set(extras)
    assert set(SUFFIXES) == set(FRAMEWORKS.values())


@pytest.mark.parametrize("name", ["vit_h_14", "vit_b_16", "inception_v3", "raft_small"])
def test_example_images_are_of_a_size_that_the_network_takes(name: str) -> None:
    options = {"init_weights": False} if name == "inception_v3" else {}
    with torch.device("meta"):  # 632 million weights of the first, none of them made
        target = resolve(f"torchvision:{name}", (), options)
        inputs = target.example_inputs
        target.model.eval()(*(inputs if isinstance(inputs, tuple) else (inputs,)))


def test_weights_go_to_a_file_of_the_right_kind(net: Path, tmp_path: Path) -> None:
    model = str(tmp_path / "m.onnx")
    assert run("export", f"torch:{net}:build", "-o", model).exit_code == 0
    done = run("load", f"torch:{net}:build", model, "-o", str(tmp_path / "w.pt"))
    assert isinstance(done.exception, OnnxGhnError)
    assert "ends in .safetensors" in str(done.exception)
    assert run("export", f"torch:{net}:build", "-o", model, "--shape", "1,x").exit_code == 2
    assert run("export", f"torch:{net}:build", "-o", model, "--set", "width").exit_code == 2
    assert not (tmp_path / "w.pt").exists()
