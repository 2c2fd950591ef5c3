#!/usr/bin/env bash
# jax2onnx 0.17.1: a Flax model that gives the window of a pooling by position cannot be exported.
#
# While it traces, jax2onnx has functions of its own in the place of flax.nnx's and flax.linen's max_pool and avg_pool, which take
# the window, the strides and the padding by keyword alone. Flax's take them by position, too, and its own examples call
# max_pool(x, (3, 3), strides=(2, 2), padding="SAME"). Such a model ends in a TypeError. Remedy: name the arguments.
#
# Seen on 2026-11-28 with flax 0.12.8, jax 0.10.2 and onnx 1.23.2, Python 3.11, Linux x86_64:
#   by keyword: exported; by position: takes 1 positional argument but 2 positional arguments
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet jax2onnx==0.17.1 flax==0.12.8 jax==0.10.2 jaxlib==0.10.2 onnx==1.23.2 onnx-ir==1.1.0 onnxruntime==1.32.0 numpy==2.4.6
(cd "$folder" && venv/bin/python -W ignore - <<'PYTHON'
import re

import jax2onnx
import numpy as np
from flax import nnx

x = np.zeros((1, 8, 8, 3), np.float32)
pools = {
    "by keyword": lambda x: nnx.max_pool(x, window_shape=(2, 2), strides=(2, 2)),
    "by position": lambda x: nnx.max_pool(x, (2, 2), strides=(2, 2)),
}
told = {}
for name, pool in pools.items():
    assert pool(x).shape == (1, 4, 4, 3)
    try:
        jax2onnx.to_onnx(pool, [x], return_mode="file", output_path="pool.onnx")
        told[name] = "exported"
    except TypeError as error:
        told[name] = re.sub(r"^.*?(takes .*?)( \(.*)?$", r"\1", str(error))
print("; ".join(f"{name}: {what}" for name, what in told.items()))
assert told["by keyword"] == "exported", told
assert "takes 1 positional argument" in told["by position"], told
PYTHON
)
