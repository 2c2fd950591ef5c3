"""One epoch in Flax from weights that onnx-ghn loaded: `python flax_epoch.py init.msgpack`."""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import optax
from drawn import images
from flax import nnx, serialization
from flax_net import build

model = build()
nnx.update(model, serialization.msgpack_restore(Path(sys.argv[1]).read_bytes()))
optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)


@nnx.jit
def step(model: nnx.Module, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array) -> jax.Array:
    """The loss of a batch before its update."""

    def loss(model: nnx.Module) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    value, gradients = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradients)
    return value


x, y = images()
for i in range(0, len(x), 50):
    last = step(model, optimizer, x[i : i + 50], y[i : i + 50])
print(f"loss {float(last):.2f}")
