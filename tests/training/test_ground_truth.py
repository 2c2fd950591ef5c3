"""What properties are measured as: brief training, convergence, timing; all of it resumable."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from colour_data import draw_colours

from onnx_ghn.cli import run_command
from onnx_ghn.cli.property_prediction import property_prediction
from onnx_ghn.deepnets1m import Architecture, stream
from onnx_ghn.errors import DataError, OptionError
from onnx_ghn.ghn import GHNConfig, new_ghn
from onnx_ghn.training.properties import fitting as property_fit
from onnx_ghn.training.properties.ground_truth import brief_form, convergence_steps, train_briefly
from onnx_ghn.training.properties.measurements import gather, read_measurements, tables, write_measurements
from onnx_ghn.training.properties.settings import Brief


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_colours(tmp_path_factory.mktemp("data") / "colours", {"train": 60, "test": 6}, side=16)


def _kinds() -> list[Architecture]:
    """One with a position table, one with a head of fixed size, one with neither."""
    wanted = [
        lambda net: net.genotype.is_vit,
        lambda net: not net.glob_avg and not net.genotype.is_vit,
        lambda net: net.glob_avg and not net.genotype.is_vit,
    ]
    return [next(net for net in stream("train", seed=7) if kind(net) and net.n_cells < 9) for kind in wanted]


@pytest.mark.parametrize("side", [8, 16, 32])
def test_networks_take_images_of_the_size(side: int) -> None:
    for net in _kinds():
        module = brief_form(net.replace(C=8), 5, side).train()
        assert module(torch.zeros(2, 3, side, side)).shape == (2, 5)


def test_brief_training_learns_and_is_the_same_each_time(data: Path) -> None:
    brief = Brief(dataset=str(data), channels=8, image_size=16, steps=30, batch_size=16, n_images=12, amp=False)
    net = _kinds()[2]
    first, second = (train_briefly(net, brief, "") for _ in range(2))
    timed = ("wall_s", "cpu_s")
    assert {k: v for k, v in first.items() if k not in timed} == {k: v for k, v in second.items() if k not in timed}
    assert len(first["train_top1"]) == 30
    assert np.mean(first["train_top1"][-10:]) > 60 > 34 > first["train_top1"][0] - 60
    assert 0 <= first["top1"] <= 100


def test_a_run_that_diverges_is_one_that_guesses(data: Path) -> None:
    brief = Brief(dataset=str(data), channels=8, steps=30, batch_size=8, lr=1e30, opt="sgd", n_images=12, amp=False)
    record = train_briefly(next(net for net in stream("bnfree", seed=3) if net.n_cells < 8), brief, "")
    assert record["top1"] == record["noisy_top1"] == pytest.approx(100 / 3)
    assert record["diverged"] == len(record["train_top1"]) < 30


def test_convergence_is_the_first_window_above_the_threshold() -> None:
    curve = [0.0] * 10 + [30.0] * 20
    for window in (1, 5, 15):
        expected = next(end for end in range(window, 31) if sum(curve[end - window : end]) / window >= 20)
        assert convergence_steps(curve, 20.0, 30, window) == expected
    assert convergence_steps(curve, 31.0, 30) == 60
    assert convergence_steps([50.0], 20.0, 30) == 60  # it diverged at once


def test_sizes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(OptionError, match="`image_size` 20"):
        Brief(image_size=20)
    with pytest.raises(OptionError, match="`steps` 0 must be at least 1"):
        Brief(steps=0)


def test_measurements_go_on_and_become_tables(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shared = ["measure", "-n", "1", "--out", str(out), "--channels", "8"]
    brief = ["-d", str(data), "--steps", "2", "-b", "4", "--n-images", "6"]
    for arguments in (brief, ["--only", "speed", "--rounds", "2", "--runs", "2"]):
        run_command(property_prediction, [*shared, *arguments])
        before = {path: path.read_bytes() for path in out.glob("*.jsonl")}
        run_command(property_prediction, [*shared, *arguments])
        assert {path: path.read_bytes() for path in out.glob("*.jsonl")} == before
    found = gather(out, 20.0)
    assert set(found["networks"]) == {"val-0", "test-0"}
    visits = [json.loads(line) for line in (out / "speed-val.jsonl").read_text().splitlines()[1:]]
    assert found["networks"]["val-0"]["latency_ms"] == min(visit["min_ms"] for visit in visits)
    trained = json.loads((out / "training-test.jsonl").read_text().splitlines()[1])
    assert found["networks"]["test-0"]["accuracy"] == trained["top1"]
    write_measurements(found, tmp_path / "m.jsonl")
    assert read_measurements(tmp_path / "m.jsonl") == found
    with pytest.raises(DataError, match="1 networks of split val"):
        tables(found, new_ghn(GHNConfig.preset("ghn2"), seed=0), None)


def test_fitting_what_is_made_up_saves_a_predictor_and_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Latency is made to follow the parameters, so that a right fit must find a high τ."""
    from onnx_ghn.deepnets1m import symbolic_graph
    from onnx_ghn.ghn import save_ghn
    from onnx_ghn.properties import load_predictor
    from onnx_ghn.properties.features import n_decoded

    monkeypatch.setattr(property_fit, "SEEDS", (0,))
    monkeypatch.setattr(property_fit, "_PUBLISHED", {"C": [1, 100], "gamma": ["auto"]})
    grid = {"svr__regressor__C": [3, 30], "svr__regressor__gamma": [0.003, 0.03]}
    monkeypatch.setattr(property_fit, "_SCALED", grid)
    settings = {"file": None, "arch_seed": 4, "channels": 8, "threshold": 20.0}
    networks = {}
    for split in ("val", "test"):
        for i, net in zip(range(14), stream(split, seed=4), strict=False):
            networks[f"{split}-{i}"] = {"latency_ms": n_decoded(symbolic_graph(net.replace(C=8))) / 1e4}
    write_measurements({"settings": settings, "networks": networks}, tmp_path / "m.jsonl")
    config = GHNConfig(hypernet="graphormer", hid=8, heads=2, layers=1, max_shape=(8, 8, 3, 3))
    ghn = save_ghn(new_ghn(config, seed=1), tmp_path / "ghn")
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- table -->\nformer\n<!-- end of table -->\nbelow\n")
    arguments = ["fit", "--measurements", str(tmp_path / "m.jsonl"), "-C", str(ghn), "--docs", str(page), "--json"]
    run_command(property_prediction, [*arguments, "--save", str(tmp_path / "saved")])
    report = json.loads(capsys.readouterr().out)["latency_ms"]
    assert report["tau"]["parameters"]["tau"] == pytest.approx(1)
    assert report["tau"]["chosen by cross-validation"]["tau"] > 0.7
    assert set(load_predictor(tmp_path / "saved").regressions) == {"latency_ms"}
    assert page.read_text().startswith("above\n<!-- table -->\nKendall's τ on 14 networks")
    assert page.read_text().endswith("<!-- end of table -->\nbelow\n")
    assert "former" not in page.read_text()
    with pytest.raises(SystemExit):
        run_command(property_prediction, [*arguments, "--save", str(tmp_path / "saved")])
    assert "exists already" in capsys.readouterr().err
