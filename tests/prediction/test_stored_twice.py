"""An embedding that an exporter stored once more, turned, as the last weight: one parameter, which grows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
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
    y = MatMul(l, head)
}
"""


def _model(width: int, seed: int) -> onnx.ModelProto:
    """A language model of one block, as torch's second exporter writes it where the embedding is the head as well."""
    drawn = np.random.default_rng(seed).standard_normal
    arrays = {"table": drawn((TOKENS, width)), "hidden": drawn((width, 6)) / 2, "back": drawn((6, width)) / 2}
    arrays |= {name: 1 + drawn(width) / 4 for name in ("gain", "last_gain")}
    arrays |= {name: drawn(width) / 4 for name in ("shift", "last_shift")}
    arrays["head"] = arrays["table"].T
    model = onnx.parser.parse_model(_TEXT)
    model.graph.initializer.extend(numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items())
    return model


def test_a_head_that_is_the_embedding_turned_keeps_outputs_and_stays_it(tmp_path: Path) -> None:
    """Copies of the embedding were put in the place of the head, which shares them: outputs came out doubled."""
    onnx.save(_model(8, 0), tmp_path / "donor.onnx")
    onnx.save(_model(16, 1), tmp_path / "wide.onnx")
    prediction = predict(tmp_path / "wide.onnx", tmp_path / "grown.onnx", donors=[tmp_path / "donor.onnx"])
    np.testing.assert_array_equal(prediction["head"], prediction["table"].T)
    ids = np.random.default_rng(2).integers(0, TOKENS, (2, 5))
    (expected,), (found,) = (
        open_session(tmp_path / f"{name}.onnx").run(None, {"ids": ids}) for name in ("donor", "grown")
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert any("are kept" in note for note in prediction.coverage.notes)
