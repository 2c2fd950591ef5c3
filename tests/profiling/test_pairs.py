"""Two models: the ratio's interval against an own bootstrap, outputs against numpy."""

from __future__ import annotations

import cli_models as models
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnx_ghn.errors import OptionError
from onnx_ghn.profiling.pairs import compare_outputs, time_pair
from onnx_ghn.profiling.ratios import ratio_of_medians
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import model_spec


def test_ratio_against_an_own_bootstrap() -> None:
    rng = np.random.default_rng(0)
    against = rng.gamma(9.0, 1.0, 400) + 5
    model = 1.2 * (rng.gamma(9.0, 1.0, 400) + 5)
    ratio, low, high = ratio_of_medians(model, against, seed=3)
    assert ratio == pytest.approx(np.median(model) / np.median(against))
    places = np.random.default_rng(4).integers(0, 400, (4000, 400))
    own = np.median(model[places], axis=1) / np.median(against[places], axis=1)
    np.testing.assert_allclose((low, high), np.percentile(own, [2.5, 97.5]), rtol=0.01)
    assert low < 1.2 < high
    assert ratio_of_medians(model, against, seed=3) == (ratio, low, high)
    assert ratio_of_medians(model[:1], against[:1], 0) == (model[0] / against[0],) * 3


def test_pairs_are_timed_in_turn(save) -> None:
    path, other = save(models.conv_net()), save(models.conv_net(16), "other.onnx")
    specs = model_spec(path).inputs, model_spec(other).inputs
    found = time_pair((path, other), specs, Point(batch=2), Settings(warmup=1, iterations=9))
    assert found.n_pairs == 9
    assert found.ratio == pytest.approx(found.model_p50_ms / found.against_p50_ms)
    assert found.low <= found.ratio <= found.high


def test_the_same_model_gives_the_same(save) -> None:
    proto = models.conv_net()
    path, other = save(proto), save(proto, "other.onnx")
    found = compare_outputs((path, other), model_spec(other).inputs, Point(batch=2), Settings())
    assert [row["value"] for row in found.rows] == [name for node in proto.graph.node for name in node.output]
    assert all(row["close"] and row["max_abs"] == 0 for row in found.rows)
    assert found.first_divergence is None
    assert found.unmatched == 0


def test_the_first_divergence_is_where_a_weight_differs(save) -> None:
    proto, changed = models.conv_net(), models.conv_net()
    weight = next(t for t in changed.graph.initializer if t.name == "head.bias")
    bias = numpy_helper.to_array(weight)
    shift = np.linspace(0, 0.5, 10, dtype=np.float32)
    weight.CopyFrom(numpy_helper.from_array(bias + shift, "head.bias"))
    path, other = save(changed), save(proto, "other.onnx")
    found = compare_outputs((path, other), model_spec(other).inputs, Point(batch=2), Settings(seed=5))
    last = proto.graph.node[-1]
    assert found.first_divergence == last.output[0]
    assert [row["close"] for row in found.rows] == [True] * (len(found.rows) - 1) + [False]
    assert found.rows[-1]["node"] == last.name
    assert found.rows[-1]["max_abs"] == pytest.approx(0.5, abs=1e-5)
    # The largest difference over the other model's largest output, run by onnxruntime itself.
    import onnxruntime

    from onnx_ghn.profiling.feeds import random_feed

    feed = random_feed(model_spec(other).inputs, {"x": (2, 3, 8, 8)}, 5)
    expected = onnxruntime.InferenceSession(other, providers=["CPUExecutionProvider"]).run(None, feed)[0]
    assert found.rows[-1]["max_rel"] == pytest.approx(0.5 / np.abs(expected).max(), rel=1e-4)


@pytest.mark.parametrize("keys", [{"classlabels_int64s": [7, 3]}, {"classlabels_strings": ["a", "b"]}])
def test_maps_are_compared_by_their_values(save, keys) -> None:
    def scaled(factor: float, name: str) -> str:
        nodes = [
            helper.make_node("Mul", ["x", "w"], ["s"], "scale"),
            helper.make_node("ZipMap", ["s"], ["maps"], "zip", domain="ai.onnx.ml", **keys),
        ]
        given = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [3, 2])]
        kind = onnx.TensorProto.STRING if "classlabels_strings" in keys else onnx.TensorProto.INT64
        scores = helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [])
        maps = helper.make_sequence_type_proto(helper.make_map_type_proto(kind, scores))
        weight = numpy_helper.from_array(np.float32([1, factor]), "w")
        graph = helper.make_graph(nodes, "g", given, [helper.make_value_info("maps", maps)], [weight])
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
        return save(helper.make_model(graph, opset_imports=opsets, ir_version=8), name)

    path, other = scaled(1.5, "net.onnx"), scaled(1.0, "other.onnx")
    specs = model_spec(other).inputs
    found = compare_outputs((path, other), specs, Point(batch=3), Settings(seed=2))
    from onnx_ghn.profiling.feeds import random_feed

    second = random_feed(specs, {"x": (3, 2)}, 2)["x"][:, 1]
    row = found.rows[-1]
    assert (row["value"], row["shape"], row["close"]) == ("maps", [3, 2], False)
    assert row["max_abs"] == pytest.approx(0.5 * np.abs(second).max(), rel=1e-5)
    assert all(entry["close"] for entry in compare_outputs((other, other), specs, Point(batch=3), Settings()).rows)


def test_not_a_number_is_told_and_is_json(save) -> None:
    import dataclasses
    import json

    proto, changed = models.conv_net(), models.conv_net()
    weight = next(t for t in changed.graph.initializer if t.name == "head.bias")
    weight.CopyFrom(numpy_helper.from_array(np.full(10, np.nan, np.float32), "head.bias"))
    path, other = save(changed), save(proto, "other.onnx")
    specs = model_spec(other).inputs
    found = compare_outputs((path, other), specs, Point(), Settings())
    assert found.rows[-1]["close"] is False
    assert found.rows[-1]["max_abs"] is None
    json.dumps(dataclasses.asdict(found), allow_nan=False)
    assert compare_outputs((path, path), specs, Point(), Settings()).first_divergence is None  # NaN is NaN's equal


def test_strangers_are_refused(save) -> None:
    proto, stranger = models.conv_net(), models.conv_net()
    for node in stranger.graph.node:
        for number, name in enumerate(node.input):
            node.input[number] = f"z_{name}" if name.startswith("v") else name
        for number, name in enumerate(node.output):
            node.output[number] = f"z_{name}"
    stranger.graph.output[0].name = f"z_{stranger.graph.output[0].name}"
    onnx.checker.check_model(stranger)
    path, other = save(proto), save(stranger, "other.onnx")
    with pytest.raises(OptionError, match="no value's name in common"):
        compare_outputs((path, other), model_spec(other).inputs, Point(), Settings())
