"""Multiply-accumulates against loops, torch's own counter and published totals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from graph_models import Net
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_ghn.profiling import counts
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import model_spec


@given(
    n=st.integers(1, 2),
    group=st.sampled_from([1, 2]),
    c_in=st.sampled_from([2, 4]),
    c_out=st.sampled_from([2, 4]),
    size=st.integers(3, 6),
    kernel=st.integers(1, 3),
)
@settings(max_examples=25, deadline=None)
def test_convolution_against_a_loop(n: int, group: int, c_in: int, c_out: int, size: int, kernel: int) -> None:
    out = size - kernel + 1
    products = 0
    for _, o, _, _ in itertools.product(range(n), range(c_out), range(out), range(out)):
        for c in range(c_in):
            if c // (c_in // group) == o // (c_out // group):  # of the output's own group
                products += kernel * kernel
    weight = (c_out, c_in // group, kernel, kernel)
    shapes = [(n, c_in, size, size), weight], [(n, c_out, out, out)]
    assert counts.macs("Conv", {}, *shapes) == products
    # Transposed, with input and output exchanged, it has the same products.
    assert counts.macs("ConvTranspose", {}, [shapes[1][0], weight], [shapes[0][0]]) == products


@pytest.mark.parametrize(
    ("op_type", "attributes", "inputs", "output", "expected"),
    [
        ("MatMul", {}, [(2, 3, 5, 7), (7, 11)], (2, 3, 5, 11), 2 * 3 * 5 * 7 * 11),
        ("FusedMatMul", {"transA": 1}, [(2, 7, 5), (2, 7, 11)], (2, 5, 11), 2 * 5 * 7 * 11),
        ("Gemm", {"transB": 1}, [(5, 7), (11, 7), (11,)], (5, 11), 5 * 7 * 11),
        ("Gemm", {"transA": 1}, [(7, 5), (7, 11)], (5, 11), 5 * 7 * 11),
        ("QLinearMatMul", {}, [(5, 7), (), (), (7, 11), (), (), (), ()], (5, 11), 5 * 7 * 11),
        ("Einsum", {"equation": b"bij,bjk->bik"}, [(2, 3, 5), (2, 5, 7)], (2, 3, 7), 2 * 3 * 5 * 7),
        ("LSTM", {}, [(9, 2, 5), (1, 4 * 3, 5), (1, 4 * 3, 3)], (9, 1, 2, 3), 9 * 2 * 4 * 3 * (5 + 3)),
        ("GRU", {}, [(9, 2, 5), (2, 3 * 3, 5), (2, 3 * 3, 3)], (9, 2, 2, 3), 9 * 2 * 2 * 3 * 3 * (5 + 3)),
        ("MultiHeadAttention", {}, [(2, 5, 12), (2, 7, 12), (2, 7, 12)], (2, 5, 12), 2 * 2 * 5 * 7 * 12),
        ("Attention", {}, [(2, 5, 8), (8, 24), (24,)], (2, 5, 8), 2 * 5 * 8 * 24 + 2 * 2 * 5 * 5 * 8),
        ("DeformConv", {}, [(1, 4, 8, 8), (6, 2, 3, 3), (1, 18, 8, 8)], (1, 6, 8, 8), 6 * 8 * 8 * 2 * 9),
        # 6 rows, each to 2 experts, each 32 → 64 → 32; then with a gate, and with two weights in a byte.
        ("MoE", {"k": 2}, [(6, 32), (6, 4), (4, 64, 32), (4, 64), (4, 32, 64)], (6, 32), 6 * 2 * 2 * 32 * 64),
        ("MoE", {"k": 1}, [(6, 8), (6, 4), (4, 9, 8), None, (4, 8, 9), None, (4, 9, 8)], (6, 8), 6 * 3 * 8 * 9),
        ("QMoE", {"k": 2}, [(6, 32), (6, 4), (4, 64, 16), None, None, (4, 32, 32)], (6, 32), 6 * 2 * 2 * 32 * 64),
        (
            "QMoE",
            {"k": 1, "expert_weight_bits": 8},
            [(6, 8), (6, 4), (4, 9, 8), None, None, (4, 8, 9)],
            (6, 8),
            6 * 144,
        ),
        ("LinearClassifier", {"coefficients": [0.5] * 12}, [(5, 4)], (5,), 5 * 3 * 4),
        ("SVMRegressor", {"support_vectors": [1.0] * 28, "coefficients": [1.0] * 7}, [(5, 4)], (5, 1), 5 * 7 * (4 + 1)),
        ("AffineGrid", {}, [(2, 2, 3), (4,)], (2, 5, 7, 2), 2 * 5 * 7 * 2 * 3),
        ("AffineGrid", {}, [(2, 3, 4), (5,)], (2, 3, 5, 7, 3), 2 * 3 * 5 * 7 * 3 * 4),
        ("Relu", {}, [(5, 7)], (5, 7), 0),
        # Not known, so not zero: of nobody, of a custom library, and where the algorithm decides.
        ("Frobnicate", {}, [(5, 7)], (5, 7), None),
        ("LongformerAttention", {}, [(2, 5, 8)], (2, 5, 8), None),
        ("DFT", {}, [(2, 64, 1)], (2, 64, 2), None),
        ("Einsum", {}, [(2, 3), (3, 4)], (2, 4), None),
        ("MatMul", {}, [None, (7, 11)], (5, 11), None),
    ],
)
def test_known_counts(op_type, attributes, inputs, output, expected) -> None:
    assert counts.macs(op_type, attributes, inputs, [output]) == expected


def test_flops_and_bytes() -> None:
    assert counts.flops("Conv", 10, [(1,)], [(1,)]) == 20
    assert counts.flops("Relu", 0, [(5, 7)], [(5, 7)]) == 35
    assert counts.flops("ReduceMean", 0, [(5, 7)], [(5,)]) == 35
    assert counts.flops("Transpose", 0, [(5, 7)], [(7, 5)]) == 0
    assert counts.flops("MatMul", None, [None], [None]) is None
    assert counts.moved_bytes("Add", [((5, 7), 4), ((7,), 4)], [((5, 7), 4)]) == 4 * (35 + 7 + 35)
    assert counts.moved_bytes("Reshape", [((5, 7), 4), ((1,), 8)], [((35,), 4)]) == 0
    # A table is read where its rows are taken: 3 rows of 8.
    assert counts.moved_bytes("Gather", [((1000, 8), 4), ((3,), 8)], [((3, 8), 4)]) == 4 * 24 + 4 * 24 + 8 * 3
    assert counts.moved_bytes("Add", [(None, 4)], [((5,), 4)]) is None


def test_resnet50_has_what_torch_counts(examples) -> None:
    """4.09 G, as torchvision documents; and torch's flop counter on torchvision's own module gives each product."""
    import torch
    import torchvision
    from torch.utils.flop_counter import FlopCounterMode

    from onnx_ghn.profiling.measuring import estimate_point
    from onnx_ghn.profiling.report import Machine

    machine = Machine("CPUExecutionProvider", 1, 1e11, 1e10, 1e11, 1.0, 1 << 25)
    path = str(examples / "resnet50_torchscript.onnx")
    spec = model_spec(path)
    found = estimate_point(path, spec.inputs, Point(), Settings(), machine).operators
    assert found is not None
    with torch.device("meta"):
        net, image = torchvision.models.resnet50().eval(), torch.zeros(1, 3, 224, 224)
    with FlopCounterMode(display=False) as counter:
        net(image)
    assert found.macs * 2 == counter.get_total_flops()
    assert found.macs == pytest.approx(4.09e9, rel=1e-3)
    assert found.unknown == 0
    # Folded into the convolutions, the batch norms (53, with four tensors each) leave a bias each.
    n_channels = sum(m.num_features for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d))
    n_elements = sum(math.prod(p.shape) for p in net.parameters())
    assert found.parameters == n_elements - n_channels
    assert spec.parameters == n_elements + 2 * n_channels
    assert found.run_ms is found.operators_ms is found.coverage is None
    expected = sum(
        (max(o.flops / 1e11, o.bytes / 1e10) * 1e3 + 1e-3) for o in found.operators if o.bytes is not None
    )  # 100 MB of weights: no cache holds them
    assert found.estimate_ms == pytest.approx(expected)


def test_estimates_use_the_cache_where_the_model_fits(save) -> None:
    from onnx_ghn.profiling.measuring import estimate_point
    from onnx_ghn.profiling.report import Machine

    net = Net()
    path = save(net.model(net.linear(net.input(1, 64), 64, 64, "w")))
    times = []
    for cache in (0, 1 << 20):
        machine = Machine("CPUExecutionProvider", 1, 1e15, 1e9, 1e10, 0.0, cache)
        found = estimate_point(path, model_spec(path).inputs, Point(optimization="none"), Settings(), machine).operators
        assert found is not None
        times.append(found.estimate_ms)
    n_bytes = 4 * (64 + 64 * 64 + 64)
    np.testing.assert_allclose(times, [n_bytes / 1e9 * 1e3, n_bytes / 1e10 * 1e3])


def test_no_operator_of_onnx_is_zero_by_chance() -> None:
    """What multiplies and sums is not among the operators that are told as free."""
    from onnx_ghn.profiling.known_operators import sums_no_products

    summing = (
        "Conv ConvInteger ConvTranspose DeformConv QLinearConv MatMul MatMulInteger QLinearMatMul Gemm LSTM GRU RNN"
    )
    summing += (
        " Einsum Attention AffineGrid LinearAttention CausalConvWithState DFT STFT Det LinearClassifier SVMClassifier"
    )
    assert not [name for name in summing.split() if sums_no_products(name)]
    assert not sums_no_products("FlexAttention")
    assert all(sums_no_products(name) for name in ("Relu", "ReduceL2", "Loop", "ZipMap", "SkipLayerNormalization"))


def test_shapes_of_fused_operators_are_known(tmp_path) -> None:
    """Channels moved to the end, normalised, activated and moved back: onnx's own inference gives up on what
    onnxruntime makes of that, and does not know its operators."""
    import random

    from onnx_ghn.profiling.measuring import estimate_point
    from onnx_ghn.profiling.report import Machine
    from onnx_ghn.properties.machine.probe import ProbeBuilder
    from onnx_ghn.properties.machine.probe_images import IMAGE_BLOCKS

    for block in ("channels last", "inverted", "shuffled", "attended"):
        probe = ProbeBuilder(random.Random(0))
        IMAGE_BLOCKS[block][0](probe, probe.input(1, 32, 8, 8), "silu")
        path = tmp_path / "m.onnx"
        path.write_bytes(probe.model())
        machine = Machine("CPUExecutionProvider", 1, 1e9, 1e15, 1e15, 0.0, 0)
        found = estimate_point(str(path), model_spec(path).inputs, Point(), Settings(), machine).operators
        assert found is not None
        assert found.unknown == 0, block
        assert found.macs == probe.n_macs, block
