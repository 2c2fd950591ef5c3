"""One plan: what `inspect` foretells is what `predict` does (for whole files: tests/test_examples.py)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from predict_models import Net, tiny_ghn

from onnx_ghn import predict
from onnx_ghn.errors import OptionError
from onnx_ghn.graph.builder import graph_of
from onnx_ghn.inspection import inspect_model
from onnx_ghn.passes import open_model
from onnx_ghn.prediction.options import PredictKeywords, PredictOptions
from onnx_ghn.prediction.plan import Decision, plan

EXAMPLE = Path(__file__).parents[2] / "data/examples/resnet18_cifar10.onnx"


def _told(decisions: list[Decision]) -> list[tuple[str, str, str]]:
    return [(decision.parameter.name, decision.outcome, decision.reason) for decision in decisions]


def _quantised(scale_readers: int, zero: int, block: bool) -> onnx.ModelProto:
    """Gemm by int8 weights 20 × 12, whose scale is read so many times."""
    net = Net(21)
    net.input("N", 12)
    scale = net.tensor("w_scale", np.full((20, 2) if block else (), 0.01), np.float32)
    zeros = net.tensor("w_zero", np.full((20, 2) if block else (), zero), np.int8)
    total = "x"
    for number in range(scale_readers):
        integers = net.tensor(f"w{number}", net.rng.integers(-127, 127, (20, 12)), np.int8)
        more = {"block_size": 6} if block else {}
        w = net.op("DequantizeLinear", integers, scale, zeros, out=f"w{number}_float", axis=1, **more)
        out = net.op("Gemm", "x", w, net.random(f"b{number}", 20), out=f"y{number}", transB=1)
        total = out if number == 0 else net.op("Add", total, out, out=f"sum{number}")
    return net.model(total)


@pytest.mark.parametrize(
    ("model", "outcome", "reason"),
    [
        (_quantised(1, 0, False), "predicted", ""),
        (_quantised(2, 0, False), "kept", "quantised, and its scale is shared with another tensor"),
        (_quantised(1, 0, True), "kept", "quantised in blocks"),
        (_quantised(1, -128, False), "kept", "quantised with a zero point that leaves no room for both signs"),
    ],
    ids=["filled", "shared scale", "blocks", "zero point"],
)
def test_quantised_tensors_are_foretold(model: onnx.ModelProto, outcome: str, reason: str) -> None:
    foretold = {e.parameter.name: (e.outcome, e.reason) for e in inspect_model(model, policy="all").coverage.entries}
    happened = predict(model, ghn=tiny_ghn()).coverage.entries
    assert foretold == {e.parameter.name: (e.outcome, e.reason) for e in happened}
    assert foretold["w0"] == (outcome, reason)


def test_inspect_takes_the_options_of_predict() -> None:
    path = EXAMPLE
    options = PredictOptions(exclude=["weight"], fallback="keep", calibrate="none")
    foretold = _told(list(inspect_model(path, options=options, policy="all").coverage.entries))
    assert foretold == _told(list(predict(path, ghn=tiny_ghn(), options=options).coverage.entries))
    assert foretold != _told(list(inspect_model(path, policy="all").coverage.entries))


def test_a_plan_is_a_value() -> None:
    """It is the same each time, and neither computes nor changes anything."""
    opened = open_model(EXAMPLE)
    graph = graph_of(opened.model, opened.stored, "onnx")
    first, second = (plan(graph, opened.stored, PredictOptions()) for _ in range(2))
    assert _told(first) == _told(second)
    assert [decision.parameter for decision in first] == list(graph.parameters)
    none = plan(graph, opened.stored, PredictOptions(), decoded=())
    assert {decision.outcome for decision in none} <= {"fallback", "kept", "statistic", "frozen"}


def test_options_are_written_once() -> None:
    """The keywords that type checkers see are the fields of the options."""
    assert list(PredictKeywords.__annotations__) == [field.name for field in dataclasses.fields(PredictOptions)]
    assert PredictOptions.of(PredictOptions(seed=3), post="noise") == PredictOptions(post="noise", seed=3)
    assert PredictOptions(include="a").include == ("a",)
    with pytest.raises(OptionError, match="`fallback`"):
        PredictOptions.of(fallback="none")  # type: ignore[arg-type]
