"""Features of different inputs that predicted weights make alike: measured, and the author's start kept there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from onnx_ghn import predict, strip
from onnx_ghn.exporters import pytorch
from onnx_ghn.ghn import GHNConfig, new_ghn
from onnx_ghn.onnx_io import read_model, stored_tensors
from onnx_ghn.prediction.collapse import is_collapse
from onnx_ghn.prediction.trials import Trials

N_SAMPLES = 8


def classifier(norm: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), *([nn.BatchNorm2d(8)] if norm else []), nn.ReLU(), nn.AvgPool2d(4),
        nn.Flatten(), nn.Linear(128, 5),
    )  # fmt: skip


class Forked(nn.Module):
    """Two last layers whose outputs are added: no features are those of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(48, 5), nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 4, 4) -> (B, 5)."""
        x = x.flatten(1)
        answer: Tensor = self.first(x) + self.second(x)
        return answer


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Pictures of two brightnesses, of which a network can tell one from the other."""
    rng = np.random.default_rng(1)
    images = rng.standard_normal((N_SAMPLES, 3, 16, 16)) + np.resize([1.0, -1.0], N_SAMPLES)[:, None, None, None]
    np.save(tmp_path / "samples.npy", images.astype(np.float32))
    return tmp_path / "samples.npy"


def exported(net: nn.Module, tmp_path: Path, size: int = 16) -> Path:
    pytorch.export(net, tmp_path / "net.onnx", torch.zeros(2, 3, size, size))
    return tmp_path / "net.onnx"


def constant_ghn(folder: Path, rules: str = '{"model": {}, "tensor": {}, "take": true, "why": "everything"}') -> Path:
    """A GHN that gives all elements of a tensor nearly one value, so that all filters see the same."""
    ghn = new_ghn(GHNConfig.preset("ghn2", hid=8, max_shape=(8, 8, 3, 3), num_classes=5), seed=0)
    with torch.no_grad():
        for parameter in ghn.decoder.parameters():
            parameter.mul_(1e-3)
            if parameter.ndim == 1:
                parameter.fill_(0.1)
    ghn.save_pretrained(folder)
    (folder / "policy.json").write_text(f'{{"knows": "nothing", "rules": {{"auto": [{rules}], "early": [{rules}]}}}}')
    return folder


@pytest.mark.parametrize("norm", [True, False])
def test_likeness_is_that_of_the_features_before_the_head(norm: bool, samples: Path, tmp_path: Path) -> None:
    net = classifier(norm).train()
    trials = Trials(samples, 0, N_SAMPLES)
    measured = trials.run(read_model(exported(net, tmp_path)), likeness=True).likeness
    with torch.no_grad():
        features = nn.functional.normalize(net[:-1](torch.from_numpy(np.load(samples))), dim=1)
    products = (features @ features.T).numpy()
    expected = products[~np.eye(N_SAMPLES, dtype=bool)].mean()
    assert measured == pytest.approx(expected, abs=1e-5)


def test_features_that_two_layers_read_are_not_compared(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((4, 3, 4, 4)).astype(np.float32))
    trial = Trials(tmp_path / "x.npy", 0, 4).run(read_model(exported(Forked(), tmp_path, 4)), likeness=True)
    assert math.isnan(trial.likeness)
    assert trial.outputs


@pytest.mark.parametrize(
    ("likeness", "own", "expected"),
    [
        (0.9, 0.8, True),
        (0.88, 0.8, False),
        (0.5, 0.8, False),
        (1.0, 0.996, True),
        (1.0, 1 - 6e-8, False),  # one sample, repeated: they differ by rounding alone
        (math.nan, 0.5, False),
    ],
)
def test_what_counts_is_the_share_of_difference_that_is_left(likeness: float, own: float, expected: bool) -> None:
    """0.1 of 0.2 is half, 0.12 of it six tenths: less than six tenths is a collapse."""
    assert is_collapse(likeness, own) is expected


class ByPixel(nn.Module):
    """The last layer reads all pixels of all images as rows of one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 2, 2), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 4, 4) -> (B, 5)."""
        rows = self.conv(x).flatten(2).transpose(1, 2).reshape(-1, 6)
        return torch.as_tensor(self.head(rows)).reshape(x.shape[0], -1, 5).mean(1)


