"""Weights that are divided by their largest singular value, and weights that are multiplied by a mask."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graph_models import Net, decoded, roles
from onnx import numpy_helper

import onnx_ghn
from onnx_ghn.graph import build_graph
from onnx_ghn.onnx_io import stored_tensors


def values(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def normalised(net: Net, weight: str, matrix: str, rows: int, columns: int, *, left_first: bool) -> str:
    """The weight divided by u · W v."""
    u, v = net.weight(rows, name="u"), net.weight(columns, name="v")
    if left_first:
        return str(net.op("Div", weight, net.op("MatMul", net.op("MatMul", u, matrix), net.op("Identity", v))))
    return str(net.op("Div", weight, net.op("MatMul", u, net.op("MatMul", matrix, v))))


def spectral(kind: str, *, left_first: bool) -> onnx.ModelProto:
    """A model of one layer whose weight is W / (u · W v)."""
    net = Net()
    if kind == "linear":
        weight = net.weight(6, 4)
        scaled = normalised(net, weight, weight, 6, 4, left_first=left_first)
        return net.model(net.op("Gemm", net.input(2, 4), scaled, transB=1))
    if kind == "turned":
        weight = net.weight(6, 4)
        scaled = normalised(net, weight, weight, 6, 4, left_first=left_first)
        return net.model(net.op("MatMul", net.input(2, 4), net.op("Transpose", scaled, perm=[1, 0])))
    if kind == "conv":
        weight = net.weight(6, 4, 3, 3)
        matrix = net.op("Reshape", weight, net.number([6, -1], np.int64))
        return net.model(
            net.op("Conv", net.input(1, 4, 8, 8), normalised(net, weight, matrix, 6, 36, left_first=left_first))
        )
    weight = net.weight(4, 6, 3, 3)
    matrix = net.op("Transpose", weight, perm=[1, 0, 2, 3])
    matrix = net.op("Reshape", matrix, net.number([6, 36], np.int64))
    return net.model(
        net.op("ConvTranspose", net.input(1, 4, 8, 8), normalised(net, weight, matrix, 6, 36, left_first=left_first))
    )


def as_matrix(kind: str, weight: np.ndarray) -> np.ndarray:
    """The matrix of which frameworks take the largest singular value: rows are outputs."""
    if kind == "transposed":
        weight = weight.transpose(1, 0, 2, 3)
    return weight.reshape(len(weight), -1).astype(np.float64)


@pytest.mark.parametrize("left_first", [False, True])
@pytest.mark.parametrize("kind", ["linear", "turned", "conv", "transposed"])
def test_singular_vectors_go_with_the_weight(kind: str, left_first: bool) -> None:
    """They are statistics, not weights, and after a prediction they give the largest singular value of the new one."""
    model = spectral(kind, left_first=left_first)
    assert roles(model) == {"w": "weight", "u": "statistic", "v": "statistic"}
    singular = {p.name: p.singular for p in build_graph(model).parameters if p.singular is not None}
    assert {name: (found.weight, found.axis) for name, found in singular.items()} == {"u": ("w", 0), "v": ("w", 1)}
    prediction = onnx_ghn.predict(model, policy="all")
    stored = {name: tensor.numpy() for name, tensor in stored_tensors(prediction.model).items()}
    matrix = as_matrix(kind, stored["w"])
    assert stored["u"] @ matrix @ stored["v"] == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-4)
    assert prediction.coverage.count("predicted") == 1
    assert prediction.coverage.n_running_statistics == 0


@pytest.mark.parametrize("policy", ["auto", "all"])
def test_vectors_of_a_weight_that_stays_stay(policy: str) -> None:
    model = spectral("linear", left_first=False)
    before = values(model)
    prediction = onnx_ghn.predict(model, policy=policy, exclude=["w"])
    for name, tensor in stored_tensors(prediction.model).items():
        np.testing.assert_array_equal(tensor.numpy(), before[name])


def test_a_learned_factor_is_no_singular_vector() -> None:
    """A weight that is divided by a product of others, or by a number, is not normalised by its own."""
    net = Net()
    weight, other = net.weight(6, 4), net.weight(6, 4, name="other")
    number = net.op("MatMul", net.weight(6, name="a"), net.op("MatMul", other, net.weight(4, name="b")))
    model = net.model(net.op("Gemm", net.input(2, 4), net.op("Div", weight, number), transB=1))
    assert not [p.name for p in build_graph(model).parameters if p.singular is not None]


def masked(mask: np.ndarray, *, first: bool = True, how: str = "Mul") -> onnx.ModelProto:
    """A convolution whose weight is multiplied by a mask, as torch.nn.utils.prune writes it."""
    net = Net()
    weight, given = net.weight(6, 4, 3, 3), net.weight(name="mask", array=mask)
    if how == "Where":
        product = net.op("Where", given, weight, net.number(0.0))
    else:
        given = net.op("Cast", given, to=onnx.TensorProto.FLOAT)
        product = net.op("Mul", *((given, weight) if first else (weight, given)))
    return net.model(net.op("Conv", net.input(1, 4, 8, 8), product))


RNG = np.random.default_rng(0)
ELEMENTS = RNG.integers(0, 2, (6, 4, 3, 3))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(ELEMENTS.astype(np.float32), id="elements"),
        pytest.param(ELEMENTS.astype(bool), id="truth values"),
        pytest.param(np.array([1, 0, 1, 1, 0, 1], np.float32).reshape(6, 1, 1, 1), id="channels"),
        pytest.param(np.ones((6, 4, 3, 3), np.float32), id="nothing pruned yet"),
    ],
)
def test_masks_are_constants_of_the_weights_that_they_prune(mask: np.ndarray, first: bool) -> None:
    model = masked(mask, first=first)
    assert roles(model) == {"w": "weight"}
    assert decoded(build_graph(model)) == {"w"}
    before = values(model)["w"]
    after = stored_tensors(onnx_ghn.predict(model, policy="all").model)
    np.testing.assert_array_equal(after["mask"].numpy(), mask)
    assert not np.array_equal(after["w"].numpy(), before)


def test_a_condition_is_no_weight() -> None:
    assert roles(masked(ELEMENTS.astype(bool), how="Where")) == {"w": "weight"}


def test_gains_of_ones_are_no_masks() -> None:
    """One gain for each channel is learned, and begins with ones."""
    net = Net()
    gain = net.weight(name="gain", array=np.ones((6, 1, 1, 1), np.float32))
    model = net.model(net.op("Conv", net.input(1, 4, 8, 8), net.op("Mul", net.weight(6, 4, 3, 3), gain)))
    assert roles(model) == {"w": "weight", "gain": "norm_scale"}
