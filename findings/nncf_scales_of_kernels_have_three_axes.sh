#!/usr/bin/env bash
# NNCF 3.4.0: `compress_weights` of a convolution writes a file that onnx.checker passes and onnxruntime does not run.
#
# The scales of a matrix are written as one number a channel, [O]. Those of a kernel [O, I, H, W] are written with the axes that their
# reduction over I leaves, [O, 1, 1]: DequantizeLinear wants one axis, or as many as its input has. `onnx.checker.check_model` says
# nothing (with `full_check` neither, as shape inference takes the shape of the first input), and onnxruntime loads the file and stops
# when it computes that node. NNCF gives no warning.
#
# Seen on 2026-11-29, Python 3.11, Linux x86_64:
#   INT8_SYM, matrix [5, 8]: scale [5], runs
#   INT8_SYM, kernel [8, 3, 3, 3]: scale [8, 1, 1], does not run
#   INT8_ASYM, matrix [5, 8]: scale [5], runs
#   INT8_ASYM, kernel [8, 3, 3, 3]: scale [8, 1, 1], does not run
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet nncf==3.4.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON' 2>/dev/null
import logging

import nncf
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

nncf.set_log_level(logging.ERROR)
onnxruntime.set_default_logger_severity(4)
rng = np.random.default_rng(0)


def model(kind):
    shape, given, gives = ([5, 8], [2, 8], [2, 5]) if kind == "Gemm" else ([8, 3, 3, 3], [2, 3, 6, 6], [2, 8, 4, 4])
    attributes = {"transB": 1} if kind == "Gemm" else {}
    stored = [numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), "weight")]
    start, end = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", given), ("y", gives)))
    graph = helper.make_graph([helper.make_node(kind, ["x", "weight"], ["y"], **attributes)], "g", [start], [end], stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made, shape, given


found = {}
for mode in ("INT8_SYM", "INT8_ASYM"):
    for kind, word in (("Gemm", "matrix"), ("Conv", "kernel")):
        made, shape, given = model(kind)
        small = nncf.compress_weights(made, mode=getattr(nncf.CompressWeightsMode, mode))
        onnx.checker.check_model(small, full_check=True)
        node = next(n for n in small.graph.node if n.op_type == "DequantizeLinear")
        scale = next(list(t.dims) for t in small.graph.initializer if t.name == node.input[1])
        session = onnxruntime.InferenceSession(small.SerializeToString(), providers=["CPUExecutionProvider"])
        try:
            session.run(None, {"x": rng.standard_normal(given).astype(np.float32)})
            runs = "runs"
        except Exception:
            runs = "does not run"
        found[mode, kind] = (scale, runs)
        print(f"{mode}, {word} {shape}: scale {scale}, {runs}")
assert all(found[mode, "Gemm"] == ([5], "runs") for mode in ("INT8_SYM", "INT8_ASYM"))
assert all(found[mode, "Conv"] == ([8, 1, 1], "does not run") for mode in ("INT8_SYM", "INT8_ASYM")), "it runs now"
PYTHON
