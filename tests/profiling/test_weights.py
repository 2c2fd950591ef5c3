"""What counts as a weight, against tensors that were packed and quantised here."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn.profiling.measuring import measure_point
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import model_spec
from onnx_ghn.profiling.weights import n_weights


@pytest.mark.parametrize(
    "kind", ["FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "FLOAT8E4M3FN", "INT8", "UINT8", "INT4", "UINT2"]
)
def test_types_of_weights(kind: str) -> None:
    assert n_weights(TensorProto.DataType.Value(kind), (3, 5)) == 15


@pytest.mark.parametrize("kind", ["INT64", "INT32", "UINT16", "BOOL", "STRING"])
def test_shapes_axes_and_masks_are_none(kind: str) -> None:
    assert n_weights(TensorProto.DataType.Value(kind), (3, 5), [("Reshape", {}, 1)]) == 0


@pytest.mark.parametrize("reader", [("QLinearConv", 8), ("QGemm", 6), ("DequantizeLinear", 0)])
def test_biases_of_32_bits(reader: tuple[str, int]) -> None:
    assert n_weights(TensorProto.INT32, (7,), [(reader[0], {}, reader[1])]) == 7


def test_packed_weights() -> None:
    # 16 rows of 64 weights: two blocks of 32, each 16 bytes of two weights.
    assert n_weights(TensorProto.UINT8, (16, 2, 16), [("MatMulNBits", {"K": 64, "N": 16, "bits": 4}, 1)]) == 16 * 64
    # The last block of a row is padded.
    assert n_weights(TensorProto.UINT8, (16, 2, 16), [("MatMulNBits", {"K": 50, "N": 16, "bits": 4}, 1)]) == 16 * 50
    assert n_weights(TensorProto.UINT8, (4, 8, 16), [("QMoE", {"expert_weight_bits": 4}, 2)]) == 4 * 8 * 32
    assert n_weights(TensorProto.UINT8, (4, 8, 32), [("QMoE", {"expert_weight_bits": 8}, 5)]) == 4 * 8 * 32
    assert n_weights(TensorProto.UINT8, (100, 16), [("GatherBlockQuantized", {"bits": 4}, 0)]) == 100 * 32


def quantised(rng: np.random.Generator) -> onnx.ModelProto:
    """y = x W of 64 × 16 in eight bits, then the same in four bits by MatMulNBits."""
    tensors = {
        "w": rng.integers(-9, 9, (64, 64)).astype(np.int8),
        "s": np.float32(0.1),
        "z": np.int8(0),
        "packed": rng.integers(0, 255, (16, 2, 16)).astype(np.uint8),
        "scales": np.ones((32,), np.float32),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], "dequantize"),
        helper.make_node("MatMul", ["x", "d"], ["a"], "eight"),
        helper.make_node(
            "MatMulNBits",
            ["a", "packed", "scales"],
            ["y"],
            "four",
            domain="com.microsoft",
            K=64,
            N=16,
            bits=4,
            block_size=32,
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 16])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def test_headline_and_operators_agree(save) -> None:
    path = save(quantised(np.random.default_rng(0)))
    spec = model_spec(path)
    expected = 64 * 64 + 2 + 16 * 64 + 32
    assert spec.parameters == expected
    settings = Settings(warmup=0, iterations=2)
    found = measure_point(path, spec.inputs, Point(optimization="none"), settings).operators
    assert found.parameters == expected
    assert found.parameter_bytes == 64 * 64 + 4 + 1 + 16 * 32 + 4 * 32
    assert found.macs == 2 * 64 * 64 + 2 * 64 * 16
    assert found.unknown == 0
