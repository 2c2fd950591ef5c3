"""Growth through fused operators: outputs stay, as onnxruntime computes them with its own kernels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn import build_graph, predict

_MS = "com.microsoft"
_LENGTH, _WORDS = 5, 7


class Builder:
    """A model from x, float of (2, 5, 6) or token numbers of (2, 5), to y, (2, 5, 3) or (2, 3).

    Args:
        width: of the residual stream.
        heads: how many.
    """

    def __init__(self, width: int, heads: int, tokens: bool = False, image: bool = False) -> None:
        self.width, self.heads = width, heads
        self.rng = np.random.default_rng(width + heads)
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        shape = [2, 6, 8, 8] if image else [2, _LENGTH] if tokens else [2, _LENGTH, 6]
        kind = TensorProto.INT32 if tokens else TensorProto.FLOAT
        self.input = helper.make_tensor_value_info("x", kind, shape)

    def stores(self, *shape: int, around: float = 0.0) -> str:
        name = f"w{len(self.stored)}"
        scale = 0.1 if around else (shape[0] if len(shape) == 2 else 4.0) ** -0.5
        values = around + scale * self.rng.standard_normal(shape)
        self.stored.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", n_outputs: int = 1, **attributes: Any) -> str:
        made = [f"v{len(self.nodes)}", *[f"v{len(self.nodes)}.{i}" for i in range(1, n_outputs)]]
        self.nodes.append(
            helper.make_node(kind, list(inputs), made, f"n{len(self.nodes)}", domain=domain, **attributes)
        )
        return made[0]

    def linear(self, x: str, n_in: int, n_out: int) -> str:
        return self.op("Add", self.op("MatMul", x, self.stores(n_in, n_out)), self.stores(n_out))

    def model(self, y: str) -> onnx.ModelProto:
        self.nodes.append(helper.make_node("Identity", [y], ["y"]))
        end = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "g", [self.input], [end], self.stored)
        opsets = [helper.make_opsetid("", 23), helper.make_opsetid(_MS, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _tables(b: Builder, width: int, *, batched: bool) -> list[str]:
    """Cosines and sines of each place: that of a wider head holds those of a narrower one, every other of them."""
    angles = np.outer(np.arange(_LENGTH), 100.0 ** -(np.arange(width // 2) / (width // 2)))  # (places, width / 2)
    names = []
    for name, values in (("cos", np.cos(angles)), ("sin", np.sin(angles))):
        given = np.broadcast_to(values, (2, *values.shape)) if batched else values
        b.stored.append(numpy_helper.from_array(np.ascontiguousarray(given, np.float32), name))
        names.append(name)
    return names


def onnx_attention(width: int, heads: int, flat: bool = True, shared: int = 1, turn: bool = False) -> onnx.ModelProto:
    """Attention of opset 23, on (B, S, heads × width) or on (B, heads, S, width)."""
    b = Builder(width, heads)
    x = b.linear("x", 6, width)
    each = width // heads
    q, k, v = (b.linear(x, width, n * each) for n in (heads, heads // shared, heads // shared))
    if turn:
        tables = _tables(b, each, batched=True)
        q, k = (b.op("RotaryEmbedding", value, *tables, num_heads=n) for value, n in ((q, heads), (k, heads // shared)))
    if flat:
        y = b.op("Attention", q, k, v, q_num_heads=heads, kv_num_heads=heads // shared)
    else:
        b.stored.append(numpy_helper.from_array(np.array([0, 0, heads, each]), "cut"))
        b.stored.append(numpy_helper.from_array(np.array([0, 0, width]), "join"))
        q, k, v = (b.op("Transpose", b.op("Reshape", value, "cut"), perm=[0, 2, 1, 3]) for value in (q, k, v))
        y = b.op("Reshape", b.op("Transpose", b.op("Attention", q, k, v), perm=[0, 2, 1, 3]), "join")
    return b.model(b.linear(b.op("Add", x, b.linear(y, width, width)), width, 3))


def packed_bert(width: int, heads: int) -> onnx.ModelProto:
    """A block of BERT as onnxruntime's optimizer writes it."""
    b = Builder(width, heads, tokens=True)
    segments = b.op("Sub", "x", "x")
    tables = [b.stores(n, width) for n in (_WORDS, _LENGTH, 2)]
    norm = b.stores(width, around=1.0), b.stores(width)
    x = b.op("EmbedLayerNormalization", "x", segments, *tables, *norm, domain=_MS, n_outputs=2)
    y = b.op("Attention", x, b.stores(width, 3 * width), b.stores(3 * width), domain=_MS, num_heads=heads)
    y = b.op("MatMul", y, b.stores(width, width))
    vectors = b.stores(width, around=1.0), b.stores(width), b.stores(width)
    x = b.op("SkipLayerNormalization", y, x, *vectors, domain=_MS)
    y = b.op("BiasGelu", b.op("MatMul", x, b.stores(width, 2 * width)), b.stores(2 * width), domain=_MS)
    y = b.op("FusedMatMul", y, b.stores(width, 2 * width), domain=_MS, transB=1, alpha=1.0)
    x = b.op("SkipLayerNormalization", y, x, b.stores(width, around=1.0), b.stores(width), domain=_MS)
    return b.model(b.linear(x, width, 3))


