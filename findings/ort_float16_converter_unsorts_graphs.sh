#!/usr/bin/env bash
# onnxruntime 1.32.0: its converter to float16 puts the casts of inputs and outputs behind all other operators, so that the files are no
# valid ONNX.
#
# ONNX asks for operators in topological order. convert_float_to_float16 of onnxruntime.transformers, with keep_io_types=True, appends the
# cast of an input behind the operators that read it: onnx.checker refuses the model, and OpenCV 5.0 does not read it, while
# onnxruntime, which sorts what it loads, runs it. onnxconverter-common's function of the same name and origin keeps the order. Saving by
# the class OnnxModel sorts.
#
# Seen on 2026-11-29 with onnx 1.19.1, Python 3.11, Linux x86_64, for Conv, Relu:
#   onnxruntime's: Conv, Relu, Cast, Cast, refused by onnx.checker; onnxconverter-common's: Cast, Conv, Relu, Cast, valid
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet onnxruntime==1.32.0 onnxconverter-common==1.16.0 onnx==1.19.1 opencv-python-headless==5.0.0.93 \
    numpy==2.4.6 sympy packaging
(cd "$folder" && venv/bin/python -W ignore - <<'PYTHON'
import cv2
import numpy as np
import onnx
import onnx.parser
import onnxconverter_common.float16
import onnxruntime
import onnxruntime.transformers.float16

MODEL = """<ir_version: 8, opset_import: ["": 17]> net (float[1,3,8,8] x) => (float[1,3,8,8] y) <float[3,3,1,1] weight = {1,2,3,4,5,6,7,8,9}>
{ kernels = Conv(x, weight) y = Relu(kernels) }"""


def obstacle(run) -> str:
    try:
        run()
    except Exception as error:
        return str(error).strip().splitlines()[0]
    return ""


for module in (onnxruntime.transformers.float16, onnxconverter_common.float16):
    model = onnx.parser.parse_model(MODEL)
    onnx.checker.check_model(model, full_check=True)
    converted = module.convert_float_to_float16(model, keep_io_types=True)
    onnx.save(converted, "half.onnx")
    session = onnxruntime.InferenceSession("half.onnx", providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.ones((1, 3, 8, 8), np.float32)})[0].dtype == np.float32
    refused = obstacle(lambda: onnx.checker.check_model(converted))
    unread = obstacle(lambda: cv2.dnn.readNetFromONNX("half.onnx"))
    print(f"{module.__name__}: {', '.join(node.op_type for node in converted.graph.node)}")
    print(f"  onnx.checker: {refused or 'valid'}\n  OpenCV: {unread or 'reads it'}")
    assert bool(refused) == (module is onnxruntime.transformers.float16), refused
PYTHON
)
