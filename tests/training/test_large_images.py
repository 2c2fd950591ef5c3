"""ImageNet's layout end to end on a small tree: a GHN is trained, judged, and a network trained from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from colour_data import draw_colours

from onnx_ghn.cli.eval_ghn import eval_ghn
from onnx_ghn.cli.train_ghn import train_ghn
from onnx_ghn.cli.train_net import train_net
from onnx_ghn.ghn import load_ghn


def run(command: Any, *arguments: object) -> str:
    result = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("data")
    # The last fifty of each class are for validation, at most a tenth.
    draw_colours(home / "imagenet", {"train": 11, "val": 2}, side=80)
    return home


def test_imagenet_end_to_end(data: Path, tmp_path: Path) -> None:
    common = ("-d", "imagenet", "-D", data, "-S", tmp_path, "--threads", 1)
    small = (
        "--hid",
        8,
        "--max-shape",
        16,
        "--max-cells",
        4,
        "--channels",
        16,
        "-b",
        2,
        "--amp",
        "-n",
        "-v",
        50,
        "--ln",
    )
    output = run(train_ghn, *common, *small, "--steps", 2, "-l", 1, "--name", "ghn")
    assert "step 2/2" in output
    ghn = load_ghn(tmp_path / "ghn" / "ghn")
    assert ghn.config.num_classes == 3
    assert ghn.config.max_shape[2] == 16
    judge = ("-d", "imagenet", "-D", data, "-C", tmp_path / "ghn" / "ghn", "--threads", 1, "--json")
    rows = json.loads(run(eval_ghn, *judge, "--split", "test", "--arch", 1))["results"]
    assert rows[0]["n_images"] == 6
    output = run(
        train_net, *common, "--arch", "resnet18", "-b", 4, "-e", 1, "--until", 1, "--ckpt", tmp_path / "ghn" / "ghn"
    )
    assert "resnet18 after 1 step:" in output
