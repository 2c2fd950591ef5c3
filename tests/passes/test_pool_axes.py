"""Max poolings over all axes of an image, as JAX has them: what onnxruntime runs, against windows cut by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper

from onnx_ghn.passes.pool_axes import PoolWhatIsPooled

Axes = tuple[int, ...]


def pooling(
    shape: Axes, kernel: Axes, strides: Axes, pads: Axes, *, apart: bool = True, **more: Any
) -> onnx.ModelProto:
    """max(x) as jax2onnx writes it: two axes before, pooled over all, two axes off."""
    numbers = [
        helper.make_tensor(n, TensorProto.INT64, [len(v)], v) for n, v in (("a", [0]), ("b", [1]), ("ab", [0, 1]))
    ]
    front = [
        helper.make_node("Unsqueeze", ["x", "a"], ["u"]),
        helper.make_node("Unsqueeze", ["u", "b"], ["v"]),
    ]
    nodes = [
        *(front if apart else [helper.make_node("Unsqueeze", ["x", "ab"], ["v"])]),
        helper.make_node("MaxPool", ["v"], ["p"], kernel_shape=kernel, strides=strides, pads=pads, **more),
        helper.make_node("Squeeze", ["p", "ab"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "pools",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape[1:]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"d{axis}" for axis in range(len(shape))])],
        numbers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def by_hand(x: np.ndarray, kernel: Axes, strides: Axes, pads: Axes) -> np.ndarray:
    n = x.ndim
    padded = np.pad(x, list(zip(pads[:n], pads[n:], strict=True)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel)
    taken = windows[tuple(slice(None, None, stride) for stride in strides)]
    return taken.max(axis=tuple(range(n, 2 * n)))


CASES = {
    "channels last": ((2, 8, 8, 3), (1, 2, 2, 1), (1, 2, 2, 1), (0,) * 8),
    "channels first": ((2, 3, 8, 8), (1, 1, 3, 3), (1, 1, 2, 2), (0, 0, 1, 1, 0, 0, 1, 1)),
    "channels last, padded at the end": ((2, 7, 8, 3), (1, 3, 3, 1), (1, 2, 2, 1), (0, 0, 0, 0, 0, 1, 1, 0)),
    "volumes": ((1, 4, 6, 4, 2), (1, 2, 2, 2, 1), (1, 2, 2, 2, 1), (0,) * 10),
    "sequences": ((2, 9, 3), (1, 3, 1), (1, 3, 1), (0,) * 6),
}


@pytest.mark.parametrize("apart", [True, False], ids=["two operators before", "one"])
@pytest.mark.parametrize("case", CASES)
def test_the_axes_that_are_pooled_are_left(case: str, apart: bool) -> None:
    shape, kernel, strides, pads = CASES[case]
    model = ir.from_proto(pooling(shape, kernel, strides, pads, apart=apart))
    assert PoolWhatIsPooled()(model).modified
    proto = ir.to_proto(model)
    assert [node.op_type for node in proto.graph.node] == ["Transpose", "MaxPool", "Transpose"]
    assert [output.name for output in proto.graph.output] == ["y"]
    onnx.checker.check_model(proto)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    (y,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})
    np.testing.assert_array_equal(y, by_hand(x, kernel, strides, pads))


@pytest.mark.parametrize(
    ("kernel", "more"),
    [((2, 2, 2, 2), {}), ((1, 2, 2, 2), {}), ((1, 2, 2, 1), {"auto_pad": "SAME_UPPER"})],
    ids=["every axis", "three axes", "padded by the operator"],
)
def test_other_poolings_stay(kernel: Axes, more: dict[str, Any]) -> None:
    model = ir.from_proto(pooling((2, 4, 4, 2), kernel, (1, 1, 1, 1), (0,) * 8, **more))
    assert not PoolWhatIsPooled()(model).modified
    assert [node.op_type for node in model.graph] == ["Unsqueeze", "Unsqueeze", "MaxPool", "Squeeze"]


def test_a_value_that_others_read_stays() -> None:
    proto = pooling((2, 8, 8, 3), (1, 2, 2, 1), (1, 2, 2, 1), (0,) * 8)
    proto.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, None))
    model = ir.from_proto(proto)
    assert not PoolWhatIsPooled()(model).modified
