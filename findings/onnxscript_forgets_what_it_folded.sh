#!/usr/bin/env bash
# onnxscript 0.7.2: what a folded tensor was made of is lost where a model was saved between two runs of the optimizer.
#
# Constant folding notes beside each tensor, as `pkg.onnxscript.optimizer.folded_from`, the names of all that it was made of, step by
# step, and the note is saved with the model. A second run takes the notes of the first from `Value.meta`, which a file does not
# hold, and not from `Value.metadata_props`, which it does: a tensor that is made of folded ones then names these alone, and they are
# in the file no more. So nothing tells that the weights which a fusion joins (queries, keys and values of a file of torch's exporter)
# were parameters of the module.
#
# Seen on 2026-11-29, Python 3.11, Linux x86_64:
#   in one process: ['key', 'key_t', 'query', 'query_t']
#   through a file: ['key_t', 'query_t'], though the file said of query_t: ['query']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet onnxscript==0.7.2 onnx-ir==1.1.0 onnx==1.23.2 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper
from onnxscript import optimizer

KEY = "pkg.onnxscript.optimizer.folded_from"
rng = np.random.default_rng(0)
stored = [numpy_helper.from_array(rng.standard_normal((3, 4)).astype(np.float32), name) for name in ("query", "key")]
nodes = [helper.make_node("Transpose", [name], [f"{name}_t"]) for name in ("query", "key")]
nodes += [helper.make_node("MatMul", ["x", f"{name}_t"], [f"{name}_y"]) for name in ("query", "key")]
ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 3]) for name in ("query_y", "key_y")]
start = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 4])]
graph = helper.make_graph(nodes, "g", start, ends, stored)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), "plain.onnx")


def joined(model):
    """One product for both, as fusions write it, and what folding says of its matrix."""
    values = model.graph.initializers
    concat = ir.node("Concat", [values["query_t"], values["key_t"]], {"axis": 1})
    concat.outputs[0].name = "both"
    product = ir.node("MatMul", [model.graph.inputs[0], concat.outputs[0]])
    product.outputs[0].name = "y"
    model.graph.extend([concat, product])
    model.graph.outputs[:] = product.outputs
    optimizer.optimize_ir(model)
    return model.graph.initializers["both"].metadata_props[KEY]


model = ir.load("plain.onnx")
optimizer.optimize_ir(model)
ir.save(model, "folded.onnx")
told = ir.load("folded.onnx").graph.initializers["query_t"].metadata_props[KEY]
once, twice = joined(model), joined(ir.load("folded.onnx"))
print("in one process:", once)
print(f"through a file: {twice}, though the file said of query_t: {told}")
assert once == "['key', 'key_t', 'query', 'query_t']" and told == "['query']"
assert twice == "['key_t', 'query_t']", "the second run reads the notes of the first now"
PYTHON
