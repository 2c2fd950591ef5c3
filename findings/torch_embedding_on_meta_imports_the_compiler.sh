#!/usr/bin/env bash
# torch 2.14.1: making an nn.Embedding on the meta device imports torch's compiler, a second or more; nn.Linear does not.
#
# Modules are made under torch.device("meta") so that nothing is allocated or drawn before a checkpoint is read. An embedding draws
# normal values, and on the meta device Tensor.normal_ goes through the reference implementations written in Python, whose decorator
# imports torch._dynamo first: hundreds of modules for values that do not exist. Linear and convolutional layers draw uniform values
# and are free of it. Whoever loads checkpoints so can leave reset_parameters out while the weight is on the meta device.
#
# Seen on 2026-11-27, Python 3.11, Linux x86_64:
#   Linear, Conv2d, LayerNorm: torch._dynamo imported: False
#   Embedding: torch._dynamo imported: True, several hundred further modules
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.14.1 numpy==2.3.5
cat > "$folder/make.py" <<'PYTHON'
import sys

import torch
from torch import nn


def compiler() -> bool:
    return "torch._dynamo" in sys.modules


with torch.device("meta"):
    nn.Linear(4, 4), nn.Conv2d(3, 4, 3), nn.LayerNorm(4)
others, before = compiler(), len(sys.modules)
with torch.device("meta"):
    nn.Embedding(4, 4)
embedding, more = compiler(), len(sys.modules) - before
print(f"Linear, Conv2d, LayerNorm: torch._dynamo imported: {others}")
print(f"Embedding: torch._dynamo imported: {embedding}, {more} further modules")
assert not others
assert embedding and more > 200, "an embedding on the meta device no longer imports the compiler"
PYTHON
(cd "$folder" && venv/bin/python make.py)
