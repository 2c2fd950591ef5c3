"""Configs: round trip, published forms, refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from onnx_ghn.errors import CheckpointError
from onnx_ghn.ghn import GHNConfig

PPUDA = {
    "max_shape": [64, 64, 11, 11], "num_classes": 10, "hypernet": "gatedgnn", "decoder": "conv",
    "weight_norm": True, "ve": True, "layernorm": True, "hid": 32,
}  # fmt: skip
GHN3 = {
    "max_shape": [64, 64, 16, 16], "num_classes": 1000, "hid": 64, "heads": 8, "layers": 3,
    "weight_norm": True, "ve": True, "layernorm": True,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["ghn1", "ghn2", "mlp", "ghn3"])
def test_json_round_trip(kind: str) -> None:
    config = GHNConfig.preset(kind, num_classes=10, trained=True, seed=4, dataset="cifar10")
    assert GHNConfig.from_dict(json.loads(config.to_json())) == config


def test_ppuda_config() -> None:
    config = GHNConfig.from_dict(PPUDA)
    assert (config.hypernet, config.graph_rules, config.kernel_slice) == ("gatedgnn", "ppuda", "corner")
    assert config.max_shape == (64, 64, 11, 11)
    assert config.kernel_overflow == "tile"


def test_ghn3_config() -> None:
    config = GHNConfig.from_dict(GHN3)
    assert (config.hypernet, config.graph_rules, config.kernel_slice) == ("graphormer", "ghn3", "centre")
    assert (config.heads, config.layers, config.kernel_overflow) == (8, 3, "interpolate")


def test_ghn2_trained_with_ghn3_code() -> None:
    config = GHNConfig.from_dict({**GHN3, "hid": 32, "is_ghn2": True, "pretrained": False})
    assert (config.hypernet, config.graph_rules, config.kernel_slice) == ("gatedgnn", "ghn3", "corner")


def test_virtual_edges_off_means_one_hop() -> None:
    assert GHNConfig.preset("ghn1").cutoff == 1
    assert GHNConfig.preset("ghn2").cutoff == 50


@pytest.mark.parametrize(
    "change",
    [
        {"surprise": 1},
        {"hid": 30},
        {"hid": "32"},
        {"hid": True},
        {"hid": 10**9},
        {"ve": 1},
        {"max_shape": [64, 64, 11]},
        {"max_shape": [64, 64, 11, 7]},
        {"max_shape": [64, 64.0, 11, 11]},
        {"max_shape": None},
        {"max_shape": [0, 64, 11, 11]},
        {"hypernet": "transformer"},
        {"decoder": ["conv"]},
        {"num_classes": 0},
    ],
)
def test_bad_values_are_refused_in_one_line(change: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="GHN config") as caught:
        GHNConfig.from_dict({**PPUDA, **change})
    assert "\n" not in str(caught.value)


def test_unknown_key_of_our_own_config() -> None:
    values = {**json.loads(GHNConfig().to_json()), "later_field": 1}
    with pytest.raises(CheckpointError, match="later_field"):
        GHNConfig.from_dict(values)


@pytest.mark.parametrize("values", [[1], "ghn2", None, {}, {"graph_rules": "onnx"}])
def test_not_a_config(values: Any) -> None:
    with pytest.raises(CheckpointError):
        GHNConfig.from_dict(values)


def test_heads_must_divide_features() -> None:
    with pytest.raises(CheckpointError, match="heads"):
        GHNConfig.preset("ghn3", heads=7)
