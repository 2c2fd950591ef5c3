"""Lifetimes by hand, and costs of sessions against those that made the figures."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_ghn.properties.machine.memory import PARTS, MemoryMeasured, fit_memory, live_bytes, memory_parts
from onnx_ghn.properties.machine.running import RunGraph, RunNode, Value

KB = 1024


def value(name: str, kilobytes: int, **more: bool) -> Value:
    return Value(name, (kilobytes * 256,), 4, **more)


def node(op_type: str, inputs: list[Value], outputs: list[Value], domain: str = "") -> RunNode:
    return RunNode(op_type, op_type, domain, {}, tuple(inputs), tuple(outputs))


def graph(nodes: list[RunNode], outputs: str, inputs: str = "x") -> RunGraph:
    fed = tuple({v.name: v for n in nodes for v in n.inputs if v is not None and v.name in inputs.split()}.values())
    constants = {v.name: v for n in nodes for v in n.inputs if v is not None and v.is_constant}
    return RunGraph(tuple(nodes), fed, tuple(outputs.split()), tuple(constants.values()))


def test_a_value_lives_until_its_last_reader() -> None:
    x, a, b, c = value("x", 9), value("a", 4), value("b", 8), value("c", 2)
    # At b: a and b, 12 KB. At c: a is read again, so a, b and c: 14.
    found = live_bytes(graph([node("Conv", [x], [a]), node("Conv", [a], [b]), node("Concat", [a, b], [c])], "c"))
    assert found == 14 * KB


def test_what_is_not_read_again_makes_room() -> None:
    x, a, b, c = value("x", 9), value("a", 4), value("b", 8), value("c", 2)
    # a is gone when c is made: b and c are 10, a and b were 12.
    assert live_bytes(graph([node("Conv", [x], [a]), node("Conv", [a], [b]), node("Conv", [b], [c])], "c")) == 12 * KB


def test_views_and_operators_in_place_need_no_memory_of_their_own() -> None:
    x, a, b, c, d = (value(name, 4) for name in "xabcd")
    nodes = [node("Conv", [x], [a]), node("Reshape", [a], [b]), node("Relu", [b], [c]), node("Conv", [c], [d])]
    assert live_bytes(graph(nodes, "d")) == 8 * KB


def test_an_operator_does_not_write_over_what_is_read_again() -> None:
    x, a, b, c = (value(name, 4) for name in "xabc")
    nodes = [node("Conv", [x], [a]), node("Relu", [a], [b]), node("Concat", [a, b], [c])]
    assert live_bytes(graph(nodes, "c")) == 12 * KB


def test_a_convolution_adds_into_the_sum_that_it_takes_in() -> None:
    x, a, b = (value(name, 4) for name in "xab")
    w, bias = value("w", 1, is_constant=True), value("bias", 1, is_constant=True)
    nodes = [node("Conv", [x], [a]), node("Conv", [x, w, bias, a], [b], "com.microsoft.nchwc")]
    assert live_bytes(graph(nodes, "b")) == 4 * KB


def test_outputs_of_a_run_are_kept() -> None:
    x, a, b, c = value("x", 9), value("a", 4), value("b", 8), value("c", 2)
    nodes = [node("Conv", [x], [a]), node("Conv", [a], [b]), node("Conv", [b], [c])]
    assert live_bytes(graph(nodes, "a c")) == 14 * KB


def test_what_nobody_reads_is_gone_at_once() -> None:
    x, a, b, c = value("x", 9), value("a", 4), value("b", 8), value("c", 6)
    nodes = [node("Split", [x], [a, b]), node("Conv", [a], [c])]
    assert live_bytes(graph(nodes, "c")) == 12 * KB  # a and b; then a and c


def test_weights_are_parted_by_what_becomes_of_them() -> None:
    x, y = value("x", 4), value("y", 4)
    kernel = Value("k", (8, 4, 3, 3), 4, is_constant=True)
    point = Value("p", (8, 4, 1, 1), 4, is_constant=True)
    matrix, table = Value("m", (16, 16), 4, is_constant=True), Value("t", (10, 4), 4, is_constant=True)
    nodes = [
        node("Conv", [x, kernel], [y]),
        node("FusedConv", [x, point], [y]),
        node("MatMul", [x, matrix], [y]),
        node("Gather", [table, x], [y]),
    ]
    parts = memory_parts(graph(nodes, "y"))
    assert (parts["convolved"], parts["pointwise"]) == (8 * 4 * 9 * 4, 8 * 4 * 4)
    assert (parts["packed"], parts["other"]) == (16 * 16 * 4, 10 * 4 * 4)
    assert parts["nodes"] == 4 * KB


def test_costs_of_sessions_are_found_again() -> None:
    rng = np.random.default_rng(0)
    true = dict(zip(PARTS, (12.0, 2.0, 3.5, 1.6, 1.1, 2.0, 4.0), strict=True))
    measured = []
    for _ in range(20):
        parts = {name: float(10 ** rng.uniform(5, 8)) for name in PARTS} | {"session": 2.0**20}
        own = sum(true[name] * parts[name] for name in PARTS)
        measured.append(MemoryMeasured(parts, 100_000_000, 100_000_000 + int(own)))
    costs = fit_memory(measured)
    assert costs.baseline_bytes == 100_000_000
    assert dict(costs.factors) == pytest.approx(true, rel=1e-3)
    assert costs.deviation < 1e-3
    low, high = costs.interval(2e8)
    assert low <= 2e8 <= high


def test_no_part_costs_less_than_nothing() -> None:
    measured = []
    for number in range(1, 9):
        parts = dict.fromkeys(PARTS, 0.0) | {"session": 2.0**20, "live": 1e6 * number, "nodes": 1e3 * number**2}
        measured.append(MemoryMeasured(parts, 0, int(2e7 + 2e6 * number - 500 * number**2)))
    costs = fit_memory(measured)
    assert min(costs.factors.values()) == 0
    assert costs.factors["live"] > 0
