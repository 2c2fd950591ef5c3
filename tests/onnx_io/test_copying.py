"""A copy of a model, to be changed in the place of the caller's."""

from __future__ import annotations

from pathlib import Path

import io_models as m
import numpy as np
import onnx_ir as ir
import pytest

from onnx_ghn.errors import ModelWriteError
from onnx_ghn.onnx_io import copy_model, inject, read_model, stored_tensors, write_model

EXAMPLES = sorted((Path(__file__).parents[2] / "data/examples").glob("*.onnx"))


def _written(model: ir.Model, path: Path) -> bytes:
    (written,) = write_model(model, path, external=False, force=True)
    return written.read_bytes()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_copy_is_written_like_the_model(path: Path, tmp_path: Path) -> None:
    model = read_model(path)
    assert _written(copy_model(model), tmp_path / "copy.onnx") == _written(model, tmp_path / "model.onnx")


def test_tensors_of_every_form_are_shared(tmp_path: Path) -> None:
    model = read_model(m.every_form())
    copy = copy_model(model)
    assert _written(copy, tmp_path / "copy.onnx") == _written(model, tmp_path / "model.onnx")
    theirs, ours = stored_tensors(model), stored_tensors(copy)
    assert list(theirs) == list(ours)
    assert all(ours[name].tensor is theirs[name].tensor for name in ours if theirs[name].node is None)


def test_changing_the_copy_leaves_the_model(tmp_path: Path) -> None:
    model = read_model(m.every_form())
    before = _written(model, tmp_path / "before.onnx")
    copy = copy_model(model)
    stored = stored_tensors(copy)
    inject(copy, {"m": lambda: np.zeros((64, 64), np.float32), "z": lambda: np.zeros(stored["z"].shape, np.float32)})
    copy.graph.remove(copy.graph[0])
    copy.metadata_props["key"] = "other"
    assert _written(model, tmp_path / "after.onnx") == before


def test_a_copy_spares_the_files_that_hold_its_weights(tmp_path: Path) -> None:
    m.save_external(m.mlp(), tmp_path / "m.onnx")
    copy = copy_model(read_model(tmp_path / "m.onnx"))
    with pytest.raises(ModelWriteError, match="holds weights of the model that was read"):
        write_model(copy, tmp_path / "m.onnx.data", force=True)
