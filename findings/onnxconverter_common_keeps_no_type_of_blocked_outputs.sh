#!/usr/bin/env bash
# onnxconverter-common 1.16.0: with keep_io_types=True, an output that a Resize gives becomes float16 all the same.
#
# convert_float_to_float16 leaves some operators in float32, Resize, TopK and CumSum among them, and puts casts around them. Where such
# an operator gives an output of the model, the cast behind it takes the output's name and gives float16, and keep_io_types, which is to
# keep the types of inputs and outputs, adds none. Inputs stay float32, and so do outputs of other operators. The file is valid and
# runs, so that a network that ends in an upsampling, as many that segment do, hands out halves without a word.
#
# Seen on 2026-11-29 with onnx 1.19.1, onnxruntime 1.32.0, Python 3.11, Linux x86_64:
#   Relu at the end: float32 in, float32 out; Resize, CumSum or TopK at the end: float32 in, float16 out
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet onnxconverter-common==1.16.0 onnx==1.19.1 onnxruntime==1.32.0 numpy==2.4.6
(cd "$folder" && venv/bin/python -W ignore - <<'PYTHON'
import numpy as np
import onnx
import onnx.parser
import onnxruntime
from onnxconverter_common.float16 import convert_float_to_float16

MODEL = """<ir_version: 8, opset_import: ["": 17]> net (float[1,3,8,8] x) => (float[%s] y) <float[3,3,1,1] weight = {1,2,3,4,5,6,7,8,9},
float[4] scales = {1,1,2,2}, int64 axis = {2}, int64[1] count = {2}> { kernels = Conv(x, weight) %s }"""
LAST = {
    "Relu": ("1,3,8,8", "y = Relu(kernels)"),
    "Resize": ("1,3,16,16", 'y = Resize<mode = "nearest">(kernels, , scales)'),
    "CumSum": ("1,3,8,8", "y = CumSum(kernels, axis)"),
    "TopK": ("1,3,2,8", "y, places = TopK<axis = 2>(kernels, count)"),
}
for last, (shape, node) in LAST.items():
    model = onnx.parser.parse_model(MODEL % (shape, node))
    onnx.checker.check_model(model, full_check=True)
    converted = convert_float_to_float16(model, keep_io_types=True)
    onnx.checker.check_model(converted, full_check=True)
    onnxruntime.set_default_logger_severity(3)  # of constants that a network leaves unread
    session = onnxruntime.InferenceSession(converted.SerializeToString(), providers=["CPUExecutionProvider"])
    given, declared = session.get_inputs()[0].type, session.get_outputs()[0].type
    output = session.run(None, {"x": np.ones((1, 3, 8, 8), np.float32)})[0]
    print(f"{last}: {given} in, {declared} out, {output.dtype} in fact")
    assert given == "tensor(float)"
    assert output.dtype == (np.float32 if last == "Relu" else np.float16), last
PYTHON
)
