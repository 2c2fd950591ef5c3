#!/usr/bin/env bash
# jax2onnx 0.17.1: a max pooling of images with channels last becomes a MaxPool that onnxruntime does not run.
#
# JAX pools by windows that have a length along each axis (lax.reduce_window, which Keras's MaxPooling2D on JAX and
# functools.partial(flax.linen.max_pool, ...) end in). They are written with two axes added in front and a MaxPool over the four
# others, with the kernel 1 x 2 x 2 x 1: valid ONNX, which the checker accepts. onnxruntime knows one to three axes and refuses
# when it runs, not when it loads: "Unsupported pooling size". Sequences have three axes and run. Remedy: transpose, pool over
# the axes of the image alone, transpose back.
#
# Seen on 2026-11-28 with jax 0.10.2, onnx 1.23.2 and onnxruntime 1.32.0, Python 3.11, Linux x86_64:
#   kernel: [1, 2, 2, 1]; refused: Unsupported pooling size
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet jax2onnx==0.17.1 flax==0.12.8 jax==0.10.2 jaxlib==0.10.2 onnx==1.23.2 onnx-ir==1.1.0 onnxruntime==1.32.0 numpy==2.4.6
(cd "$folder" && venv/bin/python -W ignore - <<'PYTHON'
import jax
import jax2onnx
import numpy as np
import onnx
import onnxruntime


def pool(x: jax.Array) -> jax.Array:
    return jax.lax.reduce_window(x, -np.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


x = np.random.default_rng(0).standard_normal((1, 8, 8, 3), dtype="float32")
jax2onnx.to_onnx(pool, [x], return_mode="file", output_path="pool.onnx")
model = onnx.load("pool.onnx")
onnx.checker.check_model(model, full_check=True)
(node,) = [node for node in model.graph.node if node.op_type == "MaxPool"]
(kernel,) = [list(attribute.ints) for attribute in node.attribute if attribute.name == "kernel_shape"]
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
session = onnxruntime.InferenceSession("pool.onnx", options, providers=["CPUExecutionProvider"])
try:
    session.run(None, {session.get_inputs()[0].name: x})
except Exception as error:
    told = "Unsupported pooling size" if "Unsupported pooling size" in str(error) else str(error)
else:
    told = "nothing: it runs now"
print(f"kernel: {kernel}; refused: {told}")
assert kernel == [1, 2, 2, 1], kernel
assert told == "Unsupported pooling size", told
PYTHON
)
