"""Tables that nobody trained are told by their values; what initialisers draw never is."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn.graph import Parameter, Role
from onnx_ghn.graph.layout import Layout
from onnx_ghn.inspection import inspect_model
from onnx_ghn.prediction.fixed_tables import fixed_table


def _tell(role: Role, values: np.ndarray) -> str:
    return fixed_table(Parameter("t", role, Layout(values.shape)), values.astype(np.float32))


def _mel(n_bands: int = 20, n_bins: int = 128) -> np.ndarray:
    """Triangles of growing width, as librosa and torchaudio make them."""
    centres = np.geomspace(2, n_bins - 1, n_bands + 2)
    bins = np.arange(n_bins)
    rising = (bins - centres[:-2, None]) / (centres[1:-1] - centres[:-2])[:, None]
    falling = (centres[2:, None] - bins) / (centres[2:] - centres[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling))


def _positions(n: int = 50, width: int = 32, *, interleaved: bool) -> np.ndarray:
    angles = np.arange(n)[:, None] / 10000 ** (np.arange(width // 2) / (width // 2))
    parts = [np.sin(angles), np.cos(angles)]
    return np.stack(parts, -1).reshape(n, width) if interleaved else np.concatenate(parts, 1)


def _fourier(n: int = 64, *, windowed: bool) -> np.ndarray:
    angles = 2 * np.pi * np.arange(n // 2)[:, None] * np.arange(n) / n
    window = np.hanning(n + 1)[:-1] if windowed else 1.0
    return np.concatenate([np.cos(angles) * window, -np.sin(angles) * window])


def _waves(n: int = 33, length: int = 64, *, sines: bool) -> np.ndarray:
    """One half of a Fourier transform under a window that has both its ends, so that no row mirrors itself."""
    angles = 2 * np.pi * np.arange(n)[:, None] * np.arange(length) / length
    return (np.sin(angles) if sines else np.cos(angles)) * np.hanning(length)


def _constant_q(n: int = 36, length: int = 256) -> np.ndarray:
    """Real parts of a constant-Q transform's kernels, whose waves and windows have lengths of their own.

    The wave of an odd length begins half a step before its window, so that its kernel does not read the same from both
    ends.
    """
    kernels = np.zeros((n, length))
    for kernel, size in zip(kernels, range(255, 255 - 3 * n, -3), strict=True):
        steps = np.arange(-(size // 2) - size % 2, size // 2)
        start = (length - size) // 2
        kernel[start : start + size] = np.hanning(size + 1)[:-1] * np.cos(2 * np.pi * steps * 9.3 / size)
    return kernels


def _low_pass(length: int = 64) -> np.ndarray:
    return np.sinc((np.arange(length) - (length - 1) / 2) / 2) * np.hamming(length) / 2


def _cosine_transform(n: int = 20, length: int = 40) -> np.ndarray:
    return np.cos(np.pi / length * np.arange(n)[:, None] * (np.arange(length) + 0.5))


def _signs(fewest: int) -> np.ndarray:
    """Binary or, with zeros among them, ternary weights."""
    return np.random.default_rng(0).choice([-1.0, 1.0] if fewest else [-1.0, 0.0, 1.0], (6, 144))


_SOBEL = np.array([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
_BLUR = np.tile(np.outer([1, 2, 1], [1, 2, 1]) / 16, (8, 1, 1, 1))
_YUV = np.array([[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]])


@pytest.mark.parametrize(
    ("role", "values", "kind"),
    [
        (Role.weight, _mel(), "more than half"),
        (Role.weight, np.eye(16), "more than half"),
        (Role.embedding, np.eye(10)[:, ::-1], "more than half"),
        (Role.position, np.tril(np.random.default_rng(0).random((16, 16)), -3), "more than half"),
        (Role.weight, _BLUR, "all its rows"),
        (Role.weight, np.tile([[[[1.0, 0, -1], [2, 0, -2], [1, 0, -1]]]], (4, 1, 1, 1)) / 7, "all its rows"),
        (Role.position, _positions(interleaved=True), "sines"),
        (Role.embedding, _positions(interleaved=False), "sines"),
        (Role.position, _positions(interleaved=False)[None], "sines"),
        (Role.weight, _fourier(windowed=False), "sines"),
        (Role.weight, _fourier(windowed=True)[:, None], "sines"),
        (Role.norm_scale, np.hanning(64), "a window"),
        (Role.norm_scale, np.hamming(33)[:-1], "a window"),
        (Role.norm_scale, np.kaiser(16, 8.6), "a window"),
        (Role.weight, _fourier(windowed=True)[:32, None], "filters"),
        (Role.weight, _fourier(windowed=True)[33:, None], "filters"),
        (Role.weight, _fourier(windowed=False)[:32, :, None], "filters"),  # frames were cut before
        (Role.weight, _constant_q()[:, None, None], "filters"),
        (Role.weight, _waves(sines=False)[:, None], "waves"),  # as DNSMOS has them
        (Role.weight, _waves(sines=True)[:, None], "waves"),
        (Role.weight, _waves(sines=True).T[:, :24], "waves"),  # a matrix that multiplies frames; the lowest of its bins
        (Role.weight, _low_pass()[None, None], "filters"),
        (Role.weight, np.array([[[0.05, 0.1, 0.2, 0.3, 0.2, 0.1, 0.05]]]), "filters"),
        (Role.weight, np.stack([_SOBEL, _SOBEL.T])[:, None], "filters"),
        (Role.weight, _cosine_transform(), "filters"),
        (Role.weight, _cosine_transform().T, "filters"),
        (Role.weight, np.arange(16.0).reshape(1, 16, 1, 1), "numbers in order"),  # the bins of a box's side
        (Role.weight, np.arange(8.0).reshape(1, 8, 1, 1), "numbers in order"),  # NanoDet has eight
        (Role.norm_scale, np.sqrt(np.geomspace(9000, 50, 309).round())[:, None, None], "numbers in order"),
        (Role.embedding, np.cumprod(1 - np.linspace(1e-4, 0.02, 100)), "numbers in order"),  # a noise schedule
        (Role.norm_scale, np.arange(6) % 2, "zeros and ones"),  # half of the inputs of a coupling layer
        (Role.norm_scale, (np.arange(6) < 3)[None, :, None, None], "zeros and ones"),
        (Role.weight, np.vander(np.arange(20) / 20, 3).T, "its rows are numbers in order"),  # the trend of N-BEATS
        (Role.weight, np.vander(np.arange(8) / 8, 3), "its rows are numbers in order"),
        (Role.weight, _signs(1), "each of its rows is one number"),
        (Role.weight, _signs(0), "each of its rows is one number"),  # a third of it is zero
        (Role.weight, _signs(1).reshape(6, 16, 3, 3) * np.linspace(0.1, 1, 6)[:, None, None, None], "each of its rows"),
        (Role.weight, np.array([[1, 1], [1, -1]])[:, [0, 1] * 4] * 0.5, "each of its rows"),  # a Walsh transform
        (Role.weight, _YUV, "a colour matrix"),
        (Role.weight, _YUV[:1], "a colour matrix"),
        (Role.weight, np.array([[0.2126, 0.7152, 0.0722]])[..., None, None], "a colour matrix"),
    ],
)
def test_what_was_computed_is_told(role: Role, values: np.ndarray, kind: str) -> None:
    assert _tell(role, values).startswith(kind)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize(
    ("role", "values", "kind"),
    [
        (Role.position, _positions(interleaved=True), "sines"),
        (Role.position, _positions(interleaved=False), "sines"),
        (Role.weight, _fourier(windowed=False), "sines"),
        (Role.weight, _fourier(windowed=True)[:, None], "sines"),
        (Role.weight, _waves(sines=False)[:, None], "waves"),
        (Role.weight, _waves(sines=True)[:, None], "waves"),
        (Role.norm_scale, np.hanning(64), "a window"),
        (Role.weight, _cosine_transform(), "filters"),
        (Role.weight, _mel(), "more than half"),
    ],
)
def test_what_was_computed_is_told_of_rounded_numbers(
    role: Role, values: np.ndarray, kind: str, dtype: type[np.generic]
) -> None:
    assert fixed_table(Parameter("t", role, Layout(values.shape)), values.astype(dtype)).startswith(kind)


@pytest.mark.parametrize("seed", range(20))
def test_what_initialisers_draw_is_no_table(seed: int) -> None:
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((32, 32)))
    drawn = [
        (Role.weight, q),
        (Role.weight, rng.standard_normal((32, 3, 3, 3)) * 0.1),
        (Role.weight, rng.uniform(-1, 1, (3, 3))),
        (Role.weight, np.sort(rng.uniform(-1, 1, (2, 4)))),
        (Role.weight, np.sort(rng.uniform(-1, 1, (1, 11)))),
        (Role.norm_scale, np.where(np.arange(7) < 3, 1.0, 1e-6)),
        (Role.weight, rng.uniform(-1, 1, (1, 3))),
        (Role.weight, np.maximum(rng.standard_normal((64, 64)), -0.2)),
        (Role.weight, rng.uniform(-1, 1, (8, 1, 3, 3))),
        (Role.embedding, rng.standard_normal((100, 16)) * (np.arange(100) > 0)[:, None]),  # a row for padding
        (Role.position, rng.standard_normal((1, 64, 32)) * 0.02),
        (Role.norm_scale, rng.uniform(0.5, 1.5, 64)),
        (Role.norm_scale, np.ones(64)),
        (Role.norm_scale, np.where(np.arange(64) < 40, 1.0, 0.5)),
        (Role.bias, rng.standard_normal(12)),
        (Role.weight, rng.standard_normal((64, 1, 5))),
        (Role.weight, rng.standard_normal((2, 1, 3))),
        (Role.weight, np.rint(rng.standard_normal((64, 8)))),  # a grid of more than three values
        (Role.weight, np.outer(rng.standard_normal(16), rng.standard_normal(24))),  # of rank one
        (Role.weight, np.tile(rng.standard_normal((1, 24)), (16, 1)) * rng.uniform(0.9, 1.1, (16, 1))),
        (Role.weight, np.repeat(rng.standard_normal((8, 4, 1, 1)), 9, 2).reshape(8, 4, 3, 3)),  # means over maps
    ]
    for role, values in drawn:
        assert _tell(role, values) == "", (role, values.shape)
        for dtype in (np.float16, ml_dtypes.bfloat16):
            rounded = values.astype(dtype)
            assert fixed_table(Parameter("t", role, Layout(values.shape)), rounded) == "", (role, values.shape, dtype)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [47, 48])
def test_what_is_symmetric_by_rounding_is_no_table(n: int, seed: int) -> None:
    """FastViT's token mixers with their skips merged into them: a kernel of 1 in the middle, times a layer scale."""
    rng = np.random.default_rng(seed)
    kernels = rng.standard_normal((n, 1, 3, 3)) * 3e-6
    kernels[:, :, 1, 1] += 1
    assert _tell(Role.weight, kernels) == ""
    assert _tell(Role.weight, 1 + rng.standard_normal((n, 8)) * 3e-6) == ""
    assert _tell(Role.norm_scale, 1 + rng.standard_normal(n) * 3e-6) == ""  # after a few steps


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_damaged_numbers_are_no_table(value: float) -> None:
    values = _positions(interleaved=True)
    values[3, 3] = value
    assert _tell(Role.position, values) == ""


def test_a_filter_bank_before_a_net_keeps_its_values() -> None:
    rng = np.random.default_rng(0)
    tensors = {"bank": _mel().T, "w": rng.standard_normal((20, 5)), "b": rng.standard_normal(5)}
    nodes = [
        helper.make_node("MatMul", ["x", "bank"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["c"]),
        helper.make_node("Add", ["c", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sound",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 128])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    onnx.checker.check_model(model, full_check=True)
    outcomes = {entry.parameter.name: entry.outcome for entry in inspect_model(model, policy="all").coverage.entries}
    assert outcomes == {"bank": "kept", "w": "predicted", "b": "predicted"}
    asked = inspect_model(model, overwrite_special=True, policy="all").coverage
    assert {entry.outcome for entry in asked.entries} == {"predicted"}
