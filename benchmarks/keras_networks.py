"""Networks in Keras for `exact_counts.py`, of the layers that keras.applications lacks."""

from __future__ import annotations

import keras
from keras import layers


def norms() -> keras.Model:
    """Every norm that Keras has."""
    x = inputs = keras.Input((16, 16, 3))
    for norm in (
        layers.BatchNormalization(),
        layers.LayerNormalization(),
        layers.GroupNormalization(4),
        layers.GroupNormalization(-1),  # of each channel
        layers.RMSNormalization(),
        layers.BatchNormalization(center=False),
        layers.BatchNormalization(scale=False),
    ):
        x = keras.ops.relu(norm(layers.Conv2D(8, 3, padding="same")(x)))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(layers.UnitNormalization()(x)), name="norms")


def recurrent() -> keras.Model:
    """LSTM, GRU and a simple layer, in both directions and in one."""
    x = inputs = keras.Input((6, 8))
    x = layers.Bidirectional(layers.LSTM(8, return_sequences=True, unroll=True))(x)
    x = layers.GRU(8, return_sequences=True, unroll=True)(x)
    x = layers.SimpleRNN(8, unroll=True)(x)
    return keras.Model(inputs, layers.Dense(10)(x), name="recurrent")


def attention() -> keras.Model:
    """Attention with several heads, and with groups of queries."""
    x = inputs = keras.Input((6, 16))
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 4)(x, x))
    x = layers.LayerNormalization()(x + layers.GroupQueryAttention(4, 4, 2)(x, x))
    x = x + layers.EinsumDense("abc,cd->abd", (None, 16), bias_axes="d")(x)
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)), name="attention")


def separable() -> keras.Model:
    """Separable, depthwise and transposed convolutions."""
    x = inputs = keras.Input((16, 16, 3))
    x = keras.ops.relu(layers.SeparableConv2D(8, 3, padding="same")(x))
    x = keras.ops.relu(layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(x))
    x = keras.ops.relu(layers.Conv2DTranspose(8, 2, 2)(x))
    x = keras.ops.relu(layers.Conv2D(8, 3, groups=2)(x))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalMaxPooling2D()(x)), name="separable")


def volumes() -> keras.Model:
    """Convolutions in three dimensions."""
    x = inputs = keras.Input((8, 8, 8, 2))
    x = keras.ops.relu(layers.BatchNormalization()(layers.Conv3D(8, 3)(x)))
    x = keras.ops.relu(layers.Conv3D(8, 3)(layers.MaxPooling3D()(x)))
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)), name="volumes")


def sequences() -> keras.Model:
    """Embeddings, and convolutions in one dimension."""
    inputs = keras.Input((8,), dtype="int32")
    x = layers.Embedding(50, 16)(inputs)
    x = layers.Conv1D(16, 3, activation="gelu")(x)
    x = layers.SeparableConv1D(16, 3, activation="silu")(x)
    x = layers.Dense(16, use_bias=False, kernel_regularizer="l2")(x)
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalMaxPooling1D()(x)), name="sequences")


class _Gain(layers.Layer):
    """A learned number for each place and channel, and one for all."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.gain = self.add_weight(shape=shape[1:], initializer="random_normal", name="gain")
        self.whole = self.add_weight(shape=(), initializer="ones", name="whole")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return x * self.gain * self.whole


def slopes() -> keras.Model:
    """PReLU, gains by place, and convolutions with frozen weights before them."""
    x = inputs = keras.Input((16, 16, 3))
    frozen = layers.Conv2D(8, 3)
    frozen.trainable = False
    x = layers.PReLU()(frozen(x))
    x = layers.PReLU(shared_axes=(1, 2))(layers.Conv2D(8, 3)(x))
    x = _Gain()(x)
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)), name="slopes")
