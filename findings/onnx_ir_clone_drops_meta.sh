#!/usr/bin/env bash
# onnx_ir 1.1.0: Model.clone() leaves out Model.meta.
#
# The docstring calls the result a deep copy. Graphs, nodes, values, functions and metadata_props are copied, and the meta of
# values and nodes too; what a program has noted in `model.meta` (where the file came from, say) is gone, with or without
# deep_copy=True. Whoever keeps such notes copies them by hand.
#
# Seen on 2026-11-27, Python 3.11, Linux x86_64:
#   model.meta: {}  graph.meta: {'note': 'of the graph'}  metadata_props: {'kept': 'yes'}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet onnx-ir==1.1.0 onnx==1.23.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import onnx_ir as ir

x = ir.Value(name="x", shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.FLOAT))
node = ir.node("Relu", [x])
graph = ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 20}, name="g")
model = ir.Model(graph, ir_version=10, metadata_props={"kept": "yes"})
model.meta["note"] = "of the model"
graph.meta["note"] = "of the graph"
for deep in (False, True):
    copy = model.clone(deep_copy=deep)
    print("model.meta:", dict(copy.meta), " graph.meta:", dict(copy.graph.meta), " metadata_props:", dict(copy.metadata_props))
    assert dict(copy.meta) == {}, "Model.clone() now copies Model.meta"
    assert dict(copy.metadata_props) == {"kept": "yes"}
PYTHON
