"""Embeddings that are the head as well: a file that stores them once, and one that stores them twice, cross over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from onnx_ghn import predict
from onnx_ghn.runtime import open_session

TOKENS = 11

_TEXT = """
<ir_version: 9, opset_import: ["" : 20]>
g (int64[2,5] ids) => (float[2,5,11] y) {
    e = Gather(table, ids)
    n = LayerNormalization(e, gain, shift)
    h = MatMul(n, hidden)
    r = Tanh(h)
    s = MatMul(r, back)
    a = Add(e, s)
    l = LayerNormalization(a, last_gain, last_shift)
    HEAD
}
"""
_HEADS = {"once": "t = Transpose<perm = [1, 0]>(table) y = MatMul(l, t)", "twice": "y = MatMul(l, head)"}


def _model(form: str, width: int, seed: int) -> onnx.ModelProto:
    """A language model of one block: by torch's second exporter or jax2onnx (once), by torch's first one (twice)."""
    drawn = np.random.default_rng(seed).standard_normal
    arrays = {"table": drawn((TOKENS, width)), "hidden": drawn((width, 6)) / 2, "back": drawn((6, width)) / 2}
    arrays |= {name: 1 + drawn(width) / 4 for name in ("gain", "last_gain")}
    arrays |= {name: drawn(width) / 4 for name in ("shift", "last_shift")}
    if form == "twice":
        arrays["head"] = arrays["table"].T
    model = onnx.parser.parse_model(_TEXT.replace("HEAD", _HEADS[form]))
    model.graph.initializer.extend(numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items())
    return model


@pytest.mark.parametrize("width", [8, 16])
@pytest.mark.parametrize("forms", [("once", "twice"), ("twice", "once")], ids=["once to twice", "twice to once"])
def test_outputs_are_kept(forms: tuple[str, str], width: int, tmp_path: Path) -> None:
    """The last layer of the block was taken for the head where the file has none of its own, and was left out."""
    onnx.save(_model(forms[0], 8, 0), tmp_path / "donor.onnx")
    onnx.save(_model(forms[1], width, 1), tmp_path / "target.onnx")
    found = predict(tmp_path / "target.onnx", tmp_path / "grown.onnx", donors=[tmp_path / "donor.onnx"])
    if forms[1] == "twice":
        np.testing.assert_array_equal(found["head"], found["table"].T)
    ids = np.random.default_rng(2).integers(0, TOKENS, (2, 5))
    (expected,), (given,) = (
        open_session(tmp_path / f"{name}.onnx").run(None, {"ids": ids}) for name in ("donor", "grown")
    )
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)
