"""Training a network from each kind of weights, resuming it, and judging it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from click.testing import CliRunner
from colour_data import draw_colours
from safetensors.torch import load_file

from onnx_ghn.cli.eval_ghn import eval_ghn
from onnx_ghn.cli.train_net import train_net
from onnx_ghn.deepnets1m import DARTS, Architecture
from onnx_ghn.deepnets1m.network import Network
from onnx_ghn.errors import CheckpointError, DataError, OnnxGhnError, RuntimeFailure
from onnx_ghn.ghn import GHNConfig, load_ghn, new_ghn, save_ghn
from onnx_ghn.torch_export import module_to_onnx
from onnx_ghn.training.nets.networks import Choice, make_module
from onnx_ghn.training.nets.trainer import NetTrainConfig, NetTrainer

TINY = ["--init-channels", "16", "--layers", "3"]


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_colours(tmp_path_factory.mktemp("data") / "colours", {"train": 24, "test": 8})


@pytest.fixture(scope="module")
def ghn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = GHNConfig.preset("ghn3", hid=8, max_shape=(16, 16, 11, 11), num_classes=3, dirac=True)
    return save_ghn(new_ghn(config, seed=0), tmp_path_factory.mktemp("ghn"))


def run(command: Any, *arguments: object) -> Any:
    result = CliRunner().invoke(command, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_network_learns_from_predicted_weights(colours: Path, ghn: Path, tmp_path: Path) -> None:
    arguments = ("-d", colours, "--arch", "DARTS", *TINY, "-b", 12, "--lr", 0.05, "--ckpt", ghn, "-S", tmp_path)
    before = json.loads(run(train_net, *arguments, "-e", 0, "--name", "none", "--json"))
    after = json.loads(run(train_net, *arguments, "-e", 4, "--name", "some", "--noise", "--json"))
    assert before["init"].startswith("predicted by")
    assert before["top1"] < 80 < after["top1"]
    assert after["noisy_top1"] > 60
    assert set(load_file(tmp_path / "some" / "net.safetensors")) >= {"stem0.0.weight", "classifier.0.bias"}
    assert json.loads((tmp_path / "some" / "result.json").read_text()) == after
    lines = (tmp_path / "some" / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == after["step"] == 4 * 6


def test_a_resumed_run_equals_one_that_was_not_interrupted(colours: Path, tmp_path: Path) -> None:
    arguments = ("-d", colours, *TINY, "-b", 12, "-e", 2, "-S", tmp_path, "--drop-path-prob", 0.3, "--auxiliary")
    arguments += ("--device", "cpu")  # on GPUs sums have no fixed order
    run(train_net, *arguments, "--name", "whole")
    run(train_net, *arguments, "--name", "parts", "--until", 5)
    run(train_net, *arguments, "--name", "parts")
    whole, parts = (load_file(tmp_path / name / "net.safetensors") for name in ("whole", "parts"))
    assert any(name.startswith("auxiliary_head.") for name in whole)
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())
    with pytest.raises(CheckpointError, match="lr"):
        run(train_net, *arguments, "--name", "parts", "--lr", 0.3)
    with pytest.raises(CheckpointError, match="origin"):
        run(train_net, *arguments, "--name", "parts", "--init", "kaiming")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--arch", "resnet18", "--cutout", "--n-shots", 8],
        ["--arch", "3", "--split", "test", "--init", "orth", "--amp"],
        ["--arch", "vit", "--init", "kaiming", "--beta", 0.1],
    ],
)
def test_any_network_trains(colours: Path, tmp_path: Path, arguments: list[object]) -> None:
    output = run(train_net, "-d", colours, *arguments, "-b", 8, "-e", 1, "-S", tmp_path, "--until", 2, "-l", 1)
    assert "step 2/" in output
    assert "top1" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "resnet1000"], "resnet1000"),
        (["--arch", "7"], "predefined has 0 to 3"),
        (["--arch", "resnet18", "--auxiliary"], "auxiliary"),
        (["--pretrained"], "no pretrained weights"),
        (["--ckpt", "absent"], "absent: no such file"),
        (["--ckpt", "absent", "--pretrained"], "choose one"),
        (["--n-shots", 1000], "takes? fewer|take fewer"),
        (["--drop-path-prob", 1], "drop-path-prob"),
    ],
)
def test_bad_options_give_one_line(colours: Path, tmp_path: Path, arguments: list[object], message: str) -> None:
    sizes = [] if "resnet18" in arguments else TINY
    with pytest.raises(OnnxGhnError, match=message):
        run(train_net, "-d", colours, *sizes, *arguments, "-e", 1, "-S", tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    class Broken:
        def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.full((2, 3, 32, 32), float("nan")), torch.tensor([0, 1])

    net = Network(Architecture(DARTS, n_cells=3, C=16, stem_type=1))
    with pytest.raises(RuntimeFailure, match="loss is nan"):
        NetTrainer(net, Broken(), NetTrainConfig(epochs=1, steps_per_epoch=2)).run()


def test_learning_rates_are_constant_within_an_epoch() -> None:
    config = NetTrainConfig(epochs=4, steps_per_epoch=10, lr=1.0)
    assert [round(config.schedule()(step), 4) for step in (0, 9, 10, 20, 39)] == [1, 1, 0.8536, 0.5, 0.1464]


def test_networks_are_evaluated_and_the_results_resume(colours: Path, ghn: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    arguments = ("-d", colours, "-C", ghn, "--split", "test", "-n", 3, "--results", results, "--noise", "--json")
    first = json.loads(run(eval_ghn, *arguments))
    lines = results.read_text().splitlines(keepends=True)
    results.write_text("".join(lines[:2]) + lines[2][:9])
    assert json.loads(run(eval_ghn, *arguments)) == first
    assert [row["name"] for row in first["results"]] == ["test-0", "test-1", "test-2"]
    tops = [row["top1"] for row in first["results"]]
    assert first["summary"]["top1"]["mean"] == pytest.approx(sum(tops) / 3)
    assert first["summary"]["noisy_top1"]["max"] <= 100
    table = run(eval_ghn, *arguments[:-1])
    assert "mean of 3" in table
    other = load_ghn(ghn)
    with torch.no_grad():
        other.bias_class[1].bias += 1
    elsewhere = save_ghn(other, tmp_path / "ghn")
    with pytest.raises(DataError, match=r"other settings \(ghn\)"):
        run(eval_ghn, *arguments, "-C", elsewhere)
    shutil.copytree(ghn, tmp_path / "same")
    assert json.loads(run(eval_ghn, *arguments, "-C", tmp_path / "same")) == first


def test_one_index_is_the_network_of_the_whole_split(colours: Path, ghn: Path) -> None:
    arguments = ("-d", colours, "-C", ghn, "--split", "val", "--json")
    whole = json.loads(run(eval_ghn, *arguments, "-n", 2))["results"]
    one = json.loads(run(eval_ghn, *arguments, "--arch", 1))["results"]
    assert one == whole[1:]
    kaiming = json.loads(run(eval_ghn, *arguments, "--arch", 1, "--init", "kaiming"))["results"]
    assert kaiming[0]["name"] == "val-1"


def test_a_torchvision_network_and_its_file_agree(colours: Path, ghn: Path, tmp_path: Path) -> None:
    from torchvision import models

    import onnx_ghn
    from onnx_ghn.vision import adjust_to_small_images

    found = json.loads(run(eval_ghn, "-d", colours, "-C", ghn, "--arch", "resnet18", "--json"))["results"][0]
    net = adjust_to_small_images(models.resnet18(num_classes=3)).eval()
    source, filled = tmp_path / "net.onnx", tmp_path / "filled.onnx"
    model = module_to_onnx(net, (torch.zeros(2, 3, 32, 32),), input_names=["x"], dynamic_axes={"x": {0: "n"}})
    onnx.save(model, source)
    onnx_ghn.predict(source, filled, ghn=ghn)
    row = json.loads(run(eval_ghn, "-d", colours, "--model", filled, "--statistics", "batch", "--json"))["results"][0]
    assert row["top1"] == pytest.approx(found["top1"], abs=5)  # rounding may turn the odd answer
    assert row["n_images"] == 24


def test_a_vision_transformer_of_torchvision_takes_small_images(caplog: pytest.LogCaptureFixture) -> None:
    with torch.device("meta"):
        module = make_module(Choice("vit_b_16", "vit_b_16"), 10, small_images=True)
        assert module.eval()(torch.empty(2, 3, 32, 32)).shape == (2, 10)
        large = make_module(Choice("vit_b_16", "vit_b_16"), 10, small_images=False)
        assert large.eval()(torch.empty(2, 3, 224, 224)).shape == (2, 10)
    assert "no form for small images" not in caplog.text
