"""Layouts: the way to the canonical tensor and back, and canonical meaning proved by running models."""

from __future__ import annotations

import math

import numpy as np
import pytest
from graph_models import MS, Net, fill, parameters, run
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_ghn.graph import Layout, build_graph

TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


# -- Layout alone ------------------------------------------------------------------------------------------


def factorisations(n: int) -> list[tuple[int, ...]]:
    found = [(n,), (1, n), (n, 1)]
    found += [(d, n // d) for d in range(2, n) if n % d == 0]
    found += [(d, e, n // d // e) for d in range(2, n) if n % d == 0 for e in range(2, n) if (n // d) % e == 0]
    return found


@pytest.mark.parametrize("seed", range(5))
def test_chains_of_one_kind_are_one_step(seed: int) -> None:
    """Thousands of transposes in a row cost no more than one, and give what numpy gives."""
    rng = np.random.default_rng(seed)
    values = rng.random((2, 3, 4, 5))
    layout, expected = Layout(values.shape), values
    for _ in range(300):
        perm = tuple(int(axis) for axis in rng.permutation(4))
        layout, expected = layout.transpose(perm), expected.transpose(perm)
    assert len(layout.steps) <= 1
    for shape in ((6, 20), (20, 6), (120,), (5, 24)) * 50:
        layout, expected = layout.reshape(shape), expected.reshape(shape)
    assert len(layout.steps) <= 2
    np.testing.assert_array_equal(layout.to_canonical(values), expected)
    np.testing.assert_array_equal(layout.from_canonical(expected), values)
    assert layout.reshape((2, 60)).reshape(expected.shape) == layout
    there_and_back = Layout((2, 3)).transpose((1, 0)).transpose((1, 0))
    assert there_and_back == Layout((2, 3))


@st.composite
def layouts(draw: st.DrawFn, inflating: bool = False) -> Layout:
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=5)))
    layout = Layout(shape)
    for step in draw(st.lists(st.sampled_from(["reshape", "transpose", "inflate"]), max_size=6)):
        current = layout.canonical
        if step == "reshape":
            layout = layout.reshape(draw(st.sampled_from(factorisations(math.prod(current)))))
        elif step == "transpose":
            layout = layout.transpose(tuple(draw(st.permutations(range(len(current))))))
        elif inflating and len(current) > 1:
            layout = layout.inflate()
    return layout


@settings(max_examples=200, deadline=None)
@given(layouts())
def test_there_and_back_is_the_identity(layout: Layout) -> None:
    stored = np.arange(math.prod(layout.stored)).reshape(layout.stored)
    canonical = layout.to_canonical(stored)
    assert canonical.shape == layout.canonical
    assert layout.inflation == 1
    np.testing.assert_array_equal(layout.from_canonical(canonical), stored)


@settings(max_examples=200, deadline=None)
@given(layouts(inflating=True))
def test_back_and_there_is_the_identity_even_where_an_axis_is_inflated(layout: Layout) -> None:
    canonical = np.arange(math.prod(layout.canonical), dtype=np.float64).reshape(layout.canonical)
    stored = layout.from_canonical(canonical)
    assert stored.shape == layout.stored
    assert stored.size == canonical.size * layout.inflation
    np.testing.assert_allclose(layout.to_canonical(stored), canonical, rtol=1e-12)
    assert sorted(np.unique(stored)) == sorted(np.unique(canonical))


def test_steps_that_change_nothing_are_left_out_and_wrong_ones_refused() -> None:
    layout = Layout((2, 3))
    assert layout.reshape((2, 3)) is layout
    assert layout.transpose((0, 1)) is layout
    with pytest.raises(ValueError, match="cannot reshape"):
        layout.reshape((4, 2))
    with pytest.raises(ValueError, match="permute"):
        layout.transpose((0, 0))


# -- canonical meaning: out × in × kh × kw -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("dims", "group", "kernel"), [(1, 1, 3), (2, 1, 3), (2, 4, 3), (2, 2, 1), (3, 1, 2), (3, 2, 2)]
)
def test_convolution(dims: int, group: int, kernel: int) -> None:
    import torch

    net = Net()
    x = net.array(1, 4, *[5] * dims)
    weight = net.weight(8, 4 // group, *[kernel] * dims)
    y = net.op("Conv", net.input(*x.shape), weight, net.weight(8, name="b"), group=group)
    model, canonical = fill(net.model(y))
    w = canonical["w"]
    assert w.shape == (8, 4 // group, *{1: (kernel, 1), 2: (kernel, kernel), 3: (kernel, kernel)}[dims])
    w = {1: w[..., 0], 2: w, 3: np.repeat(w[:, :, None], kernel, axis=2)}[dims]
    convolve = getattr(torch.nn.functional, f"conv{dims}d")
    expected = convolve(torch.tensor(x), torch.tensor(w), torch.tensor(canonical["b"]), groups=group)
    np.testing.assert_allclose(run(model, x=x)[0], expected.numpy(), **TOLERANCE)


@pytest.mark.parametrize(("dims", "group"), [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)])
def test_transposed_convolution(dims: int, group: int) -> None:
    import torch

    net = Net()
    x = net.array(1, 4, *[3] * dims)
    y = net.op("ConvTranspose", net.input(*x.shape), net.weight(4, 6 // group, *[2] * dims), group=group)
    model, canonical = fill(net.model(y))
    w = canonical["w"]
    assert w.shape[:2] == (6, 4 // group)
    w = {1: w[..., 0], 2: w, 3: np.repeat(w[:, :, None], 2, axis=2)}[dims]
    # Each group on its own: out × in -> in × out, as torch stores it.
    parts = []
    transpose = getattr(torch.nn.functional, f"conv_transpose{dims}d")
    for g in range(group):
        part = w[g * 6 // group : (g + 1) * 6 // group]
        data = torch.tensor(x[:, g * 4 // group : (g + 1) * 4 // group])
        parts.append(transpose(data, torch.tensor(np.ascontiguousarray(part.swapaxes(0, 1)))).numpy())
    np.testing.assert_allclose(run(model, x=x)[0], np.concatenate(parts, axis=1), **TOLERANCE)


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_with_the_weight_on_the_right(transposed: int) -> None:
    net = Net()
    x = net.array(3, 5)
    weight = net.weight(*((7, 5) if transposed else (5, 7)))
    y = net.op("Gemm", net.input(3, 5), weight, net.weight(7, name="b"), transB=transposed)
    model, canonical = fill(net.model(y))
    assert canonical["w"].shape == (7, 5)
    np.testing.assert_allclose(run(model, x=x)[0], x @ canonical["w"].T + canonical["b"], **TOLERANCE)


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("data_transposed", [0, 1])
def test_gemm_with_the_weight_on_the_left(transposed: int, data_transposed: int) -> None:
    net = Net()
    x = net.array(5, 3)  # features × columns
    fed = x.T.copy() if data_transposed else x
    weight = net.weight(*((5, 7) if transposed else (7, 5)))
    y = net.op("Gemm", weight, net.input(*fed.shape), transA=transposed, transB=data_transposed)
    model, canonical = fill(net.model(y))
    np.testing.assert_allclose(run(model, x=fed)[0], canonical["w"] @ x, **TOLERANCE)


def test_matmul_with_the_weight_on_either_side() -> None:
    net = Net()
    x = net.array(2, 3, 5)
    right = net.op("MatMul", net.input(2, 3, 5), net.weight(5, 7, name="right"))
    left = net.op("MatMul", net.weight(4, 3, name="left"), right)
    model, canonical = fill(net.model(left))
    expected = canonical["left"] @ (x @ canonical["right"].T)
    np.testing.assert_allclose(run(model, x=x)[0], expected, **TOLERANCE)


def test_a_stack_of_matrices_is_one_weight_expert_by_expert() -> None:
    net = Net()
    x = net.array(4, 2, 5)
    y = net.op("MatMul", net.input(4, 2, 5), net.weight(4, 5, 3))
    model, canonical = fill(net.model(y))
    assert canonical["w"].shape == (12, 5)
    for expert in range(4):
        part = canonical["w"][3 * expert : 3 * expert + 3]
        np.testing.assert_allclose(run(model, x=x)[0][expert], x[expert] @ part.T, **TOLERANCE)


@pytest.mark.parametrize("transposed", [0, 1])
def test_fused_matmul(transposed: int) -> None:
    net = Net()
    x = net.array(3, 5)
    weight = net.weight(*((7, 5) if transposed else (5, 7)))
    y = net.op("FusedMatMul", net.input(3, 5), weight, domain=MS, transB=transposed, alpha=2.0)
    model, canonical = fill(net.model(y))
    np.testing.assert_allclose(run(model, x=x)[0], 2 * x @ canonical["w"].T, **TOLERANCE)


@pytest.mark.parametrize(
    ("equation", "shape", "n_out", "n_in"),
    [
        ("bsd,df->bsf", (6, 8), 8, 6),
        ("bsd,fd->bsf", (8, 6), 8, 6),
        ("bsd,dhk->bshk", (6, 2, 4), 8, 6),
        ("bsd,hdk->bhsk", (2, 6, 4), 8, 6),
        ("b s d, d f -> b s f", (6, 8), 8, 6),
        ("...d,df->...f", (6, 8), 8, 6),
        ("...sd,fd->...sf", (8, 6), 8, 6),
    ],
)
def test_einsum(equation: str, shape: tuple[int, ...], n_out: int, n_in: int) -> None:
    net = Net()
    x = net.array(2, 3, 6)
    y = net.op("Einsum", net.input(2, 3, 6), net.weight(*shape), equation=equation)
    model, canonical = fill(net.model(y))
    assert canonical["w"].shape == (n_out, n_in)
    found = run(model, x=x)[0]
    expected = x @ canonical["w"].T  # (2, 3, 6) x (8, 6) -> (2, 3, 8)
    if found.ndim == 4:
        expected = expected.reshape(2, 3, 2, 4)
        if equation.endswith("bhsk"):
            expected = expected.transpose(0, 2, 1, 3)
    np.testing.assert_allclose(found, expected, **TOLERANCE)


def test_einsum_with_two_contracted_axes() -> None:
    net = Net()
    x = net.array(2, 3, 2, 4)
    y = net.op("Einsum", net.input(2, 3, 2, 4), net.weight(2, 4, 5), equation="bshk,hkd->bsd")
    model, canonical = fill(net.model(y))
    assert canonical["w"].shape == (5, 8)
    np.testing.assert_allclose(run(model, x=x)[0], x.reshape(2, 3, 8) @ canonical["w"].T, **TOLERANCE)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_takes_rows_of_the_canonical_table(axis: int) -> None:
    net = Net()
    ids = np.array([[2, 0], [1, 2]])
    rows = net.input(2, 2, name="ids", kind=7)
    y = net.op("Gather", net.weight(*((9, 4) if axis == 0 else (4, 9))), rows, axis=axis)
    model, canonical = fill(net.model(y))
    assert canonical["w"].shape == (9, 4)
    found = run(model, ids=ids)[0]
    expected = canonical["w"][ids]  # (2, 2, 4)
    np.testing.assert_allclose(found, expected if axis == 0 else expected.transpose(2, 0, 1), **TOLERANCE)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm(x: np.ndarray, w: np.ndarray, r: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(T, B, I) -> (T, B, H); gates input, output, forget, cell (ONNX's order)."""
    n = r.shape[1]
    h = c = np.zeros((x.shape[1], n))
    outputs = []
    for step in x:
        gates = step @ w.T + h @ r.T + b[: 4 * n] + b[4 * n :]
        i, o, f = (sigmoid(gates[:, k * n : (k + 1) * n]) for k in range(3))
        c = f * c + i * np.tanh(gates[:, 3 * n :])
        h = o * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs)


def gru(x: np.ndarray, w: np.ndarray, r: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(T, B, I) -> (T, B, H); gates update, reset, hidden; the reset gate after the recurrent product."""
    n = r.shape[1]
    h = np.zeros((x.shape[1], n))
    outputs = []
    for step in x:
        fed, back = step @ w.T + b[: 3 * n], h @ r.T + b[3 * n :]
        z, reset = (sigmoid(fed[:, k * n : (k + 1) * n] + back[:, k * n : (k + 1) * n]) for k in range(2))
        h = (1 - z) * np.tanh(fed[:, 2 * n :] + reset * back[:, 2 * n :]) + z * h
        outputs.append(h)
    return np.stack(outputs)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("directions", [1, 2])
def test_recurrent_layers(kind: str, directions: int) -> None:
    gates = {"LSTM": 4, "GRU": 3}[kind]
    net = Net()
    x = net.array(6, 2, 5)
    weights = [
        net.weight(directions, gates * 3, 5, name="w"),
        net.weight(directions, gates * 3, 3, name="r"),
        net.weight(directions, 2 * gates * 3, name="b"),
    ]
    more = {"linear_before_reset": 1} if kind == "GRU" else {}
    direction = "forward" if directions == 1 else "bidirectional"
    y = net.op(kind, net.input(6, 2, 5), *weights, hidden_size=3, direction=direction, **more)
    model, canonical = fill(net.model(y))
    assert canonical["w"].shape == (directions * gates * 3, 5)
    assert canonical["r"].shape == (directions * gates * 3, 3)
    assert canonical["b"].shape == (directions * gates * 6,)
    found = run(model, x=x)[0]  # (T, D, B, H)
    layer = {"LSTM": lstm, "GRU": gru}[kind]
    for d in range(directions):
        w, r, b = (np.split(canonical[name], directions)[d] for name in "wrb")
        ordered = x[::-1] if d else x
        expected = layer(ordered, w, r, b)
        np.testing.assert_allclose(found[:, d], expected[::-1] if d else expected, **TOLERANCE)


def test_normalisation_and_position_table() -> None:
    net = Net()
    x = net.array(2, 3, 6)
    table = net.op("Add", net.input(2, 3, 6), net.weight(3, 6, name="table"))
    y = net.op("LayerNormalization", table, net.weight(6, name="scale"), net.weight(6, name="shift"), axis=-1)
    model, canonical = fill(net.model(y))
    assert canonical["table"].shape == (1, 3, 6)
    h = x + canonical["table"]
    h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(run(model, x=x)[0], h * canonical["scale"] + canonical["shift"], **TOLERANCE)


# -- weights behind views ----------------------------------------------------------------------------------

VIEWS = {
    "identity": ((5, 7), lambda net, w: net.op("Identity", w)),
    "transpose": ((7, 5), lambda net, w: net.op("Transpose", w, perm=[1, 0])),
    "transpose_default": ((7, 5), lambda net, w: net.op("Transpose", w)),
    "unsqueeze_squeeze": (
        (5, 7),
        lambda net, w: net.op("Squeeze", net.op("Unsqueeze", w, net.number([0], np.int64)), net.number([0], np.int64)),
    ),
    "squeeze": ((5, 1, 7), lambda net, w: net.op("Squeeze", w, net.number([1], np.int64))),
    "reshape": ((35,), lambda net, w: net.op("Reshape", w, net.number([5, -1], np.int64))),
    "reshape_zero": ((5, 7, 1), lambda net, w: net.op("Reshape", w, net.number([0, 7], np.int64))),
    "flatten": ((5, 7, 1), lambda net, w: net.op("Flatten", w, axis=1)),
    "chain": (
        (1, 7, 5),
        lambda net, w: net.op(
            "Transpose", net.op("Squeeze", net.op("Identity", w), net.number([0], np.int64)), perm=[1, 0]
        ),
    ),
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_weight_behind_a_view_keeps_its_meaning(view: str) -> None:
    shape, through = VIEWS[view]
    net = Net()
    x = net.array(3, 5)
    y = net.op("MatMul", net.input(3, 5), through(net, net.weight(*shape)))
    model, canonical = fill(net.model(y))
    assert canonical["w"].shape == (7, 5)
    np.testing.assert_allclose(run(model, x=x)[0], x @ canonical["w"].T, **TOLERANCE)


def test_a_half_precision_weight_behind_a_cast() -> None:
    net = Net()
    x = net.array(3, 5)
    half = net.weight(array=net.array(5, 7).astype(np.float16))
    model, canonical = fill(net.model(net.op("MatMul", net.input(3, 5), net.op("Cast", half, to=1))))
    assert parameters(build_graph(model))["w"].dtype == "float16"
    np.testing.assert_allclose(run(model, x=x)[0], x @ canonical["w"].T, rtol=1e-2, atol=1e-2)


@given(layouts(inflating=True))
def test_the_stored_axis_of_a_canonical_one_has_the_same_indices(layout: Layout) -> None:
    """Along each axis the stored array that holds its indices becomes the canonical one that holds its own."""
    for axis, size in enumerate(layout.canonical):
        found = layout.stored_axis(axis)
        if found is None or size == 1:
            continue
        assert layout.stored[found] == size
        shape = [size if i == found else 1 for i in range(len(layout.stored))]
        indices = np.broadcast_to(np.arange(size, dtype=np.float64).reshape(shape), layout.stored)
        expected = np.arange(size).reshape([size if i == axis else 1 for i in range(len(layout.canonical))])
        np.testing.assert_array_equal(layout.to_canonical(indices), np.broadcast_to(expected, layout.canonical))
