"""A small predictor of made-up properties, whose regressions are easy to compute by hand."""

from __future__ import annotations

import numpy as np
import pytest
from one_thread import one_thread

from onnx_ghn.deepnets1m import stream, symbolic_graph
from onnx_ghn.ghn import ArrayGHN, GHNConfig, new_ghn
from onnx_ghn.properties import PropertyPredictor
from onnx_ghn.properties.features import STATISTICS, graph_embeddings, graph_statistics
from onnx_ghn.properties.macs import architecture_macs
from onnx_ghn.properties.regression import Regression

__all__ = ["one_thread"]

N_SEEN = 24


@pytest.fixture(scope="session")
def predictor() -> PropertyPredictor:
    """An accuracy from the embedding, a latency from the statistics; fitted on nothing, seen 24 architectures."""
    ghn = new_ghn(GHNConfig(hypernet="graphormer", hid=8, heads=2, layers=1, max_shape=(8, 8, 3, 3)), seed=3)
    nets = [net.replace(C=16) for net, _ in zip(stream("train", seed=5), range(N_SEEN), strict=False)]
    graphs = [symbolic_graph(net) for net in nets]
    statistics = [graph_statistics(g, architecture_macs(n, g)) for n, g in zip(nets, graphs, strict=True)]
    seen = np.hstack([graph_embeddings(ghn, graphs), np.array(statistics)])
    rng = np.random.default_rng(0)

    def regression(columns: list[int], **told: float | bool) -> Regression:
        mine = seen[:, columns]
        scale = np.where(mine.std(axis=0) > 0, mine.std(axis=0), 1.0)
        support = (mine[:6] - mine.mean(axis=0)) / scale
        return Regression(
            tuple(columns), mine.mean(axis=0), scale, support, rng.normal(size=6), 0.1, 0.05, margin=0.5, **told
        )  # type: ignore[arg-type]

    hid = ghn.config.hid
    regressions = {
        "accuracy": regression(list(range(hid)), target_mean=40.0, target_scale=5.0),
        "latency_ms": regression(list(range(hid, hid + len(STATISTICS))), log=True, target_scale=0.5),
    }
    return PropertyPredictor(ArrayGHN.of(ghn), regressions, seen, {"measured": {"threshold": 25.0}})
