"""Models in another precision are such as other tools take, too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime

from onnx_ghn.profiling.conversions import convert


def test_halves_are_in_order(tmp_path: Path) -> None:
    """onnxruntime's converter puts the casts of inputs behind all that reads them."""
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
        net (float[1,3,4,4] x) => (float[1,3,4,4] y) <float[3,3,1,1] w = {1,2,3,4,5,6,7,8,9}>
        { h = Conv(x, w) y = Relu(h) }""")
    onnx.save(model, tmp_path / "net.onnx")
    convert(str(tmp_path / "net.onnx"), "fp16", str(tmp_path / "half.onnx"), [])
    halved = onnx.load(tmp_path / "half.onnx")
    onnx.checker.check_model(halved, full_check=True)
    assert [node.op_type for node in halved.graph.node] == ["Cast", "Conv", "Relu", "Cast"]
    assert halved.graph.initializer[0].data_type == onnx.TensorProto.FLOAT16
    session = onnxruntime.InferenceSession(tmp_path / "half.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.ones((1, 3, 4, 4), np.float32)})
    np.testing.assert_array_equal(found[0, :, 0, 0], np.array([6, 15, 24], np.float32))
