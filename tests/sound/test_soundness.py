"""Nothing that `predict` writes computes nonsense: outputs finite and of the scale of an initialisation, losses near
those of a guess, quantised tensors that have to stay the same bit by bit.

The networks are those of networks.py; the small ones run by default, all by `make test-sound`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from measuring import measured
from networks import NETWORKS, ROOT, Network

# Frameworks warn about themselves while they build and export their models.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    "network",
    [pytest.param(each, marks=[] if each.small else [pytest.mark.slow], id=each.name) for each in NETWORKS],
)
def test_predictions_are_sound(network: Network, tmp_path: Path) -> None:
    outcome = measured(network, tmp_path)
    if network.beyond:
        assert outcome.problems, "it is within the limits now: take the reason away"
    else:
        assert outcome.problems == ()


def test_what_is_beyond_the_limits_is_in_the_notes() -> None:
    notes = (ROOT / "docs/coverage.md").read_text(encoding="utf-8")
    for network in NETWORKS:
        if network.beyond:
            assert f"- {network.name}: {network.beyond}" in notes
