"""What exporters note in a file, read back; a damaged note is told and not passed over."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import onnx_ghn
from onnx_ghn.errors import ModelReadError
from onnx_ghn.onnx_io import read_model
from onnx_ghn.onnx_io.marks import FROZEN, frozen_tensors, mark, notes

MODEL = "data/examples/resnet18_cifar10.onnx"


def test_notes_come_back(request: pytest.FixtureRequest) -> None:
    model = read_model(request.config.rootpath / MODEL)
    assert frozen_tensors(model) == {}
    mark(model, "{}", {"whole": None, "part": ((0, 4), (7, 9))})
    assert [note.trace for note in notes(model)] == ["{}"]
    assert frozen_tensors(model) == {"whole": None, "part": ((0, 4), (7, 9))}


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 3}', '{"a": [1]}', '{"a": [["x", 2]]}', "[" * 100_000])
def test_a_damaged_note_is_told(text: str, request: pytest.FixtureRequest) -> None:
    proto = onnx.load(request.config.rootpath / MODEL)
    onnx.helper.set_model_props(proto, {FROZEN: text})
    with pytest.raises(ModelReadError, match=r"onnx_ghn\.frozen is damaged"):
        onnx_ghn.predict(proto, calibrate="none", policy="all")


class Untrained(torch.nn.Module):
    """A parameter, and as many tensors that are none: a kept buffer, one that no state holds, a plain constant."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(6, 6)
        self.register_buffer("filters", torch.rand(6, 6))
        self.register_buffer("scratch", torch.rand(6, 6), persistent=False)
        self.constant = torch.rand(6, 6)
        self.norm = torch.nn.BatchNorm1d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.layer(x) @ self.filters @ self.scratch @ self.constant)


@pytest.mark.parametrize("name", ["filters", "scratch", "constant"])
def test_what_torch_marks_as_untrained_is_frozen(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Untrained().eval()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        torch.onnx.export(net, (torch.rand(2, 6),), tmp_path / "m.onnx", dynamo=True, optimize=False, verbose=False)
    assert frozen_tensors(read_model(tmp_path / "m.onnx")).keys() >= {"filters", "scratch", "constant"}
    prediction = onnx_ghn.predict(tmp_path / "m.onnx", tmp_path / "o.onnx", policy="all")
    outcomes = {entry.parameter.name: entry.outcome for entry in prediction.coverage.entries}
    assert outcomes[name] == "frozen"
    assert outcomes["layer.weight"] == "predicted"
    assert outcomes["norm.running_mean"] == "statistic"
    written = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "o.onnx").graph.initializer}
    np.testing.assert_array_equal(written[name], getattr(net, name).numpy())
    assert written["norm.running_mean"].any()  # measured all the same
