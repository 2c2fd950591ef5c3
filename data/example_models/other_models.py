"""Keras, Flax and Paddle: one network each by the framework's own exporter."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from example_models import APART, SEED

if TYPE_CHECKING:
    import tensorflow as tf


def keep_batch_normalization() -> None:
    """Have Keras and tf2onnx export BatchNormalization as such, unfused.

    Keras computes it from elementary operators, whose constants TensorFlow then folds into the
    convolution before; tf2onnx folds the fused operator likewise. Neither has an option for it.
    """
    import tensorflow as tf
    from keras.src.backend.tensorflow import nn
    from tf2onnx.optimizer import back_to_back_optimizer

    def fused(
        x: tf.Tensor,
        mean: tf.Tensor,
        variance: tf.Tensor,
        axis: int,
        offset: tf.Tensor,
        scale: tf.Tensor,
        epsilon: float,
    ) -> tf.Tensor:
        if axis not in (-1, 3) or len(x.shape) != 4:
            raise NotImplementedError("only for images with the channels last")
        return tf.compat.v1.nn.fused_batch_norm(x, scale, offset, mean, variance, epsilon, is_training=False)[0]

    nn.batch_normalization = fused
    back_to_back_optimizer._func_map.pop(("Conv", "BatchNormalization"), None)


def mobilenet_keras(path: Path) -> None:
    """Export MobileNetV2 of keras.applications."""
    import keras
    import numpy as np

    keep_batch_normalization()
    model = keras.applications.MobileNetV2(weights=None, name="net")
    rng = np.random.default_rng(SEED)
    for weight in model.weights:  # tf2onnx merges equal tensors
        weight.assign_add(APART * rng.random(weight.shape, dtype="float32"))
    model(np.zeros((1, *model.input_shape[1:]), dtype="float32"))  # export wants it called once
    model.export(str(path), format="onnx", verbose=False)


def convnet_flax(path: Path) -> None:
    """Export a CIFAR network: a ResNet stage with BatchNorm, then a ConvNeXt stage."""
    import jax
    from flax import nnx
    from jax2onnx import to_onnx

    class Residual(nnx.Module):
        def __init__(self, width: int, rngs: nnx.Rngs) -> None:
            self.conv1 = nnx.Conv(width, width, (3, 3), use_bias=False, rngs=rngs)
            self.norm1 = nnx.BatchNorm(width, rngs=rngs)
            self.conv2 = nnx.Conv(width, width, (3, 3), use_bias=False, rngs=rngs)
            self.norm2 = nnx.BatchNorm(width, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            y = nnx.relu(self.norm1(self.conv1(x)))
            return nnx.relu(x + self.norm2(self.conv2(y)))

    class ConvNeXt(nnx.Module):
        def __init__(self, width: int, rngs: nnx.Rngs) -> None:
            self.conv = nnx.Conv(width, width, (7, 7), feature_group_count=width, rngs=rngs)
            self.norm = nnx.LayerNorm(width, rngs=rngs)
            self.fc1 = nnx.Linear(width, 4 * width, rngs=rngs)
            self.fc2 = nnx.Linear(4 * width, width, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return x + self.fc2(nnx.gelu(self.fc1(self.norm(self.conv(x)))))

    class ConvNet(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.stem = nnx.Conv(3, 32, (3, 3), use_bias=False, rngs=rngs)
            self.norm = nnx.BatchNorm(32, rngs=rngs)
            self.stage1 = nnx.List([Residual(32, rngs) for _ in range(3)])
            self.down = nnx.Conv(32, 64, (2, 2), strides=(2, 2), rngs=rngs)
            self.stage2 = nnx.List([ConvNeXt(64, rngs) for _ in range(3)])
            self.head_norm = nnx.LayerNorm(64, rngs=rngs)
            self.head = nnx.Linear(64, 10, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            x = nnx.relu(self.norm(self.stem(x)))
            for block in self.stage1:
                x = block(x)
            x = self.down(x)
            for block in self.stage2:
                x = block(x)
            return self.head(self.head_norm(x.mean(axis=(1, 2))))

    model = ConvNet(nnx.Rngs(SEED))
    model.eval()
    to_onnx(model, [("batch", 32, 32, 3)], return_mode="file", output_path=str(path))


def resnet18_paddle(path: Path) -> None:
    """Export ResNet-18 of paddle.vision.

    These are the two steps of paddle.onnx.export, which itself always has Polygraphy fold the
    constants (and has that install its own dependencies by pip).
    """
    import paddle
    import paddle2onnx

    model = paddle.vision.models.resnet18(pretrained=False)
    model.eval()
    spec = paddle.static.InputSpec([None, 3, 224, 224], "float32", "image")
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder, "model")
        paddle.jit.save(model, str(saved), [spec])
        paddle2onnx.export(
            str(saved.with_suffix(".json")),
            str(saved.with_suffix(".pdiparams")),
            str(path),
            opset_version=17,
            optimize_tool="None",
        )
