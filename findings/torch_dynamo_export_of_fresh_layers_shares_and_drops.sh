#!/usr/bin/env bash
# torch 2.14.1 and onnxscript 0.7.2: torch.onnx.export(dynamo=True), as it is by default, takes what a fresh parameter holds for what it
# will always hold. A bias of zeros of a linear layer or a convolution is left out, and a learned scale of ones becomes the scale of a
# layer norm that has none of its own. Nothing is said, and the file computes the same until somebody changes its weights.
#
# Many published models begin with such biases and scales (vision transformers, BERT, GPT-2, gains of blocks), and files are exported
# before training in order to be trained, or to compare starts. There the layer norm below is trained with `gain`: with gain = 2 the
# module gives twice its output, the file four times. With optimize=False each parameter has an initializer of its own.
#
# Seen on 2026-11-29, Python 3.11, Linux x86_64:
#   optimize=True: without an initializer: conv.bias, head.bias; the scale of the layer norm: gain
#     largest difference from the module 0.0 as exported; with gain = 2 the output of the file is
#     4.0 times what it was, that of the module 2.0 times
#   optimize=False: without an initializer: nothing
#     largest difference from the module 0.0 as exported; with gain = 2 the output of the file is
#     2.0 times what it was, that of the module 2.0 times
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.14.1 numpy==2.3.5 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.31.1
cat > "$folder/fresh.py" <<'PYTHON'
import logging

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import nn

logging.disable(logging.CRITICAL)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)
        nn.init.zeros_(self.conv.bias)
        nn.init.zeros_(self.head.bias)
        self.gain = nn.Parameter(torch.ones(8))

    def forward(self, x):
        return self.head(nn.functional.layer_norm(self.conv(x).mean((2, 3)), (8,)) * self.gain)


def run(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]


def times(after, before):
    return float(np.linalg.norm(after) / np.linalg.norm(before))


found = {}
for optimize in (True, False):
    torch.manual_seed(0)
    net, x = Net().eval(), torch.randn(2, 3, 8, 8)
    torch.onnx.export(net, (x,), "net.onnx", dynamo=True, optimize=optimize, verbose=False)
    model = onnx.load("net.onnx")
    onnx.checker.check_model(model, full_check=True)
    absent = {name for name, _ in net.named_parameters()} - {tensor.name for tensor in model.graph.initializer}
    before, wanted = run(model, x), net(x).detach().numpy()
    for tensor in model.graph.initializer:
        if tensor.name == "gain":
            tensor.CopyFrom(numpy_helper.from_array(np.full(8, 2, np.float32), "gain"))
    with torch.no_grad():
        net.gain.fill_(2)
    grown, own = times(run(model, x), before), times(net(x).detach().numpy(), wanted)
    norm = next(node for node in model.graph.node if node.op_type == "LayerNormalization")
    shared = f"; the scale of the layer norm: {norm.input[1]}" if norm.input[1] == "gain" else ""
    print(f"optimize={optimize}: without an initializer: {', '.join(sorted(absent)) or 'nothing'}{shared}")
    print(f"  largest difference from the module {np.abs(before - wanted).max():.1f} as exported; with gain = 2 the output of the file is")
    print(f"  {grown:.1f} times what it was, that of the module {own:.1f} times")
    found[optimize] = (absent, norm.input[1] == "gain", round(grown, 3), round(own, 3))
assert found[True] == ({"conv.bias", "head.bias"}, True, 4.0, 2.0), found[True]
assert found[False] == (set(), False, 2.0, 2.0), found[False]
PYTHON
(cd "$folder" && venv/bin/python -W ignore fresh.py)
