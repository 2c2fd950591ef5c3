#!/usr/bin/env bash
# torch 2.14.1: a layer with spectral_norm divides a weight that is assigned, or initialised, by the vectors of the weight of before.
#
# The largest singular value is taken as u · W v, with buffers u and v that move by one step of the power iteration in each read (the
# parametrization) or forward pass (the older spectral_norm) in training mode, and never in inference mode. After
# `layer.weight = values` they are those of the old weight, so that a layer which promises a spectral norm of 1 has one far above it
# until it was read some thirty times in training mode. The older spectral_norm starts from random vectors: a fresh layer, evaluated
# before it was trained, has a norm in the hundreds. So start values are judged wrongly, and exports in inference mode hold them.
# Remedy: read the weight in training mode until its norm stays, or compute both vectors from the weight.
#
# Seen on 2026-11-29, Python 3.11, Linux x86_64 (64 x 64 weights):
#   parametrization: fresh 1.04, assigned 19.4, after 30 reads in training mode 1.01
#   older spectral_norm: fresh 263
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.14.1 numpy==2.3.5
cat > "$folder/spectral.py" <<'PYTHON'
import torch
from torch import nn
from torch.nn.utils import parametrizations


def norm(layer):
    return torch.linalg.matrix_norm(layer.weight.detach(), 2).item()


torch.manual_seed(0)
layer = parametrizations.spectral_norm(nn.Linear(64, 64)).eval()
fresh = norm(layer)
with torch.no_grad():
    layer.weight = torch.randn(64, 64)
assigned = norm(layer)
layer.train()
for _ in range(30):
    layer.weight  # each read is a step of the power iteration
trained = norm(layer.eval())
print(f"parametrization: fresh {fresh:.3g}, assigned {assigned:.3g}, after 30 reads in training mode {trained:.3g}")
older = nn.utils.spectral_norm(nn.Linear(64, 64)).eval()
older(torch.randn(1, 64))
print(f"older spectral_norm: fresh {norm(older):.3g}")
assert fresh < 1.1 and trained < 1.1
assert assigned > 3 and norm(older) > 3, "vectors of another weight give another norm"
PYTHON
(cd "$folder" && venv/bin/python -W ignore spectral.py)
