#!/usr/bin/env bash
# jax2onnx 0.17.1: flax.linen.scan, and so linen.RNN, cannot be exported: a shape is asked for while jax2onnx holds jax.numpy.shape.
#
# While it traces, jax2onnx has a function of its own in the place of jax.numpy.shape, which gives a traced array. Flax's scan asks
# it for the shapes of what is carried (flax.core.axes_scan) and hands them on as numbers: "Shapes must be 1D sequences of concrete
# values". The inputs have fixed sizes, and the same function can be traced by jax.make_jaxpr. nnx.scan does not ask and is exported.
# Remedy: numpy.shape in the place of jax.numpy.shape while flax.core.axes_scan.build_shaped_array runs, or nnx.
#
# Seen on 2026-11-28 with flax 0.12.8, jax 0.10.2, onnx 1.23.2, Python 3.11, Linux x86_64:
#   jax traces it; jax2onnx: TypeError: Shapes must be 1D sequences of concrete values of integer type
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet jax2onnx==0.17.1 flax==0.12.8 jax==0.10.2 jaxlib==0.10.2 onnx==1.23.2 onnx-ir==1.1.0 numpy==2.4.6
(cd "$folder" && JAX_PLATFORMS=cpu venv/bin/python -W ignore - <<'PYTHON'
import jax
import jax2onnx
import numpy as np
from flax import linen


class Layer(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return x + linen.relu(linen.Dense(8)(x)), None


class Stack(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        layers = linen.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        return layers()(x, None)[0]


x = np.ones((2, 8), "float32")
variables = Stack().init(jax.random.key(0), x)
jax.make_jaxpr(lambda x: Stack().apply(variables, x))(x)
try:
    jax2onnx.to_onnx(lambda x: Stack().apply(variables, x), [x])
except TypeError as error:
    told = str(error).partition(", got")[0]
else:
    told = "it exports now"
print(f"jax traces it; jax2onnx: TypeError: {told}")
assert told == "Shapes must be 1D sequences of concrete values of integer type", told
PYTHON
)