def pre_norm(width: int, heads: int, fused: bool = True) -> onnx.ModelProto:
    """A decoder of GPT's kind, whose norms begin its branches, as onnxruntime's optimizer writes it, and as it was."""
    b = Builder(width, heads, tokens=True)
    words, places = b.stores(_WORDS, width), b.stores(_LENGTH, width)
    x = b.op("Add", b.op("Gather", words, "x"), places)
    branch, bias = "", ""
    for _ in range(2):
        for hidden in (width, 2 * width):
            x, y = _normed(b, fused, x, branch, bias, b.stores(width, around=1.0), b.stores(width))
            y = b.op("Sigmoid", b.linear(y, width, hidden))
            branch, bias = b.op("MatMul", y, b.stores(hidden, width)), b.stores(width)
    x, y = _normed(b, fused, x, branch, bias, b.stores(width, around=1.0), b.stores(width))
    return b.model(b.linear(y, width, 3))


def _normed(b: Builder, fused: bool, x: str, branch: str, bias: str, scale: str, shift: str) -> tuple[str, str]:
    """The residual stream with a branch added, and its norm."""
    if branch and fused:
        y = b.op("SkipLayerNormalization", branch, x, scale, shift, bias, domain=_MS, n_outputs=4, epsilon=1e-5)
        return f"{y}.3", y
    if branch:
        x = b.op("Add", x, b.op("Add", branch, bias))
    return x, b.op("LayerNormalization", x, scale, shift, axis=-1)


def several_heads(width: int, heads: int) -> onnx.ModelProto:
    """MultiHeadAttention of com.microsoft, which adds the biases of queries, keys and values itself."""
    b = Builder(width, heads)
    x = b.linear("x", 6, width)
    q, k, v = (b.op("MatMul", x, b.stores(width, width)) for _ in range(3))
    y = b.op("MultiHeadAttention", q, k, v, b.stores(3 * width), domain=_MS, num_heads=heads)
    return b.model(b.linear(b.op("Add", x, b.linear(y, width, width)), width, 3))


