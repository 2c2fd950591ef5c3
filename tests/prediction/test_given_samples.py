"""Samples of a file: which of them a model is fed, and what running statistics they give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from predict_models import arrays, tiny_ghn
from torch import nn

from onnx_ghn import predict
from onnx_ghn.errors import OptionError, RuntimeFailure
from onnx_ghn.prediction.given_samples import GivenSamples
from onnx_ghn.torch_export import module_to_onnx

PAIR = ({"x": np.float32, "ids": np.int64}, {"x": [0, 3], "ids": [1, 4]})


def torch_file(net: nn.Module, path: Path, example: torch.Tensor) -> Path:
    onnx.save(module_to_onnx(net, (example,), input_names=["x"], dynamic_axes={"x": {0: "N"}}), path)
    return path


def saved(folder: Path, **values: np.ndarray) -> Path:
    np.savez(folder / "samples.npz", **values)
    return folder / "samples.npz"


def test_samples_are_spread_over_the_file_and_begin_anew(tmp_path: Path) -> None:
    x, ids = np.arange(30.0).reshape(10, 3), np.arange(40).reshape(10, 4)
    samples = GivenSamples(saved(tmp_path, x=x, ids=ids), *PAIR)
    few = samples.feed(0, 4, 4)
    np.testing.assert_array_equal(few["x"], x[[0, 2, 4, 6]])
    np.testing.assert_array_equal(few["ids"], ids[[0, 2, 4, 6]])
    assert few["x"].dtype == np.float32
    np.testing.assert_array_equal(samples.feed(2, 1, 4)["x"], x[[4]])  # the third of four, one at a time
    np.testing.assert_array_equal(samples.feed(0, 12, 12)["x"], x[[*range(10), 0, 1]])


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"x": np.zeros((2, 3))}, "lacks input 'ids'; the model's inputs are x \\[\\?, 3\\], ids \\[1, 4\\]"),
        ({"x": np.zeros((2, 3)), "ids": np.zeros((2, 4), int), "y": np.zeros(1)}, "holds 'y', which is no input"),
        ({"x": np.zeros((2, 5)), "ids": np.zeros((2, 4), int)}, "'x' is of shape \\[2, 5\\]"),
        ({"x": np.zeros((2, 3, 1)), "ids": np.zeros((2, 4), int)}, "'x' is of shape \\[2, 3, 1\\]"),
        ({"x": np.zeros((2, 3)), "ids": np.zeros((2, 4))}, "'ids' is float64, the model's input is int64"),
        ({"x": np.zeros((0, 3)), "ids": np.zeros((2, 4), int)}, "'x' has no samples"),
    ],
)
def test_what_is_no_input_is_refused(values: dict[str, np.ndarray], told: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=told):
        GivenSamples(saved(tmp_path, **values), *PAIR)


def test_one_array_is_for_one_input(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3)))
    with pytest.raises(OptionError, match="one array for 2 inputs"):
        GivenSamples(tmp_path / "x.npy", *PAIR)
    assert GivenSamples(tmp_path / "x.npy", {"x": np.float32}, {"x": [0, 3]}).feed(0, 2, 2)["x"].shape == (2, 3)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of series: a batch norm of the input itself comes first, so that its statistics are those of it."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.BatchNorm1d(2), nn.Conv1d(2, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 4)
    ).eval()
    return torch_file(net, tmp_path_factory.mktemp("sound") / "m.onnx", torch.zeros(1, 2, 40))


def test_running_statistics_are_those_of_the_samples(sound: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, (32, 2, 40)).astype(np.float32)
    values[:, 1] *= 5
    path = saved(tmp_path, x=values)
    predict(sound, tmp_path / "o.onnx", ghn=tiny_ghn(), calibrate=path)
    stored = arrays(onnx.load(tmp_path / "o.onnx"))
    np.testing.assert_allclose(stored["0.running_mean"], values.mean((0, 2)), rtol=1e-4)
    np.testing.assert_allclose(stored["0.running_var"], values.var((0, 2)), rtol=1e-3)


def test_token_numbers_of_a_text_are_fed_and_wrong_ones_told(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Embedding(10, 8), nn.Flatten(), nn.Linear(5 * 8, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
    ).eval()
    model = torch_file(net, tmp_path / "m.onnx", torch.zeros(1, 5, dtype=torch.long))
    rows = np.random.default_rng(0).integers(0, 10, (40, 5))
    (tmp_path / "tokens.txt").write_text("\n".join(" ".join(map(str, row)) for row in rows))
    predict(model, tmp_path / "o.onnx", ghn=tiny_ghn(), calibrate=tmp_path / "tokens.txt")
    stored = arrays(onnx.load(tmp_path / "o.onnx"))
    table, weight, bias = (stored[name] for name in ("0.weight", "2.weight", "2.bias"))
    hidden = table[rows[:32]].reshape(32, -1) @ weight.T + bias  # one of forty, 32 times
    np.testing.assert_allclose(stored["3.running_mean"], hidden.mean(0), rtol=1e-3, atol=1e-4)
    (tmp_path / "tokens.txt").write_text("1 2 3 4 99\n")
    with pytest.raises(RuntimeFailure, match="calibration"):
        predict(model, tmp_path / "x.onnx", ghn=tiny_ghn(), calibrate=tmp_path / "tokens.txt")
    assert not (tmp_path / "x.onnx").exists()


def test_inputs_that_nothing_is_measured_on_are_checked_and_told(sound: Path, tmp_path: Path) -> None:
    """Where all weights stay, so do the statistics; a wrong path is a wrong path all the same."""
    path = saved(tmp_path, x=np.zeros((4, 2, 40), np.float32))
    prediction = predict(sound, ghn=tiny_ghn(), policy="none", calibrate=path)
    assert prediction.coverage.notes == [f"{path} sets no statistics: no weight changes, and they stay with them"]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"P6 1 1 255 abc")  # another format, by its content
    (tmp_path / "words.txt").write_text("to be or not")
    for wrong in ("images", "absent", "words.txt", "absent.npz"):
        with pytest.raises(OptionError):
            predict(sound, ghn=tiny_ghn(), policy="none", calibrate=tmp_path / wrong)
