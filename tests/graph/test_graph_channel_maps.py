"""Which linear weights read a flattened map, and of how many positions."""

from __future__ import annotations

import onnx
import pytest
from graph_models import Net, parameters

from onnx_ghn.graph import build_graph
from onnx_ghn.graph.parameter import Flattened


def told(model: onnx.ModelProto, name: str = "fc") -> Flattened | None:
    return parameters(build_graph(model))[name].flattened


def flat(net: Net, x: str, features: int) -> str:
    return net.op("Reshape", x, net.number([-1, features], "int64"))


def gemm(net: Net, x: str, features: int) -> onnx.ModelProto:
    return net.model(net.op("Gemm", x, net.weight(10, features, name="fc"), transB=1))


def network(wide: int = 6) -> tuple[Net, str]:
    """A convolution of 8 channels over images of 6 × `wide`."""
    net = Net()
    return net, net.conv(net.input("n", 3, 6, wide), 3, 8, "conv", kernel=3)


def test_flatten_of_a_convolution() -> None:
    net, x = network()
    assert told(gemm(net, net.op("Flatten", x), 288)) == Flattened(36)


def test_reshape_with_a_matmul_behind() -> None:
    net, x = network(5)
    assert told(net.model(net.linear(flat(net, x, 240), 240, 10, "fc"))) == Flattened(30)


def size(net: Net, x: str, form: str) -> str:
    """The batch size as a vector of one number, in the ways of exporters."""
    if form == "start and end":
        return net.op("Shape", x, start=0, end=1)
    shape = net.op("Shape", x)
    if form == "slice":
        return net.op("Cast", net.op("Slice", shape, *(net.number([n], "int64") for n in (0, 1, 0))), to=6)
    if form == "gather":
        return net.op("Unsqueeze", net.op("Gather", shape, net.number(0, "int64"), axis=0), net.number([0], "int64"))
    return net.op("Gather", shape, net.number([0], "int64"), axis=0)


@pytest.mark.parametrize("form", ["start and end", "slice", "gather", "gather one"])
@pytest.mark.parametrize("rest", [[-1], [288], [8, 36]])
def test_a_reshape_whose_shape_is_computed(form: str, rest: list[int]) -> None:
    net, x = network()
    dtype = "int32" if form == "slice" else "int64"
    shape = net.op("Concat", size(net, x, form), net.number(rest, dtype), axis=0)
    y = net.op("Reshape", x, net.op("Cast", shape, to=7))
    if len(rest) == 1:
        assert told(gemm(net, y, 288)) == Flattened(36)
    else:
        assert told(net.model(net.linear(y, 36, 10, "fc"))) is None


def test_a_reshape_to_nobody_knows_what() -> None:
    net, x = network()
    y = net.op("Reshape", x, net.input(2, name="shape", kind=onnx.TensorProto.INT64))
    shape = net.model("shape").graph.input[1].type.tensor_type.shape
    assert shape.dim[0].dim_value == 2
    assert told(gemm(net, y, 288)) == Flattened(36)
    net, x = network()
    y = net.op("Reshape", x, net.input("k", name="shape", kind=onnx.TensorProto.INT64))
    model = gemm(net, y, 288)
    assert told(model) is None
    model.graph.value_info.append(onnx.helper.make_tensor_value_info(y, onnx.TensorProto.FLOAT, ["n", 288]))
    assert told(model) == Flattened(36)


def test_what_lies_between_does_not_matter() -> None:
    net, x = network()
    x = net.op("MaxPool", net.op("Relu", x), kernel_shape=[2, 2], strides=[2, 2])
    x = net.op("Add", x, net.op("Mul", net.op("Sigmoid", x), x))
    x = net.op("Dropout", net.op("Tanh", net.op("Flatten", x)))
    assert told(gemm(net, x, 72)) == Flattened(9)


def test_channels_last() -> None:
    net, x = network()
    x = net.op("Relu", net.op("Transpose", x, perm=[0, 2, 3, 1]))
    assert told(gemm(net, flat(net, x, 288), 288)) == Flattened(36, channels_last=True)


