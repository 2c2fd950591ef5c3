#!/usr/bin/env bash
# onnxruntime 1.31.1 refuses two nodes of one name, unless they are Constant nodes.
#
# ONNX asks for no unique names of nodes, and onnx.checker accepts either file. onnxruntime makes initializers of Constant nodes before
# it looks for names that stand twice, so that a file loads whose Constants are all called alike (spox writes such files, and packages
# ship them). A tool that makes another operator of one of them (ConstantOfShape, Identity), and leaves the names as they are, turns a
# file that loads into one that does not.
#
# Seen on 2026-11-29, Python 3.11, Linux x86_64:
#   Constant, Constant: checker passes, loads
#   ConstantOfShape, ConstantOfShape: checker passes, Fail: two nodes with same node name (same)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet numpy==2.4.1 onnx==1.23.2 onnxruntime==1.31.1
(cd "$folder" && venv/bin/python - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ones = numpy_helper.from_array(np.ones(4, np.float32))
zero = numpy_helper.from_array(np.zeros(1, np.float32))


def seen(kind: str) -> str:
    made = [
        helper.make_node("Constant", [], [name], name="same", value=ones)
        if kind == "Constant"
        else helper.make_node("ConstantOfShape", ["shape"], [name], name="same", value=zero)
        for name in ("a", "b")
    ]
    nodes = [*made, helper.make_node("Sum", ["x", "a", "b"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
    shape = numpy_helper.from_array(np.array([4], np.int64), "shape")
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception as error:
        assert "two nodes with same node name (same)" in str(error), error
        return "checker passes, Fail: two nodes with same node name (same)"
    return "checker passes, loads"


print("Constant, Constant:", one := seen("Constant"))
print("ConstantOfShape, ConstantOfShape:", other := seen("ConstantOfShape"))
if "loads" not in one or "Fail" not in other:
    raise SystemExit("onnxruntime now treats both alike")
PYTHON
)
