#!/usr/bin/env bash
# tf2onnx 1.17.0, and Keras 3.15.1 on TensorFlow: what a function captures becomes an input that the user has to give.
#
# TensorFlow lists captured tensors among a concrete function's inputs, also those that it has written into the graph as constants
# itself (of up to 128 elements). tf2onnx takes all of them for inputs of the model. A tf.Module that subtracts a tf.constant, and a
# Keras model that begins with an adapted Normalization (its mean and variance are such tensors), give valid files with additional
# inputs, for which onnxruntime asks: "Required inputs (...) are missing". Keras's own documentation feeds such files by zip, which
# does not notice. In the Normalization the variance is folded, but stays an input; the mean is read. Remedy: tf.Variable with
# trainable=False, or Normalization(mean=..., variance=...), whose values are numbers of the code.
#
# Seen on 2026-11-28 with tensorflow-cpu 2.21.0, onnx 1.23.2 and onnxruntime 1.32.0, Python 3.11, Linux x86_64:
#   module: 2 inputs, refused; keras: 3 inputs, refused
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet tensorflow-cpu==2.21.0 tf2onnx==1.17.0 keras==3.15.1 onnx==1.23.2 onnxruntime==1.32.0
(cd "$folder" && TF_CPP_MIN_LOG_LEVEL=3 KERAS_BACKEND=tensorflow venv/bin/python -W ignore - 2>"$folder/log" <<'PYTHON'
import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx

x = np.random.default_rng(0).standard_normal((2, 6), dtype="float32")


class Centred(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean = tf.constant(np.arange(6, dtype="float32"))
        self.matrix = tf.Variable(np.ones((6, 3), "float32"))

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return (x - self.mean) @ self.matrix


module = Centred()
tf2onnx.convert.from_function(tf.function(lambda x: module(x)), [tf.TensorSpec([None, 6])], output_path="module.onnx")
norm = keras.layers.Normalization()
norm.adapt(x * 3 + 1)
model = keras.Sequential([keras.Input((6,)), norm, keras.layers.Dense(3)])
model(x)
model.export("keras.onnx", format="onnx", verbose=False)

found = {}
for name in ("module", "keras"):
    onnx.checker.check_model(f"{name}.onnx", full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(f"{name}.onnx", options, providers=["CPUExecutionProvider"])
    inputs = [given.name for given in session.get_inputs()]
    try:
        session.run(None, {inputs[0]: x})
    except ValueError as error:
        told = "refused" if "Required inputs" in str(error) else str(error)
    else:
        told = "it runs now"
    found[name] = (len(inputs), told)
print("; ".join(f"{name}: {n} inputs, {told}" for name, (n, told) in found.items()))
assert found == {"module": (2, "refused"), "keras": (3, "refused")}, found
PYTHON
) || { tail -n 5 "$folder/log" >&2; exit 1; }
