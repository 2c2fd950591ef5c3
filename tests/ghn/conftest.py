"""Fixtures of the GHN's tests."""

from __future__ import annotations

import pytest
import torch
from ghn_samples import SMALL, GraphMaker, random_graph

from onnx_ghn.ghn import GHN, GHNConfig, new_ghn


@pytest.fixture
def make_graph() -> GraphMaker:
    """Maker of random graphs: make_graph(seed, n_nodes=30, density=0.1)."""
    return random_graph


@pytest.fixture(params=["ghn1", "ghn2", "mlp", "ghn3", "mlp_decoder"])
def ghn(request: pytest.FixtureRequest) -> GHN:
    """A small untrained GHN of each kind, its embeddings large enough for differences to show."""
    kind = request.param
    changes = {"decoder": "mlp", **SMALL} if kind == "mlp_decoder" else SMALL
    network = new_ghn(GHNConfig.preset("ghn2" if kind == "mlp_decoder" else kind, **changes), seed=3)
    with torch.no_grad():
        network._modules["embed"].weight *= 2
    return network
