"""Stored regressions against scikit-learn's, intervals against the coverage that they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVR

from onnx_ghn.properties.features import STATISTICS
from onnx_ghn.properties.predictor import PROPERTIES
from onnx_ghn.training.properties import fitting as property_fit
from onnx_ghn.training.properties.fitting import Table, best_of_ours, conformal_margin, published_taus, tau

HID = 4


def _table(n: int, seed: int, noise: float = 0.1) -> Table:
    """A latency that one statistic sets, and an accuracy that the embedding does."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, HID + len(STATISTICS)))
    accuracy = 30 + 8 * np.tanh(features[:, 0]) + 4 * features[:, 1] + noise * rng.normal(size=n)
    latency = np.exp(0.7 * features[:, HID + 1] + noise * rng.normal(size=n))
    return Table(features, {"accuracy": accuracy, "latency_ms": latency}, {"MACs": features[:, HID + 1]})


@pytest.fixture(autouse=True)
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("C", "gamma", "epsilon")
    values = ([1, 30], [0.003, 0.03], [0.05])
    grid = {f"svr__regressor__{name}": list(each) for name, each in zip(names, values, strict=True)}
    monkeypatch.setattr(property_fit, "_SCALED", grid)


@pytest.mark.parametrize("name", ["accuracy", "latency_ms"])
def test_numpy_predicts_what_scikit_learn_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    train, new = _table(80, 1), _table(40, 2)
    known = next(one for one in PROPERTIES if one.name == name)
    kept = {}
    stored = property_fit._stored
    monkeypatch.setattr(
        property_fit, "_stored", lambda p, c, *rest: kept.update(pipeline=p, columns=c) or stored(p, c, *rest)
    )
    fitted = best_of_ours(known, train, HID, margin=False)
    expected = kept["pipeline"].predict(new.features[:, kept["columns"]])
    expected = np.exp(expected) if known.log else expected
    np.testing.assert_allclose(fitted.regression.predict(new.features), expected, rtol=1e-10)


def test_features_are_chosen_by_what_the_target_depends_on() -> None:
    train = _table(80, 1)
    chosen = {
        known.name: best_of_ours(known, train, HID, margin=False).feature_set
        for known in PROPERTIES
        if known.name in train.targets
    }
    assert chosen == {"accuracy": "embedding", "latency_ms": "statistics"}


def test_intervals_hold_nine_of_ten_new_networks() -> None:
    known = next(one for one in PROPERTIES if one.name == "latency_ms")
    fitted = best_of_ours(known, _table(150, 1, noise=0.5), HID)
    new = _table(400, 2, noise=0.5)
    low, high = fitted.regression.interval(new.features)
    inside = ((low <= new.targets["latency_ms"]) & (new.targets["latency_ms"] <= high)).mean()
    assert 0.84 < inside < 0.96
    assert (low > 0).all()


def test_a_margin_is_the_residual_of_that_rank() -> None:
    assert conformal_margin(np.arange(1.0, 101.0), 0.9) == 91
    assert conformal_margin(np.array([3.0, 1.0]), 0.9) == 3


def test_the_published_recipe_is_a_grid_search_and_svr_on_the_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(property_fit, "SEEDS", (0, None))
    known = PROPERTIES[0]
    train, test = _table(30, 1), _table(30, 2)
    taus = published_taus(known, train, test, HID)
    x, y = train.features[:, :HID], train.targets["accuracy"]
    grid = {
        "C": [1, 10, 50, 100, 200, 500, 1000],
        "gamma": ["auto", 0.05, 0.1, 0.2, 0.5],
        "epsilon": [0.05, 0.1, 0.2],
    }
    best = GridSearchCV(SVR(), grid, cv=5).fit(x, y).best_params_
    predicted = SVR(**best).fit(x, y).predict(test.features[:, :HID]).round()
    assert len(taus) == 2
    assert taus[-1] == pytest.approx(kendalltau(predicted, test.targets["accuracy"]).statistic)


def test_a_constant_ranks_nothing() -> None:
    assert tau(np.ones(5), np.arange(5.0)) == 0
