#!/usr/bin/env bash
# Flax 0.12.8: the scales of nnx.WeightNorm are arrays, not parameters, and no optimiser of nnx.Param trains them.
#
# linen.WeightNorm makes its scale a parameter. nnx.WeightNorm keeps a dict of arrays, `scales`, which nnx.state lists without a
# type: nnx.state(model, nnx.Param) has no scale, nnx.grad of parameters gives none, and nnx.Optimizer(model, ..., wrt=nnx.Param),
# as the documentation trains, leaves them at their ones. Weights of norm one stay so for good: use_scale=True trains as False
# does. Each call also writes the normalised kernel over the layer's own. Remedy: make them parameters,
# norm.scales = nnx.data({path: nnx.Param(scale) for path, scale in norm.scales.items()}).
#
# Seen on 2026-11-28 with jax 0.10.2 and optax 0.2.8, Python 3.11, Linux x86_64:
#   nnx: [bias, kernel] are parameters, scale after 20 steps 1.0; linen: [bias, kernel, scale] are parameters
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet flax==0.12.8 jax==0.10.2 jaxlib==0.10.2 optax==0.2.8 numpy==2.4.6
(cd "$folder" && JAX_PLATFORMS=cpu venv/bin/python -W ignore - <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen, nnx

x = jax.random.normal(jax.random.key(0), (16, 8))
y = 5 * x[:, :4]


class Model(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layer = nnx.WeightNorm(nnx.Linear(8, 4, rngs=rngs), use_scale=True, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.layer(x)


def loss(model: Model) -> jax.Array:
    return jnp.mean((model(x) - y) ** 2)


model = Model(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
before = np.array(model.layer.layer_instance.kernel[...])
for _ in range(20):
    optimizer.update(model, nnx.grad(loss)(model))
assert not np.array_equal(before, model.layer.layer_instance.kernel[...])
(scale,) = (np.array(value) for value in model.layer.scales.values())
parameters = sorted({path[-1] for path in nnx.to_flat_state(nnx.state(model, nnx.Param)).paths})

module = linen.WeightNorm(linen.Dense(4))
tree = module.init(jax.random.key(0), x)["params"]
of_linen = sorted({path[-1].key.split("/")[-1] for path, _ in jax.tree_util.tree_leaves_with_path(tree)})
print(f"nnx: [{', '.join(parameters)}] are parameters, scale after 20 steps {scale.mean()}; linen: [{', '.join(of_linen)}] are parameters")
assert parameters == ["bias", "kernel"], parameters
assert (scale == 1).all(), scale
assert of_linen == ["bias", "kernel", "scale"], of_linen
PYTHON
)