def test_transposes_that_undo_each_other() -> None:
    net, x = network()
    x = net.op("Transpose", net.op("Transpose", x, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])
    assert told(gemm(net, flat(net, x, 288), 288)) == Flattened(36)


@pytest.mark.parametrize(("added", "removed"), [([0, 1], [0, 1]), ([0, 2], [2, 0]), ([3], [3])])
def test_axes_of_one_element_that_come_and_go(added: list[int], removed: list[int]) -> None:
    net, x = network()
    for channels_last in (False, True):
        y = net.op("Transpose", x, perm=[0, 2, 3, 1]) if channels_last else x
        y = net.op("Relu", net.op("Unsqueeze", y, net.number(added, "int64")))
        y = net.op("Squeeze", y, net.number(removed, "int64"))
        name = f"fc{channels_last}"
        model = net.model(net.op("Gemm", flat(net, y, 288), net.weight(10, 288, name=name), transB=1))
        assert told(model, name) == Flattened(36, channels_last)


@pytest.mark.parametrize("axis", [1, -3])
def test_concatenated_channels(axis: int) -> None:
    net, x = network()
    x = net.op("Concat", x, net.conv(x, 8, 4, "other"), axis=axis)
    model = gemm(net, net.op("Flatten", x), 432)
    if axis < 0:
        model.graph.value_info.append(onnx.helper.make_tensor_value_info(x, onnx.TensorProto.FLOAT, ["n", 12, 6, 6]))
    assert told(model) == Flattened(36)


def test_channels_concatenated_last() -> None:
    net, x = network()
    parts = [net.op("Transpose", y, perm=[0, 2, 3, 1]) for y in (x, net.conv(x, 8, 4, "other"))]
    x = net.op("Concat", *parts, axis=3)
    assert told(gemm(net, flat(net, x, 432), 432)) == Flattened(36, channels_last=True)


def test_sound() -> None:
    net = Net()
    x = net.op("Conv", net.input("n", 2, 40), net.weight(8, 2, 3, name="conv"), pads=[1, 1])
    assert told(gemm(net, net.op("Flatten", x), 320)) == Flattened(40)


def test_no_map_is_told_where_there_is_none() -> None:
    net = Net()  # pixels
    assert told(gemm(net, net.op("Flatten", net.input("n", 3, 6, 6)), 108)) is None
    net, x = network()  # pooled before
    assert told(gemm(net, net.op("Flatten", net.op("GlobalAveragePool", x)), 8)) is None
    net, x = network()  # a matrix for each row of the map
    assert told(net.model(net.linear(x, 6, 10, "fc"))) is None
    net, x = network()  # tokens of 8 features
    tokens = net.op("Reshape", net.op("Transpose", x, perm=[0, 2, 3, 1]), net.number([0, 36, 8], "int64"))
    assert told(net.model(net.linear(tokens, 8, 10, "fc"))) is None
    net, x = network()  # joined along a spatial axis
    x = net.op("Concat", x, x, axis=2)
    assert told(gemm(net, net.op("Flatten", x), 576)) is None
    net, x = network()  # height before channels
    x = net.op("Transpose", x, perm=[0, 2, 1, 3])
    assert told(gemm(net, net.op("Flatten", x), 288)) is None
    net, x = network()  # behind a layer that mixes the features
    x = net.linear(net.op("Flatten", x), 288, 16, "first")
    assert told(gemm(net, x, 16)) is None


def test_concatenations_in_concatenations_end() -> None:
    net, x = network()
    for _ in range(30):  # 2^30 paths
        x = net.op("Concat", x, x, axis=1)
    assert told(gemm(net, net.op("Flatten", x), 288)) is None
    net, x = network()
    for _ in range(3000):
        x = net.op("Concat", x, axis=1)
    assert told(gemm(net, net.op("Flatten", x), 288)) is None
    net, x = network()
    shape = net.op("Shape", x)
    for _ in range(30):
        shape = net.op("Concat", shape, shape, axis=0)
    assert told(gemm(net, net.op("Reshape", x, shape), 288)) is None
