#!/usr/bin/env bash
# jax2onnx 0.17.1: a product under jax.vmap reads its batch along the first axis, whatever in_axes says.
#
# `jax.vmap(lambda row: row @ w, in_axes=1)(x)` is x.T @ w. Traced by jax2onnx it becomes Gemm(x, w), without the transpose, for
# `@` and lax.dot_general alike. Where x is square, the file loads, runs and computes something else without a word; where it is
# not, onnxruntime refuses it (penzai's named axes, which are vmaps over any axis, end so). The batching rule of jax.numpy.einsum
# reads the right axis: write the product as an einsum, or move the axis first (jnp.moveaxis) and take in_axes=0.
#
# Seen on 2026-11-29 with jax 0.10.2 and onnxruntime 1.32.0, Python 3.11, Linux x86_64:
#   operators: ['Gemm'], off by 6.4 as x.T @ w, by 0.0 as x @ w; einsum off by 0.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet jax2onnx==0.17.1 flax==0.12.8 jax==0.10.2 jaxlib==0.10.2 onnx==1.23.2 onnx-ir==1.1.0 onnxruntime==1.32.0 numpy==2.4.6
(cd "$folder" && venv/bin/python -W ignore - <<'PYTHON'
from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax2onnx
import numpy as np
import onnx
import onnxruntime

draw = np.random.default_rng(0)
x, w = draw.standard_normal((6, 6), dtype="float32"), draw.standard_normal((6, 4), dtype="float32")


def exported(function: Callable[[jax.Array], jax.Array]) -> tuple[np.ndarray, list[str]]:
    """What the file of a function gives for x, and its operators."""
    np.testing.assert_allclose(function(x), x.T @ w, rtol=1e-4, atol=1e-5)  # what JAX gives
    jax2onnx.to_onnx(function, [jax.ShapeDtypeStruct(x.shape, x.dtype)], return_mode="file", output_path="f.onnx")
    session = onnxruntime.InferenceSession("f.onnx", providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: x})
    return output, [node.op_type for node in onnx.load("f.onnx").graph.node]


def off(output: np.ndarray, expected: np.ndarray) -> float:
    return round(float(np.abs(output - expected).max()), 1)


product, operators = exported(lambda x: jax.vmap(lambda row: row @ w, in_axes=1)(x))
einsum, _ = exported(lambda x: jax.vmap(lambda row: jnp.einsum("i,ij->j", row, w), in_axes=1)(x))
print(
    f"operators: {operators}, off by {off(product, x.T @ w)} as x.T @ w, by {off(product, x @ w)} as x @ w; "
    f"einsum off by {off(einsum, x.T @ w)}"
)
assert off(einsum, x.T @ w) == 0
assert off(product, x @ w) == 0 and off(product, x.T @ w) > 1, "jax2onnx follows the axis now"
PYTHON
)
