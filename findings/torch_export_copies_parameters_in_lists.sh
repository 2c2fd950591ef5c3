#!/usr/bin/env bash
# torch 2.14.1: a parameter that a module reads through a plain list or dict is a constant in torch.export's program, and in the file
# of torch.onnx.export(dynamo=True), which is not told from those that nobody trains.
#
# A module registers two parameters, and its forward pass takes them from a list of them that it holds, too. The list of inputs names
# both parameters, which nothing reads; the computation reads lifted_tensor_0 and lifted_tensor_1 instead, of the kind
# CONSTANT_TENSOR, without a warning. Whoever trains, freezes or quantises by these kinds, or loads other weights by name, passes the
# parameters over. The first exporter (dynamo=False) keeps their names. nn.ParameterList, or getattr in the forward pass, avoids it.
#
# Seen on 2026-11-28, Python 3.11, Linux x86_64:
#   list: stored linear.bias, linear.weight, lifted_tensor_0, lifted_tensor_1; constants lifted_tensor_0, lifted_tensor_1
#   ParameterList: stored linear.bias, linear.weight, scales.0, scales.1; constants none
#   first exporter, list: stored first, linear.bias, linear.weight, second
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.14.1 numpy==2.3.5 onnx==1.23.2 onnxscript==0.7.2
cat > "$folder/lists.py" <<'PYTHON'
import io
import logging

import onnx
import torch
from torch import nn

logging.disable(logging.CRITICAL)


class Scales(nn.Module):
    def __init__(self, listed: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4))
        self.scales = [self.first, self.second] if listed else nn.ParameterList([self.first, self.second])
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        for scale in self.scales:
            x = torch.tanh(x * scale)
        return self.linear(x)


def stored(proto):
    return ", ".join(sorted(tensor.name for tensor in proto.graph.initializer))


x = torch.randn(2, 4)
seen = {}
for name, listed in (("list", True), ("ParameterList", False)):
    module = Scales(listed).eval()
    constants = torch.export.export(module, (x,)).graph_signature.lifted_tensor_constants
    program = torch.onnx.export(module, (x,), dynamo=True, verbose=False)
    seen[name] = stored(program.model_proto)
    print(f"{name}: stored {seen[name]}; constants {', '.join(constants) or 'none'}")
    assert len(constants) == (2 if listed else 0)
file = io.BytesIO()
torch.onnx.export(Scales(True).eval(), (x,), file, dynamo=False)
first = stored(onnx.load_from_string(file.getvalue()))
print(f"first exporter, list: stored {first}")
assert seen["list"] == "lifted_tensor_0, lifted_tensor_1, linear.bias, linear.weight" and "first" in first
assert "lifted" not in seen["ParameterList"], "parameters of a list keep their names"
PYTHON
(cd "$folder" && venv/bin/python -W ignore lists.py)
