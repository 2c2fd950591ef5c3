"""The fit of a policy, on races that were made up so that the right rules are known."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from racing.fitting import CELLS, SCALED_CELLS, Chosen, choose_for_cell, gain_by_scaling, halves, policy_of
from racing.judging import judged_table
from racing.summary import Result

from onnx_ghn.prediction.features import ModelFeatures, TensorFeatures
from onnx_ghn.prediction.policy import read_policy

IMAGES, SERIES = CELLS[0].words, "networks of series and sound"


def features(data: str = "image", norm: str = "batch") -> ModelFeatures:
    """Of a classifier."""
    return ModelFeatures(
        data=data, output_axes=2, attention=False, recurrent=False, norm=norm, conv2d_share=0.9, conv1d_share=0.0,
        recurrent_share=0.0, sign_of_training="", channels=3 if data == "image" else 0,
    )  # type: ignore[arg-type]  # fmt: skip


def result(level: tuple[float, float, float], spread: float = 0.0) -> Result:
    """Three seeds around a level at the three marks."""
    values = np.array([level]) + spread * np.array([[-1.0], [0.0], [1.0]])
    return Result("2-D convolutional classifier", "small", "accuracy %", 0.1, False, (0, 1, 2), values)


def race(**starts: tuple[float, float, float]) -> dict[str, Result]:
    """Of one network, all starts that were not given as the own one."""
    names = ("own", "spatial", "spatial+differences", "conv2d+differences", "all", "all+differences")
    return {name: result(starts.get(name, (10.0, 20.0, 40.0))) for name in names}


def test_the_default_takes_no_start_that_some_network_ends_worse_by() -> None:
    one = race(own=(10, 20, 40), spatial=(15, 25, 42), all=(30, 40, 50))
    other = race(own=(10, 20, 40), spatial=(12, 22, 41), all=(30, 40, 38))
    lower = {**other, "spatial+differences": result((40, 40, 38))}  # 2 less in the end
    found = {"a": one, "b": lower}
    assert choose_for_cell("auto", found, ["a", "b"]).start == "spatial"
    assert choose_for_cell("early", found, ["a", "b"]).start == "all"
    assert choose_for_cell("auto", {"a": one, "b": one}, ["a", "b"]).start == "spatial"  # everything may end lower yet
    np.testing.assert_allclose(choose_for_cell("auto", found, ["a", "b"]).gains, [[5, 5, 2], [2, 2, 1]])


def test_a_loss_within_the_noise_is_none_and_one_network_is_no_evidence() -> None:
    noisy = {**race(spatial=(20, 30, 38)), "own": result((10, 20, 40), 6.0)}
    assert choose_for_cell("auto", {"a": noisy, "b": noisy}, ["a", "b"]).start == "spatial"  # 2 below, error 3.5
    assert choose_for_cell("auto", {"a": race(spatial=(20, 30, 50))}, ["a"]).start == "own"
    assert choose_for_cell("auto", {"a": race(), "b": race()}, ["a", "b"]).start == "own"  # nothing gains


def test_a_start_that_a_network_has_not_run_is_not_chosen() -> None:
    partial = race(spatial=(20, 30, 50))
    del partial["spatial"]
    assert choose_for_cell("auto", {"a": race(spatial=(20, 30, 50)), "b": partial}, ["a", "b"]).start == "own"


def test_halves_split_each_cell() -> None:
    networks = {f"image {i}": features() for i in range(6)} | {f"series {i}": features("series") for i in range(3)}
    first, second = halves(networks)
    assert sorted(first + second) == sorted(networks)
    assert [sum(name.startswith("image") for name in half) for half in (first, second)] == [3, 3]
    assert [sum(name.startswith("series") for name in half) for half in (first, second)] == [2, 1]


def test_no_network_is_of_two_cells() -> None:
    for data in ("image", "video", "series", "table", "tokens", "other"):
        for norm in ("batch", "layer", "none"):
            assert sum(cell.holds(features(data, norm)) for cell in CELLS) == (data not in ("video", "other"))


def test_what_is_written_is_a_policy_that_predict_reads(tmp_path: Path) -> None:
    chosen = {
        mode: {cell.words: Chosen("own", 2, np.empty((0, 3))) for cell in CELLS}
        | {IMAGES: Chosen(start, 2, np.zeros((2, 3)))}
        for mode, start in (("auto", "spatial"), ("early", "all+differences"))
    }
    (tmp_path / "policy.json").write_text(json.dumps(policy_of("pictures", chosen)))
    policy = read_policy(tmp_path / "policy.json")
    tensors = [TensorFeatures("conv2d", longest=3, shortest=3), TensorFeatures("conv2d"), TensorFeatures("norm")]
    auto = policy.verdicts("auto", features(), tensors, "no rule")
    assert [verdict.take for verdict in auto] == [True, False, False]
    assert auto[0].why == "2-D kernels with sides of 2 to 7 pixels"
    early = policy.verdicts("early", features(), tensors, "no rule")
    assert [(verdict.take, verdict.post) for verdict in early] == [(True, "differences")] * 3
    for other in (features(norm="none"), features("series")):
        assert not any(
            verdict.take for mode in ("auto", "early") for verdict in policy.verdicts(mode, other, tensors, "no rule")
        )


def test_layers_are_scaled_where_no_network_loses_by_it() -> None:
    one = {**race(), "auto": result((10, 20, 40)), "auto+data": result((13, 22, 41))}
    assert gain_by_scaling({"a": one, "b": one}, ["a", "b"]) == pytest.approx(2)
    assert gain_by_scaling({"a": one}, ["a"]) is None  # one network is no evidence
    little = {**one, "auto+data": result((10, 20.5, 41))}
    assert gain_by_scaling({"a": little, "b": little}, ["a", "b"]) is None
    lost = {**one, "auto+data": result((40, 40, 38))}
    assert gain_by_scaling({"a": one, "b": lost}, ["a", "b"]) is None
    by_own = {**race(), "lsuv": result((10, 21, 42))}  # where nothing else was raced, beside the own start
    assert gain_by_scaling({"a": one, "b": by_own}, ["a", "b"]) == pytest.approx(1.5)


def test_what_is_written_says_which_networks_are_scaled(tmp_path: Path) -> None:
    chosen = {mode: {cell.words: Chosen("own", 2, np.empty((0, 3))) for cell in CELLS} for mode in ("auto", "early")}
    (tmp_path / "policy.json").write_text(json.dumps(policy_of("pictures", chosen, SCALED_CELLS[:1])))
    policy = read_policy(tmp_path / "policy.json")
    classifier = dataclasses.replace(features(norm="none"), n_outputs=10)
    assert policy.scaling_rule("auto", classifier, own_inputs=True, predicts=True) is not None
    assert policy.scaling_rule("auto", classifier, own_inputs=False, predicts=False) is None
    for other in (dataclasses.replace(classifier, n_outputs=1), dataclasses.replace(classifier, norm="batch")):
        assert policy.scaling_rule("auto", other, own_inputs=True, predicts=True) is None


def test_networks_that_do_best_by_scales_alone_get_these_by_drawn_inputs(tmp_path: Path) -> None:
    one = race(own=(10, 20, 40), spatial=(9, 18, 35)) | {"own+drawn": result((12, 24, 44))}
    chosen = choose_for_cell("auto", {"a": one, "b": one}, ["a", "b"])
    assert (chosen.start, chosen.gains.tolist()) == ("own+drawn", [[2, 4, 4]] * 2)
    of = {cell.words: Chosen("own", 2, np.empty((0, 3))) for cell in CELLS}
    attention = next(cell for cell in CELLS if cell.words == "text networks with attention")
    content = policy_of("pictures", {"auto": {**of, attention.words: chosen}, "early": of})
    assert content["rules"] == {"auto": [], "early": []}
    (tmp_path / "policy.json").write_text(json.dumps(content))
    policy = read_policy(tmp_path / "policy.json")
    text = dataclasses.replace(features(), data="tokens", attention=True)
    assert policy.scaling_rule("auto", text, own_inputs=False, predicts=False) is not None
    assert policy.scaling_rule("auto", text, own_inputs=True, predicts=False) is not None
    assert policy.scaling_rule("auto", text, own_inputs=True, predicts=True) is None
    assert policy.scaling_rule("early", text, own_inputs=False, predicts=False) is None  # where it was not chosen
    assert (
        policy.scaling_rule("auto", dataclasses.replace(text, attention=False), own_inputs=True, predicts=False) is None
    )


def test_sums_of_a_judgement() -> None:
    found = {
        "a": race(own=(10, 20, 40), spatial=(15, 25, 42)),
        "b": race(own=(10, 20, 40), spatial=(12, 19, 37)),
        "c": race(own=(10, 20, 40)),
    }
    text = judged_table("auto", found, {"a": "spatial", "b": "spatial", "c": "own"}, ["a", "b", "c"])
    assert "| a | accuracy % | spatial | 10.0 ± 0.0 → **15.0 ± 0.0** |" in text
    assert "| c | accuracy % | own | **10.0 ± 0.0** |" in text
    # gains: a +5 +5 +2, b +2 -1 -3, c 0
    assert "| all networks | 3 | 100 / 67 / 67 | 67 / 33 / 33 | 0.0 / 1.0 / 3.0 | +2.3 / +1.3 / -0.3 |" in text


def test_a_network_that_was_not_raced_from_its_start_is_named() -> None:
    partial = race(own=(10, 20, 40))
    del partial["spatial"]
    found = {"a": race(own=(10, 20, 40), spatial=(15, 25, 42)), "b": partial}
    text = judged_table("auto", found, {"a": "spatial", "b": "spatial"}, ["a", "b"])
    assert "left out: b." in text
    assert "| all networks | 1 |" in text


@pytest.mark.parametrize("mode", ["auto", "early"])
def test_own_is_chosen_where_there_is_no_network(mode: str) -> None:
    assert choose_for_cell(mode, {}, []).start == "own"
