#!/usr/bin/env bash
# onnx2fx 0.0.1: QuantizeLinear with an int8 zero point quantises to 0..255, without a word.
#
# The type of the zero point is that of the result (ONNX, QuantizeLinear): with int8, values saturate at -128 and 127. onnx2fx
# takes 0 and 255 in both cases, so that everything below zero is lost. A quantised network (most are int8 with a zero point of 0)
# that is converted to be trained, or judged, computes something else than in onnxruntime. With uint8 the two agree.
#
# Seen on 2026-11-27 with torch 2.14.1, onnx 1.23.2 and onnxruntime 1.31.1, Python 3.11, Linux x86_64:
#   uint8, zero point 128: onnxruntime [-64.0, -1.0, 0.0, 1.0, 63.5], onnx2fx [-64.0, -1.0, 0.0, 1.0, 63.5]
#   int8, zero point 0: onnxruntime [-64.0, -1.0, 0.0, 1.0, 63.5], onnx2fx [0.0, 0.0, 0.0, 1.0, 100.0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet onnx2fx==0.0.1 torch==2.14.1 onnx==1.23.2 onnxruntime==1.31.1 numpy
(cd "$folder" && venv/bin/python -W ignore - <<'PYTHON'
import numpy as np
import onnx
import onnx2fx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

VALUES = np.array([-100, -1.25, 0, 1.25, 100], np.float32)


def model(zero_point: np.generic) -> onnx.ModelProto:
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
        ],
        "there_and_back",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [5])],
        [numpy_helper.from_array(np.float32(0.5), "scale"), numpy_helper.from_array(zero_point, "zero")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


def results(zero_point: np.generic) -> tuple[list[float], list[float]]:
    made = model(zero_point)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    given = onnx2fx.convert(made)(torch.from_numpy(VALUES))
    given = given[0] if isinstance(given, (tuple, list)) else given
    return session.run(None, {"x": VALUES})[0].tolist(), given.tolist()


for name, zero_point in (("uint8, zero point 128", np.uint8(128)), ("int8, zero point 0", np.int8(0))):
    runtime, converted = results(zero_point)
    print(f"{name}: onnxruntime {runtime}, onnx2fx {converted}")
    assert runtime == [-64.0, -1.0, 0.0, 1.0, 63.5], runtime
    assert converted == (runtime if zero_point else [0.0, 0.0, 0.0, 1.0, 100.0]), "onnx2fx computes something else now"
PYTHON
)
