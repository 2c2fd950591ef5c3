"""The coverage report: counts, shares, reasons."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from predict_models import cnn, mlp, tiny_ghn

from onnx_ghn import predict
from onnx_ghn.graph import Layout, Parameter, Role
from onnx_ghn.inspection import inspect_model
from onnx_ghn.prediction.coverage import CoverageReport
from onnx_ghn.prediction.plan import Decision

OUTCOMES = ("predicted", "fallback", "kept", "statistic")


@given(st.lists(st.tuples(st.sampled_from(OUTCOMES), st.integers(1, 9), st.sampled_from(["", "a", "b"]))))
def test_sums(rows: list[tuple[str, int, str]]) -> None:
    entries = [
        Decision(
            Parameter(f"p{i}", Role.statistic if outcome == "statistic" else Role.weight, Layout((size, 2))),
            outcome,
            reason,  # type: ignore[arg-type]
        )
        for i, (outcome, size, reason) in enumerate(rows)
    ]
    report = CoverageReport(entries)
    trainable = sum(2 * size for outcome, size, _ in rows if outcome != "statistic")
    assert report.n_trainable == trainable
    assert sum(report.share(outcome) for outcome in OUTCOMES[:3]) == pytest.approx(1 if trainable else 0)
    assert [report.count(outcome) for outcome in OUTCOMES] == [
        sum(row[0] == outcome for row in rows) for outcome in OUTCOMES
    ]
    weights = [sum(e.parameter.size for e in group) for group in report.reasons().values()]
    assert weights == sorted(weights, reverse=True)
    assert sum(weights) == sum(2 * size for outcome, size, _ in rows if outcome in ("fallback", "kept"))
    assert repr(report).startswith(f"CoverageReport({trainable:,} trainable elements: ")
    assert json.loads(json.dumps(report.to_dict()))["n_trainable_elements"] == trainable


def test_of_a_prediction() -> None:
    coverage = predict(cnn(), ghn=tiny_ghn(), exclude=["fc"], calibrate="none", correct_scales=False).coverage
    n_conv, n_bn, n_fc = 12 * 3 * 9 + 16 * 12 * 9, 2 * (12 + 16), 10 * 16 + 10
    assert coverage.n_trainable == n_conv + n_bn + n_fc
    assert coverage.n_elements("predicted") == n_conv + n_bn
    assert coverage.n_elements("statistic") == n_bn
    assert coverage.share("kept") == n_fc / (n_conv + n_bn + n_fc)
    assert coverage.to_dict()["tensors"] == {"predicted": 6, "fallback": 0, "kept": 2, "statistic": 4, "frozen": 0}
    assert {entry["name"] for entry in coverage.to_dict()["parameters"] if entry["outcome"] == "kept"} == {
        "fc.w",
        "fc.b",
    }


@pytest.mark.parametrize("model", [cnn, mlp])
def test_inspection_foretells_a_prediction(model) -> None:  # type: ignore[no-untyped-def]
    foretold, happened = inspect_model(model(), policy="all").coverage, predict(model(), ghn=tiny_ghn()).coverage
    assert [(e.parameter, e.outcome) for e in foretold.entries] == [(e.parameter, e.outcome) for e in happened.entries]
