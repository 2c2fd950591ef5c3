"""The note on units that are copies of each other, against numpy's count in what is written."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from predict_models import Net, arrays, tiny_ghn

from onnx_ghn import predict
from onnx_ghn.ghn import load_ghn


def copies(notes: list[str]) -> list[str]:
    return [note for note in notes if "copies of each other" in note]


def perceptron(*widths: int, transposed: bool = False) -> onnx.ModelProto:
    net = Net()
    x = net.input("N", widths[0])
    for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        if transposed:
            x = net.op("Gemm", x, net.random(f"w{i}", n_out, n_in), out=f"h{i}", transB=1)
        else:
            x = net.op("MatMul", x, net.random(f"w{i}", n_in, n_out), out=f"h{i}")
        x = net.op("Relu", x, out=f"r{i}") if i < len(widths) - 2 else x
    return net.model(x, shape=["N", widths[-1]])


@pytest.mark.parametrize(("width", "transposed"), [(300, False), (300, True), (1024, True)])
def test_copies_are_counted_as_numpy_counts_them(width: int, transposed: bool, tmp_path: Path) -> None:
    proto = perceptron(64, width, width, 10, transposed=transposed)
    prediction = predict(proto, tmp_path / "o.onnx", ghn=load_ghn("ghn-cifar10"), policy="all")
    written = arrays(onnx.load(tmp_path / "o.onnx"))
    units = {name: values if transposed else values.T for name, values in written.items()}  # out × in
    counts = {name: (len(np.unique(rows, axis=0)), len(rows)) for name, rows in units.items()}
    copied = {name: (n, n_units) for name, (n, n_units) in counts.items() if n < n_units}
    assert set(copied) == {"w0", "w1"}
    worst = min(copied, key=lambda name: copied[name][0])  # both have as many units
    (note,) = copies(prediction.coverage.notes)
    assert note.startswith(
        f"2 predicted weights have units that are copies of each other, most in {worst}, where {copied[worst][0]} of "
        f"{width:,} differ."
    )


def test_convolutions_are_counted_and_depthwise_ones_are_not(tmp_path: Path) -> None:
    net = Net()
    x = net.input("N", 3, 8, 8)
    x = net.op("Conv", x, net.random("wide", 24, 3, 3, 3), out="a", pads=[1, 1, 1, 1])
    x = net.op("Conv", x, net.random("depthwise", 24, 1, 3, 3), out="b", pads=[1, 1, 1, 1], group=24)
    x = net.op("Conv", x, net.random("narrow", 8, 24, 1, 1), out="c")
    prediction = predict(net.model(x, shape=["N", 8, 8, 8]), tmp_path / "o.onnx", ghn=tiny_ghn())
    wide = arrays(onnx.load(tmp_path / "o.onnx"))["wide"].reshape(24, -1)
    (note,) = copies(prediction.coverage.notes)
    assert note.startswith("1 predicted weight has units that are copies of each other, most in wide, where ")
    assert f"where {len(np.unique(wide, axis=0))} of 24 differ." in note


@pytest.mark.parametrize(
    ("widths", "options"),
    [((64, 10), {}), ((64, 300, 10), {"post": "noise"}), ((64, 300, 10), {"post": "orthogonal"})],
)
def test_nothing_is_said_where_all_units_differ(widths: tuple[int, ...], options: dict[str, str]) -> None:
    prediction = predict(perceptron(*widths), ghn=load_ghn("ghn-cifar10"), policy="all", **options)  # type: ignore[arg-type]
    assert copies(prediction.coverage.notes) == []
    for name in prediction:
        values = np.asarray(prediction[name]).T  # out × in
        assert len(np.unique(values, axis=0)) == len(values)


def test_what_is_left_out_is_not_counted() -> None:
    prediction = predict(perceptron(64, 300, 300, 10), ghn=load_ghn("ghn-cifar10"), policy="all", exclude="w0")
    n_distinct = len(np.unique(np.asarray(prediction["w1"]).T, axis=0))
    (note,) = copies(prediction.coverage.notes)
    assert note.startswith("1 predicted weight has units that are copies of each other, most in w1, where ")
    assert f"where {n_distinct} of 300 differ." in note
