#!/usr/bin/env bash
# torch 2.14.1: torch.onnx.export(dynamo=True) gives an nn.RNN the length of its example where `dynamic_shapes` names the
# dimension, without an error; of an nn.LSTM the length stays free, and the file declares that of the example for its outputs.
#
# The loop over the steps of nn.RNN is unrolled while it is traced. Dim.DYNAMIC for its length is refused, as
# documented ("tracing inferred a static shape"). A named one, Dim("t"), is what the documentation shows for the same wish: the export
# succeeds, the name of the other dimension is kept, and the file takes sequences of the example's length alone, which shows where it is
# deployed. nn.LSTM becomes an LSTM operator: its file takes any length and computes the right outputs, but declares an output of
# the example's length, which checkers of shapes and runtimes that allocate by declared shapes believe; onnxruntime warns at each run.
# nn.GRU does as nn.LSTM. Torch 2.15.0 declares the outputs of these two right, and fixes the length of nn.RNN as before.
#
# Seen on 2026-11-29, Python 3.11, Linux x86_64:
#   nn.RNN, named length: input ['b', 7, 4], output ['b', 7, 8]; with 12 steps: INVALID_ARGUMENT
#   nn.RNN, Dim.DYNAMIC: refused
#   nn.LSTM, named length: input ['b', 't', 4], output ['b', 7, 8]; with 12 steps: output (2, 12, 8), largest difference below 1e-6
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.14.1 numpy==2.3.5 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.31.1
cat > "$folder/lengths.py" <<'PYTHON'
import logging
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.export import Dim

logging.disable(logging.CRITICAL)
onnxruntime.set_default_logger_severity(4)


class Outputs(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


def export(kind, length):
    torch.manual_seed(0)
    module = Outputs(kind(4, 8, batch_first=True)).eval()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.onnx.export(
            module, (torch.randn(2, 7, 4),), "net.onnx", dynamo=True, verbose=False, external_data=False,
            dynamic_shapes=({0: Dim("b"), 1: length},),
        )
    graph = onnx.load("net.onnx").graph
    shapes = [[d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in (*graph.input, *graph.output)]
    return module, shapes, [str(each.message) for each in caught]


def run(module):
    x = torch.randn(2, 12, 4)
    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    got = session.run(None, {"x": x.numpy()})[0]
    return got.shape, float(np.abs(got - module(x).detach().numpy()).max())


module, shapes, told = export(nn.RNN, Dim("t"))
about_length = [text for text in told if "dynamic" in text.lower() or "specializ" in text.lower() or " 7" in text]
try:
    refused = str(run(module))
except Exception as error:
    refused = "INVALID_ARGUMENT" if "INVALID_ARGUMENT" in str(error) else str(error)
print(f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}")
print(f"nn.RNN, named length: input {shapes[0]}, output {shapes[1]}; warnings of it: {about_length}; with 12 steps: {refused}")
assert shapes == [["b", 7, 4], ["b", 7, 8]] and refused == "INVALID_ARGUMENT" and not about_length

try:
    export(nn.RNN, Dim.DYNAMIC)
    told = "exported"
except Exception:
    told = "refused"
print(f"nn.RNN, Dim.DYNAMIC: {told}")
assert told == "refused"

module, shapes, _ = export(nn.LSTM, Dim("t"))
size, difference = run(module)
print(f"nn.LSTM, named length: input {shapes[0]}, output {shapes[1]}; with 12 steps: output {size}, largest difference {difference:.1e}")
assert shapes == [["b", "t", 4], ["b", 7, 8]] and size == (2, 12, 8) and difference < 1e-6
PYTHON
cd "$folder"
"$folder/venv/bin/python" "$folder/lengths.py" 2> "$folder/log" || { tail -5 "$folder/log"; echo "the behaviour has changed"; exit 1; }
