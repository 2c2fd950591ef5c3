"""What is fitted to a machine whose operators cost known formulas, against these."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from synthetic_machine import RUN_US, TRACED_US, cost_us, network, three, untraced_us

from onnx_ghn.properties.machine.costs import fit_costs, run_errors


def test_networks_that_were_not_measured_are_predicted() -> None:
    costs = fit_costs([network(i) for i in range(80)])
    off = []
    for number in range(1000, 1030):
        new = network(number)
        total = costs.total_us([(kind, sizes) for kind, sizes, _ in new.nodes], new.streamed_bytes)
        off.append(abs(total / untraced_us(new) - 1))
    assert np.mean(off) < 0.03
    assert max(off) < 0.15


def test_the_overheads_of_runs_and_of_tracing_are_told_apart() -> None:
    costs = fit_costs([network(i, n_nodes=5 + i) for i in range(40)])
    assert costs.run_us == pytest.approx(RUN_US, rel=1e-6)
    assert costs.traced_us == pytest.approx(TRACED_US, rel=1e-6)


def test_a_disturbed_measurement_does_not_decide_the_overheads() -> None:
    measured = [network(i, n_nodes=5 + i) for i in range(40)]
    measured[3] = dataclasses.replace(measured[3], run_us=measured[3].run_us * 5)
    costs = fit_costs(measured)
    assert (costs.run_us, costs.traced_us) == pytest.approx((RUN_US, TRACED_US), rel=1e-6)


def test_operators_that_others_made_slower_do_not_count() -> None:
    """A third of the operators take half as long again: what is predicted is what the others take."""
    rng = np.random.default_rng(0)
    measured = []
    for number in range(80):
        one = network(number)
        nodes = tuple((kind, sizes, us * (1.5 if rng.random() < 1 / 3 else 1.0)) for kind, sizes, us in one.nodes)
        measured.append(dataclasses.replace(one, nodes=nodes))
    costs = fit_costs(measured)
    sizes = [three(8.0, 7.0, 6.0), three(7.0, 8.0, 8.0), three(5.0, 6.0, 8.0)]
    traced = costs.nodes_us([("matrix by stored matrix", one) for one in sizes], 2**24) + costs.traced_us
    expected = [cost_us("matrix by stored matrix", one) + TRACED_US for one in sizes]
    np.testing.assert_allclose(traced, expected, rtol=0.12)


def test_operators_are_predicted_one_by_one() -> None:
    costs = fit_costs([network(i) for i in range(80)])
    sizes = three(8.0, 7.0, 6.0)
    (found,) = costs.nodes_us([("matrix by stored matrix", sizes)], 2**24)
    assert found == pytest.approx(cost_us("matrix by stored matrix", sizes), rel=0.1)


def test_a_kind_that_was_not_measured_costs_what_any_of_its_size_does() -> None:
    costs = fit_costs([network(i) for i in range(80)])
    assert not costs.knows("Selu")
    assert costs.knows("Relu 8B")  # as elements of four bytes
    small, large = costs.nodes_us([("Selu", (8.0,)), ("Selu", (20.0,))], 2**24)
    assert large > 10 * small
    assert math.isfinite(costs.nodes_us([("3-D dense convolution", (9.0,) * 8)], 2**24)[0])


def test_errors_are_those_of_networks_that_were_left_out() -> None:
    """One network takes twice what its operators do, which its error says: it was not fitted to itself."""
    measured = [network(i) for i in range(50)]
    measured[7] = dataclasses.replace(measured[7], run_us=measured[7].run_us * 2)
    errors = run_errors(measured, fit_costs(measured))
    assert errors[7] == pytest.approx(math.log(2), abs=0.1)
    assert np.median(np.abs(errors)) < 0.05


def test_what_is_larger_than_all_that_was_measured_costs_in_proportion() -> None:
    costs = fit_costs([network(i) for i in range(80)])
    for kind, sizes, larger in (
        ("Relu", (20.0,), (23.0,)),
        ("matrix by stored matrix", three(9, 9, 9), three(12, 9, 9)),
    ):
        one, other = costs.nodes_us([(kind, sizes), (kind, larger)], 2**24)
        assert other / one == pytest.approx(8, rel=0.15), kind