def grouped_queries(width: int, heads: int) -> onnx.ModelProto:
    """GroupQueryAttention of com.microsoft with turned positions, and a norm that takes the sum with a skip."""
    b = Builder(width, heads)
    x = b.linear("x", 6, width)
    each = width // heads
    x = b.op("SkipSimplifiedLayerNormalization", x, b.linear("x", 6, width), b.stores(width, around=1.0), domain=_MS)
    q, k, v = (b.linear(x, width, n * each) for n in (heads, heads // 2, heads // 2))
    for name, value in (("last", np.full(2, _LENGTH - 1)), ("total", np.array(_LENGTH))):
        b.stored.append(numpy_helper.from_array(value.astype(np.int32), name))
    given = [q, k, v, "", "", "last", "total", *_tables(b, each, batched=False)]
    y = b.op(
        "GroupQueryAttention", *given, domain=_MS, n_outputs=3, num_heads=heads, kv_num_heads=heads // 2, do_rotary=1
    )
    return b.model(b.linear(b.op("Add", x, b.linear(y, width, width)), width, 3))


def convolutions(width: int, heads: int) -> onnx.ModelProto:
    """A residual block whose last convolution takes the sum and the activation along."""
    b = Builder(width, heads, image=True)
    pads: dict[str, Any] = {"pads": [1] * 4, "domain": _MS, "activation": "Relu"}
    x = b.op("FusedConv", "x", b.stores(width, 6, 3, 3), b.stores(width), **pads)
    y = b.op("FusedConv", x, b.stores(2 * width, width, 3, 3), b.stores(2 * width), **pads)
    x = b.op("FusedConv", y, b.stores(width, 2 * width, 3, 3), b.stores(width), x, **pads)
    x = b.op("Flatten", b.op("GlobalAveragePool", x))
    gemm: dict[str, Any] = {"alpha": 1.0, "beta": 1.0, "transB": 1, "activation": "LeakyRelu", "activation_alpha": 0.1}
    x = b.op("FusedGemm", x, b.stores(width, width), b.stores(width), domain=_MS, **gemm)
    return b.model(b.linear(x, width, 3))


CASES: dict[str, tuple[Callable[..., onnx.ModelProto], dict[str, Any]]] = {
    "Attention, three axes": (onnx_attention, {}),
    "Attention, four axes": (onnx_attention, {"flat": False}),
    "Attention, shared keys, RotaryEmbedding": (onnx_attention, {"shared": 2, "turn": True}),
    "Attention of com.microsoft, BERT": (packed_bert, {}),
    "SkipLayerNormalization, pre-norm": (pre_norm, {}),
    "MultiHeadAttention": (several_heads, {}),
    "GroupQueryAttention": (grouped_queries, {}),
    "FusedConv, FusedGemm": (convolutions, {}),
}


def outputs(path: Path) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    rng = np.random.default_rng(0)
    if given.type == "tensor(int32)":
        values = rng.integers(0, _WORDS, given.shape, dtype=np.int32)
    else:
        values = rng.standard_normal(given.shape, dtype=np.float32)
    found: np.ndarray = session.run(["y"], {"x": values})[0]
    return found


@pytest.mark.parametrize(("times", "heads"), [(2, 2), (2, 4), (1, 2)], ids=["wider heads", "more heads", "equal"])
@pytest.mark.parametrize("case", CASES)
def test_outputs_are_kept(case: str, times: int, heads: int, tmp_path: Path) -> None:
    build, options = CASES[case]
    width = 32 if build is grouped_queries else 8  # onnxruntime turns heads of whole sixteens of dimensions alone
    donor, written = tmp_path / "donor.onnx", tmp_path / "out.onnx"
    onnx.save(build(width, 2, **options), donor)
    found = predict(build(times * width, heads, **options), written, donors=[donor])
    wanted = outputs(donor)
    np.testing.assert_allclose(outputs(written), wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
    assert found.inheritance is not None
    assert found.inheritance.is_exact


@pytest.mark.parametrize("fused", [True, False])
def test_a_pre_norm_model_is_restored_whether_its_sums_and_norms_are_one_operator(fused: bool, tmp_path: Path) -> None:
    """Onto the form that the optimizer writes from the form before it, and back."""
    donor, target, written = (tmp_path / name for name in ("donor.onnx", "target.onnx", "out.onnx"))
    onnx.save(pre_norm(8, 2, fused=not fused), donor)
    other = pre_norm(8, 2, fused=fused)
    for tensor in other.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(np.zeros(tensor.dims, np.float32), tensor.name))
    onnx.save(other, target)
    found = predict(target, written, donors=[donor])
    assert {row["outcome"] for row in found.coverage.to_dict()["parameters"]} == {"inherited"}
    np.testing.assert_allclose(outputs(written), outputs(donor), rtol=0, atol=1e-5)


def test_places_are_told_from_words_in_one_operator() -> None:
    rows = {p.name: p.role for p in build_graph(packed_bert(8, 2)).parameters}
    assert [rows[name].value for name in ("w0", "w1", "w2")] == ["embedding", "position", "embedding"]