def test_rows_that_are_no_samples_are_not_compared(tmp_path: Path) -> None:
    """Pixels of one image may be unlike where images are all alike."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((4, 3, 4, 4)).astype(np.float32))
    trial = Trials(tmp_path / "x.npy", 0, 4).run(read_model(exported(ByPixel(), tmp_path, 4)), likeness=True)
    assert math.isnan(trial.likeness)


def test_one_sample_tells_nothing(tmp_path: Path) -> None:
    """It is repeated to fill a batch: all features are one, whatever the weights."""
    np.save(tmp_path / "one.npy", np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32))
    source, ghn = exported(classifier(), tmp_path), constant_ghn(tmp_path / "ghn")
    assert predict(source, ghn=ghn, calibrate=tmp_path / "one.npy").coverage.count("predicted") == 6


@pytest.mark.parametrize("policy", ["auto", "early"])
def test_the_authors_start_is_kept_where_features_collapse(policy: Any, samples: Path, tmp_path: Path) -> None:
    source, ghn = exported(classifier(), tmp_path), constant_ghn(tmp_path / "ghn")
    prediction = predict(source, tmp_path / "init.onnx", ghn=ghn, policy=policy, calibrate=samples)
    own, written = (stored_tensors(read_model(path)) for path in (source, tmp_path / "init.onnx"))
    for name, tensor in own.items():
        np.testing.assert_array_equal(written[name].numpy(), tensor.numpy(), err_msg=name)
    coverage = prediction.coverage
    assert coverage.count("predicted") == 0
    assert "predicted weights make features before the last layer alike" in coverage.sentence
    assert coverage.sentence.endswith("0 of 6 tensors predicted, the others keep their start (`policy` all fills them)")
    assert not any("sets no statistics" in note for note in coverage.notes)


def test_a_file_without_weights_gets_a_standard_start_there(samples: Path, tmp_path: Path) -> None:
    strip(exported(classifier(), tmp_path), tmp_path / "stripped.onnx")
    prediction = predict(tmp_path / "stripped.onnx", ghn=constant_ghn(tmp_path / "ghn"), calibrate=samples)
    assert prediction.coverage.count("fallback") == 6
    assert "get a standard start" in prediction.coverage.sentence
    assert "by a standard start" in prediction.coverage.sentence
    kernel = next(values for values in prediction.values() if values.ndim == 4)
    assert kernel.std() > 0.05


@pytest.mark.parametrize("case", ["all", "named", "drawn inputs"])
def test_what_is_asked_for_by_name_is_predicted(case: str, samples: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"all": {"policy": "all"}, "named": {"include": "."}, "drawn inputs": {}}[case]
    calibrate = "synthetic" if case == "drawn inputs" else samples
    ghn = constant_ghn(tmp_path / "ghn")
    prediction = predict(exported(classifier(), tmp_path), ghn=ghn, calibrate=calibrate, **changes)
    assert prediction.coverage.count("predicted") == 6


class Squeezed(nn.Module):
    """Without norms, and with a bias beside which the kernel counts by its scale."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 5)
        with torch.no_grad():
            self.first.bias.uniform_(-3, 3)
            self.second.bias.uniform_(-3, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 16, 16) -> (B, 5)."""
        answer: Tensor = self.head(torch.relu(self.second(torch.relu(self.first(x)))).mean((2, 3)))
        return answer


@pytest.mark.parametrize("kept", [False, True])
def test_features_are_compared_as_the_file_will_give_them(
    kept: bool, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where layers are scaled, with the factors of each start."""
    from onnx_ghn.prediction import collapse

    seen: list[tuple[float, float]] = []
    monkeypatch.setattr(collapse, "is_collapse", lambda *pair: bool(seen.append(pair)) or kept)
    told = predict(exported(Squeezed(), tmp_path), tmp_path / "init.onnx", calibrate=samples).coverage
    assert told.count("predicted") == (0 if kept else 2)
    assert any("so that the outputs of each layer have scale 1" in note for note in told.notes)
    trial = Trials(samples, 0, N_SAMPLES).run(read_model(tmp_path / "init.onnx"), likeness=True)
    assert seen[0][kept] == pytest.approx(trial.likeness, abs=1e-4)
    assert abs(seen[0][0] - seen[0][1]) > 1e-3


def test_features_that_stay_different_are_no_reason(samples: Path, tmp_path: Path) -> None:
    prediction = predict(exported(classifier(), tmp_path), calibrate=samples)
    assert prediction.coverage.count("predicted") == 1
