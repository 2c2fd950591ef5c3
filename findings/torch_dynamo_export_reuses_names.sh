#!/usr/bin/env bash
# torch 2.14.1: torch.onnx.export(dynamo=True, optimize=False) gives a parameter the name that another value of the file has, where the
# module calls it as an operator or an input is called. Most such files are invalid; one is valid and computes something else.
#
# Results are called after their operators (exp, linear, mul_1), initializers as in the module, and nothing tells the two apart: the
# optimiser ends with the pass that does, and is left out. A parameter "exp" beside x.exp() makes a file that onnx.checker and
# onnxruntime refuse. A parameter "x" beside an input "x" of the same shape makes one that both take: it is the input's default value,
# and x * parameter is computed as x * x. Neither export says anything. With optimize=True, or onnx_ir's NameFixPass, names are unique.
#
# Seen on 2026-11-28, Python 3.11, Linux x86_64:
#   parameter "exp", optimize=False: onnxruntime refuses it: Duplicate definition of name (exp)
#   parameter "x", optimize=False: checker passes; largest difference from x * parameter: 4.0; from x * x: 0.0
#   optimize=True: largest difference from the module: 0.0, 0.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.14.1 numpy==2.3.5 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.31.1
cat > "$folder/names.py" <<'PYTHON'
import logging

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

logging.disable(logging.CRITICAL)
onnxruntime.set_default_logger_severity(4)


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.exp = nn.Parameter(torch.randn(2, 4))

    def forward(self, x):
        return x.exp() + self.exp


class Product(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.randn(2, 4))

    def forward(self, x):
        return x * self.x


def computed(module, x, optimize):
    torch.onnx.export(module, (x,), "net.onnx", dynamo=True, optimize=optimize, verbose=False)
    onnx.checker.check_model(onnx.load("net.onnx"))
    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x.numpy()})[0]


torch.manual_seed(0)
x, total, product = torch.randn(2, 4), Sum().eval(), Product().eval()
torch.onnx.export(total, (x,), "net.onnx", dynamo=True, optimize=False, verbose=False)
try:
    onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    raise SystemExit("onnxruntime loads the file")
except onnxruntime.capi.onnxruntime_pybind11_state.Fail as error:
    print(f'parameter "exp", optimize=False: onnxruntime refuses it: {str(error).split("Error: ")[-1].rstrip(".")}')
with torch.no_grad():
    own, wanted, squares = computed(product, x, False), product(x).numpy(), (x * x).numpy()
    off, square = np.abs(own - wanted).max(), np.abs(own - squares).max()
    print(f'parameter "x", optimize=False: checker passes; largest difference from x * parameter: {off:.1f}; from x * x: {square}')
    differences = [float(np.abs(computed(each, x, True) - each(x).numpy()).max()) for each in (total, product)]
print(f"optimize=True: largest difference from the module: {differences[0]:.1f}, {differences[1]:.1f}")
assert off > 0.5 and square < 1e-6, "the parameter is read as what it is"
assert max(differences) < 1e-5
PYTHON
(cd "$folder" && venv/bin/python -W ignore names.py)
