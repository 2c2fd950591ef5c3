"""Networks in haiku for `exact_counts.py`. A transformed function is exported as a linen module is: by its `apply`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from onnx_ghn.exporters.flax import LinenModel

IMAGE = ("batch", 32, 32, 3)
CLASSES = 10


class _Transformed:
    """The `apply` of a transformed function, with parameters and states as two collections."""

    def __init__(self, function: Callable[..., jax.Array]) -> None:
        self.transformed = hk.transform_with_state(function)
        # Batch norms have statistics only once they have seen a batch in training.
        self.training = hk.transform_with_state(lambda *inputs: function(*inputs, is_training=True))

    def apply(self, variables: Mapping[str, Any], *inputs: jax.Array) -> jax.Array:
        output: jax.Array = self.transformed.apply(variables["params"], variables["state"], None, *inputs)[0]
        return output


def _model(
    function: Callable[..., jax.Array], example: jax.Array, inputs: Any, *, normed: bool = False
) -> tuple[LinenModel, Any]:
    module = _Transformed(function)
    params, state = (module.training if normed else module.transformed).init(jax.random.key(0), example)
    return LinenModel(module, {"params": params, "state": state}), inputs  # type: ignore[arg-type]


def _images(function: Callable[..., jax.Array], *, normed: bool = False) -> tuple[LinenModel, Any]:
    return _model(function, jnp.zeros((1, *IMAGE[1:])), IMAGE, normed=normed)


def mlp() -> tuple[LinenModel, Any]:
    """Two hidden layers."""
    return _images(lambda x: hk.nets.MLP([64, 64, CLASSES])(x.reshape(x.shape[0], 3072)))


def _resnet(x: jax.Array, is_training: bool = False) -> jax.Array:
    widths, projections = (16, 32, 64, 64), (True,) * 4
    net = hk.nets.ResNet((1, 1, 1, 1), CLASSES, bottleneck=False, channels_per_group=widths, use_projection=projections)
    return net(x, is_training=is_training)


def resnet() -> tuple[LinenModel, Any]:
    """ResNet as haiku ships it, narrow and of one block a stage."""
    return _images(_resnet, normed=True)


def _mobilenet(x: jax.Array, is_training: bool = False) -> jax.Array:
    return hk.nets.MobileNetV1((1, 2, 2), (16, 32, 64), CLASSES)(x, is_training=is_training)


def mobilenet() -> tuple[LinenModel, Any]:
    """MobileNet as haiku ships it, with fewer blocks."""
    return _images(_mobilenet, normed=True)


def _transformer(ids: jax.Array) -> jax.Array:
    positions = hk.get_parameter("positions", (8, 32), init=hk.initializers.RandomNormal(0.02))
    x = hk.Embed(100, 32)(ids) + positions
    for _ in range(2):
        y = hk.LayerNorm(-1, True, True)(x)
        x = x + hk.MultiHeadAttention(4, 8, w_init=hk.initializers.VarianceScaling())(y, y, y)
        y = hk.LayerNorm(-1, True, True)(x)
        x = x + hk.Linear(32)(jax.nn.gelu(hk.Linear(64)(y)))
    return hk.Linear(100, with_bias=False)(hk.RMSNorm(-1)(x))


def transformer() -> tuple[LinenModel, Any]:
    """Tokens in, logits of the next ones out."""
    ids = jnp.zeros((1, 8), jnp.int32)
    return _model(_transformer, ids, ids)


def _recurrent(x: jax.Array) -> jax.Array:
    outputs, _ = hk.static_unroll(hk.LSTM(16), x, hk.LSTM(16).initial_state(1), time_major=False)
    return hk.Linear(CLASSES)(outputs[:, -1])


def recurrent() -> tuple[LinenModel, Any]:
    """An LSTM, unrolled."""
    return _model(_recurrent, jnp.zeros((1, 6, 8)), (1, 6, 8))
