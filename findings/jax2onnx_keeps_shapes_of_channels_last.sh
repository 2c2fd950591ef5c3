#!/usr/bin/env bash
# jax2onnx 0.17.1: values between a batch norm and a convolution keep the shapes of channels last.
#
# A convolution of JAX with channels last becomes Transpose, Conv, Transpose, and so does a batch norm of Flax. The transposes
# between them are taken out, so that the values on the way have channels first; the value_info of the activation between still
# says B x H x W x C. onnxruntime trusts the operators and computes the right thing; `onnx.checker.check_model(…, full_check=True)` refuses the file, and whoever reads
# shapes from it (viewers, counts of operations, converters) reads wrong ones. Remedy: take the value_info out and infer it anew.
#
# Seen on 2026-11-28 with flax 0.12.8, jax 0.10.2 and onnx 1.23.2, Python 3.11, Linux x86_64:
#   told: [1, 16, 16, 4], inferred: [1, 4, 16, 16]
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
from flax import nnx


class Net(nnx.Module):
    """Convolution, batch norm, activation, convolution."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first, self.second = nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.Conv(4, 5, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.second(nnx.relu(self.norm(self.first(x))))


net = Net(nnx.Rngs(0))
x = np.random.default_rng(0).standard_normal((1, 16, 16, 3), dtype="float32")
jax2onnx.to_onnx(lambda x: net(x), [x], return_mode="file", output_path="net.onnx")
session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
(given,) = session.run(None, {session.get_inputs()[0].name: x})
np.testing.assert_allclose(given, net(x), rtol=1e-3, atol=1e-4)

model = onnx.load("net.onnx")
(relu,) = [node for node in model.graph.node if node.op_type in ("Relu", "Max")]


def shape(model: onnx.ModelProto) -> list[int]:
    (info,) = [info for info in model.graph.value_info if info.name == relu.output[0]]
    return [dim.dim_value for dim in info.type.tensor_type.shape.dim]


told = shape(model)
del model.graph.value_info[:]
inferred = shape(onnx.shape_inference.infer_shapes(model))
print(f"told: {told}, inferred: {inferred}")
assert inferred == [1, 4, 16, 16], inferred
assert told == [1, 16, 16, 4], "jax2onnx corrects the shapes now"
try:
    onnx.checker.check_model("net.onnx", full_check=True)
except Exception as error:
    assert "differ in dimension 1" in str(error), error
else:
    raise AssertionError("the checker accepts the file now")
PYTHON
)
