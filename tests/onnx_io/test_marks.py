"""What exporters note in a file, read back; a damaged note is told and not passed over."""

from __future__ import annotations

import onnx
import pytest

import onnx_ghn
from onnx_ghn.errors import ModelReadError
from onnx_ghn.onnx_io import read_model
from onnx_ghn.onnx_io.marks import FROZEN, TRACE, frozen_tensors, mark

MODEL = "data/examples/resnet18_cifar10.onnx"


def test_notes_come_back(request: pytest.FixtureRequest) -> None:
    model = read_model(request.config.rootpath / MODEL)
    assert frozen_tensors(model) == {}
    mark(model, "{}", {"whole": None, "part": ((0, 4), (7, 9))})
    assert model.metadata_props[TRACE] == "{}"
    assert frozen_tensors(model) == {"whole": None, "part": ((0, 4), (7, 9))}


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 3}', '{"a": [1]}', '{"a": [["x", 2]]}', "[" * 100_000])
def test_a_damaged_note_is_told(text: str, request: pytest.FixtureRequest) -> None:
    proto = onnx.load(request.config.rootpath / MODEL)
    onnx.helper.set_model_props(proto, {FROZEN: text})
    with pytest.raises(ModelReadError, match=r"onnx_ghn\.frozen is damaged"):
        onnx_ghn.predict(proto, calibrate="none")
