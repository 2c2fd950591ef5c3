"""Real files: the models inside the onnx package (Caffe2's) and our examples. Found, predicted, sound, finite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from predict_models import arrays, besides_copies, float_tensors, run, signature, tiny_ghn

import onnx_ghn
from onnx_ghn.graph import Role
from onnx_ghn.inspection import inspect_model

LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("light_*.onnx"))
EXAMPLES = sorted((Path(__file__).parents[1] / "data/examples").glob("*.onnx"))
#: Larger ones of families that a smaller file stands for: run by the slow tests.
LARGE = {"light_densenet121", "light_resnet50", "light_vgg19", "light_inception_v2", "light_bvlc_alexnet"}
LARGE |= {"resnet50_torch_dynamo"}


def test_the_corpora_are_there() -> None:
    assert len(LIGHT) == 9
    assert len(EXAMPLES) >= 9


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in LARGE else [])
        for path in (*LIGHT, *EXAMPLES)
    ],
)
def test_found_predicted_sound_and_finite(path: Path, tmp_path: Path) -> None:
    source = onnx.load(path)
    before = path.read_bytes()
    target = tmp_path / "init.onnx"
    prediction = onnx_ghn.predict(path, target, ghn=tiny_ghn(), correct_scales=False)
    assert path.read_bytes() == before

    # Every float tensor of the file is a parameter, but for a table of frequencies, and nothing else is.
    found = {parameter.name: parameter.size for parameter in prediction.graph.parameters}
    stored = float_tensors(source)
    tables = {name for name in stored if name.endswith("rotary_emb.inv_freq")}
    assert found == {name: size for name, size in stored.items() if name not in tables}
    coverage = prediction.coverage
    assert coverage.share("predicted") >= 0.99
    assert coverage.count("kept") == 0
    assert all(reason for reason in coverage.reasons())
    assert [
        note
        for note in besides_copies(coverage.notes)
        if "out equal to one that reads" not in note and "if a simplifier merged" not in note  # heads that are shared
    ] == []  # all running statistics calibrated

    # What inspect foretells of each tensor is what became of it.
    foretold = inspect_model(path, policy="all").coverage.entries
    assert [entry.to_dict() for entry in foretold] == [entry.to_dict() for entry in coverage.entries]

    written = onnx.load(target)
    onnx.checker.check_model(target, full_check=True)
    assert signature(written) == signature(source)
    stored = arrays(written)
    for name, array in prediction.items():
        assert np.array_equal(stored[name], array)
    statistics = {p.name for p in prediction.graph.parameters if p.role is Role.statistic}
    assert set(prediction) - tables == found.keys() - statistics
    read = {name for node in written.graph.node for name in node.input}
    for name, old in arrays(source).items():
        if name in found:
            assert (stored[name].shape, stored[name].dtype) == (old.shape, old.dtype)
        elif name in stored:
            np.testing.assert_array_equal(stored[name], old)  # shapes, axes, scalars
        else:  # it was the shape of a ConstantOfShape, which is no more
            assert old.dtype == np.int64
            assert name not in read
    assert all(np.isfinite(output).all() for output in run(target))
