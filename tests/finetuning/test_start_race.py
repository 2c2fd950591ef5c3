"""A race of starts on a file: equal steps, held-out training images, ties to the author's start."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from predict_models import tiny_ghn
from torch import nn
from tuning_models import tensors_of, torch_file

pytest.importorskip("onnx2fx", reason="onnx2fx is not installed: pip install 'onnx-ghn[finetune]'")

from onnx_ghn.cli.predict import predict as command
from onnx_ghn.errors import OptionError, RuntimeFailure
from onnx_ghn.finetuning import Finetuning, StartOptions, choose_start
from onnx_ghn.finetuning.start_race import _margin, _winner
from onnx_ghn.ghn import save_ghn

KERNELS = {"tensor": {"kind": ["conv2d"], "longest": {"least": 2}}, "take": True, "why": "kernels"}
OPTIONS = StartOptions(batch_size=8, augment=False)


@pytest.fixture(scope="module")
def ghn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_ghn(tiny_ghn(), tmp_path_factory.mktemp("ghn"))
    policy = {"knows": "pictures", "rules": {"auto": [KERNELS], "early": [{"take": True, "why": "all"}]}}
    (folder / "policy.json").write_text(json.dumps(policy))
    return folder


@pytest.fixture(scope="module")
def fresh_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip
    return torch_file(net, tmp_path_factory.mktemp("models") / "fresh.onnx")


def test_the_winner_is_written_untrained(colours: Path, fresh_file: Path, ghn: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    race = choose_start(fresh_file, colours, tmp_path / "o.onnx", ghn=ghn, budget_s=25, training=OPTIONS)
    assert time.monotonic() - begun < 35  # a budget is kept, not a speed measured
    assert [(entrant.policy, entrant.n_predicted) for entrant in race.entrants] == [
        ("none", 0),
        ("auto", 1),
        ("early", 5),
    ]
    assert race.steps >= 8
    assert race.n_images == 15
    top1 = {entrant.policy: entrant.top1 for entrant in race.entrants}
    assert race.chosen == _winner(top1, race.margin)
    written, own = tensors_of(tmp_path / "o.onnx"), tensors_of(fresh_file)
    changed = {name for name in own if "running" not in name and not np.array_equal(own[name], written[name])}
    assert len(changed) == {"none": 0, "auto": 1, "early": 5}[race.chosen]
    onnx.checker.check_model(str(tmp_path / "o.onnx"))


def scaling_ghn(folder: Path, *, drawn: bool) -> Path:
    """A GHN whose policy predicts nothing and scales every model: by drawn inputs, or by those of the user alone."""
    save_ghn(tiny_ghn(), folder)
    scales = [{"take": True, "why": "all", "drawn": drawn}]
    policy = {"knows": "pictures", "rules": {"auto": [], "early": []}, "unit_scales": scales}
    (folder / "policy.json").write_text(json.dumps(policy))
    return folder


def test_scaled_layers_are_a_start_of_their_own(colours: Path, fresh_file: Path, tmp_path: Path) -> None:
    folder = scaling_ghn(tmp_path / "ghn", drawn=True)
    race = choose_start(fresh_file, colours, ghn=folder, budget_s=20, training=OPTIONS)
    assert [entrant.policy for entrant in race.entrants] == ["none", "auto"]
    assert [entrant.n_predicted for entrant in race.entrants] == [0, 0]
    assert race.entrants[0].n_scaled == 0 < race.entrants[1].n_scaled


def test_scales_are_measured_on_the_data_of_the_race(colours: Path, fresh_file: Path, tmp_path: Path) -> None:
    """A rule for those who give data holds in Python as on the command line: all starts are there."""
    folder = scaling_ghn(tmp_path / "ghn", drawn=False)
    race = choose_start(fresh_file, colours, ghn=folder, budget_s=20, training=OPTIONS)
    assert [entrant.policy for entrant in race.entrants] == ["none", "auto"]
    assert race.entrants[1].n_scaled > 0


def test_a_start_whose_training_fails_loses(
    colours: Path, fresh_file: Path, ghn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Finetuning.judge

    def failing(self: Finetuning) -> object:
        if "none" in self._path:
            return judge(self)
        raise RuntimeFailure("tensor 'w' is not finite")

    monkeypatch.setattr(Finetuning, "judge", failing)
    race = choose_start(fresh_file, colours, ghn=ghn, budget_s=25, training=OPTIONS)
    assert race.chosen == "none"
    assert [entrant.failure for entrant in race.entrants] == ["", *["tensor 'w' is not finite"] * 2]
    assert json.loads(json.dumps(race.to_dict()))["entrants"][1]["top1"] is None


def test_nothing_is_raced_where_no_policy_predicts_anything(colours: Path, tmp_path: Path, ghn: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3)).eval()
    (tmp_path / "ghn").mkdir()
    for file in ghn.iterdir():
        (tmp_path / "ghn" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "ghn" / "policy.json").write_text('{"knows": "pictures", "rules": {"auto": [], "early": []}}')
    path = torch_file(net, tmp_path / "m.onnx")
    race = choose_start(path, colours, tmp_path / "o.onnx", ghn=tmp_path / "ghn", budget_s=1)
    assert (race.chosen, race.steps, len(race.entrants)) == ("none", 0, 1)
    own, written = tensors_of(path), tensors_of(tmp_path / "o.onnx")
    assert all(np.array_equal(own[name], written[name]) for name in own)


@pytest.mark.parametrize("budget_s", [0.0, -1.0, float("nan"), 0.01])
def test_too_little_time_is_told(budget_s: float, colours: Path, fresh_file: Path, ghn: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="`budget_s`"):
        choose_start(fresh_file, colours, tmp_path / "o.onnx", ghn=ghn, budget_s=budget_s, training=OPTIONS)
    assert not (tmp_path / "o.onnx").exists()


def test_a_tie_is_the_authors() -> None:
    assert _margin(50.0, 200) == pytest.approx(5.0)  # sqrt(2 · ½ · ½ / 200)
    assert _winner({"none": 50.0, "auto": 54.0, "early": 52.0}, 5.0) == "none"
    assert _winner({"none": 50.0, "auto": 54.0, "early": 56.0}, 5.0) == "early"
    assert _winner({"none": None, "auto": 10.0}, 5.0) == "auto"
    assert _winner({"none": None, "auto": None}, 5.0) == "none"


def test_the_command_races_on_data(colours: Path, fresh_file: Path, ghn: Path, tmp_path: Path) -> None:
    given = [str(fresh_file), "-o", str(tmp_path / "o.onnx"), "--ghn", str(ghn), "--budget", "25"]
    refused = CliRunner().invoke(command, given)
    assert str(refused.exception) == "--budget needs labelled images: give class folders of them with --data"
    raced = CliRunner().invoke(command, [*given, "--data", str(colours), "--json"])
    report = json.loads(raced.stdout)
    assert [entrant["policy"] for entrant in report["race"]["entrants"]] == ["none", "auto", "early"]
    assert report["race"]["chosen"] in ("none", "auto", "early")
    assert (tmp_path / "o.onnx").exists()


def test_data_without_a_budget_set_the_running_statistics(
    colours: Path, fresh_file: Path, ghn: Path, tmp_path: Path
) -> None:
    for name, more in (("data", ["--data", str(colours)]), ("calibrate", ["--calibrate", str(colours)])):
        given = [str(fresh_file), "-o", str(tmp_path / f"{name}.onnx"), "--ghn", str(ghn), *more]
        assert CliRunner().invoke(command, given).exit_code == 0
    one, other = tensors_of(tmp_path / "data.onnx"), tensors_of(tmp_path / "calibrate.onnx")
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_two_sources_of_inputs_and_patterns_that_select_nothing_are_refused(
    colours: Path, fresh_file: Path, ghn: Path, tmp_path: Path
) -> None:
    given = [str(fresh_file), "-o", str(tmp_path / "o.onnx"), "--ghn", str(ghn), "--data", str(colours)]
    both = CliRunner().invoke(command, [*given, "--calibrate", "noise"])
    assert str(both.exception) == f"--data {colours} and --calibrate noise name inputs for the same: leave one out"
    nothing = CliRunner().invoke(command, [*given, "--budget", "60", "--include", "no_such_layer"])
    assert "no_such_layer" in str(nothing.exception)
    assert not (tmp_path / "o.onnx").exists()
