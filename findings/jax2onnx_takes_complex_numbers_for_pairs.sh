#!/usr/bin/env bash
# jax2onnx 0.17.1: functions of complex numbers are taken of the real and the imaginary part, each by itself.
#
# ONNX's operators know no complex numbers, so that jax2onnx holds one as two floats along a last axis. What it has no rule of its own
# for is written as for floats: jnp.exp and jnp.tanh give other values in the right shape, and jnp.abs gives |re| and |im| in an array
# with an axis more, each without a word. The magnitude of a spectrum, jnp.abs(jnp.fft.rfft(x)), is the common case: networks on raw
# sound get twice the channels. Sums, products of matrices and jnp.angle are right. Remedy: write the arithmetic on .real and .imag.
#
# Seen on 2026-11-29 with jax 0.10.2 and onnxruntime 1.32.0, Python 3.11, Linux x86_64:
#   |spectrum|: (4, 5, 2) for (4, 5); real part of exp: off by 11.0; sqrt(re² + im²): off by 0.0
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
import onnxruntime

x = np.random.default_rng(0).standard_normal((4, 8), dtype="float32")


def both(function: Callable[[jax.Array], jax.Array]) -> tuple[np.ndarray, np.ndarray]:
    """What the file of a function gives, and what JAX gives."""
    jax2onnx.to_onnx(function, [jax.ShapeDtypeStruct(x.shape, x.dtype)], return_mode="file", output_path="f.onnx")
    session = onnxruntime.InferenceSession("f.onnx", providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: x})
    return output, np.asarray(function(jnp.asarray(x)))


def off(pair: tuple[np.ndarray, np.ndarray]) -> float:
    return round(float(np.abs(pair[0] - pair[1]).max()), 1)


magnitude = both(lambda x: jnp.abs(jnp.fft.rfft(x)))
exponential = both(lambda x: jnp.exp(jax.lax.complex(x, 2 * x)).real)
by_parts = both(lambda x: (lambda z: jnp.sqrt(z.real**2 + z.imag**2))(jnp.fft.rfft(x)))
print(
    f"|spectrum|: {magnitude[0].shape} for {magnitude[1].shape}; real part of exp: off by {off(exponential)}; "
    f"sqrt(re² + im²): off by {off(by_parts)}"
)
assert off(by_parts) == 0
assert exponential[0].shape == exponential[1].shape
assert off(exponential) > 1, "jax2onnx knows exp of complex numbers now"
assert magnitude[0].shape == (4, 5, 2) and magnitude[1].shape == (4, 5), "jax2onnx knows magnitudes now"
PYTHON
)
