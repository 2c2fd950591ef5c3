"""A small residual network for 32 × 32 images in Keras: `onnx-ghn export keras:benchmarks/keras_net.py:build`."""

from __future__ import annotations

from typing import Any


def build() -> Any:
    """73,000 weights, ten classes, a Softmax at the end."""
    import keras
    from keras import layers

    image = keras.Input((32, 32, 3))
    x = image
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        x = layers.Conv2D(width, 3, stride, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        y = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.Add()([x, layers.BatchNormalization()(y)]))
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(10, activation="softmax")(x))
