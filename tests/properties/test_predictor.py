"""Predictors: what they say of a model, how far it is, files; and the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from scipy.spatial.distance import euclidean
from scipy.stats import kendalltau

from onnx_ghn.cli import main
from onnx_ghn.deepnets1m import stream, symbolic_graph
from onnx_ghn.deepnets1m.export import export_network
from onnx_ghn.errors import CheckpointError, ModelWriteError
from onnx_ghn.properties import PropertyPredictor, load_predictor, predict_properties, save_predictor
from onnx_ghn.properties.features import STATISTICS, graph_embeddings, graph_statistics
from onnx_ghn.properties.macs import architecture_macs
from onnx_ghn.training.properties.measurements import read_measurements

EXAMPLES = Path(__file__).parents[2] / "data" / "examples"


@pytest.fixture(scope="module")
def saved(predictor: PropertyPredictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_predictor(predictor, tmp_path_factory.mktemp("predictor") / "new" / "p")


def test_an_exported_architecture_is_predicted_as_the_architecture(
    predictor: PropertyPredictor, tmp_path: Path
) -> None:
    net = next(stream("val", seed=3)).replace(C=16)
    export_network(net, tmp_path / "m.onnx")
    graph = symbolic_graph(net)
    features = predictor.features([graph], [architecture_macs(net, graph)])
    found = predict_properties(tmp_path / "m.onnx", predictor)
    assert {one.property.name for one in found.values} == {"accuracy", "latency_ms"}
    for one in found.values:
        assert one.value == pytest.approx(float(predictor.predict(features)[one.property.name][0]), rel=1e-4)
        assert one.low < one.value < one.high
    assert found.n_macs == architecture_macs(net, graph)


def test_embeddings_are_means_of_the_nodes_in_any_company(predictor: PropertyPredictor) -> None:
    graphs = [symbolic_graph(net) for net, _ in zip(stream("test", seed=1), range(20), strict=False)]
    together = graph_embeddings(predictor.ghn, graphs)
    for graph, row in zip(graphs, together, strict=True):
        (nodes,) = predictor.ghn.embeddings([graph])
        np.testing.assert_allclose(row, nodes.mean(axis=0), rtol=1e-3, atol=1e-5)


def test_statistics_count_what_is_there() -> None:
    net = next(stream("val", seed=3))
    graph = symbolic_graph(net)
    found = dict(zip(STATISTICS, np.expm1(graph_statistics(graph, 1000)), strict=True))
    assert found["log_macs"] == pytest.approx(1000)
    assert found["log_nodes"] == pytest.approx(len(graph))
    assert found["log_depth"] == pytest.approx(int(graph.levels.max()))
    counts = {name: found[f"log_{name}"] for name in ("bn", "conv", "sum")}
    expected = {name: sum(node.primitive.name == name for node in graph.nodes) for name in counts}
    assert counts == pytest.approx(expected)


def test_distance_is_that_to_five_neighbours(predictor: PropertyPredictor) -> None:
    spread = predictor.seen.std(axis=0)
    scaled = predictor.seen / np.where(spread > 1e-9, spread, 1)

    def mean_of_five(x: np.ndarray, others: np.ndarray) -> float:
        return float(np.mean(sorted(euclidean(x, other) for other in others)[:5]))

    own = [mean_of_five(row, np.delete(scaled, i, axis=0)) for i, row in enumerate(scaled)]
    new = predictor.seen[:3] * np.array([[1.0], [1.1], [3.0]])
    expected = [
        100 * np.mean([d < mean_of_five(row / np.where(spread > 1e-9, spread, 1), scaled) for d in own]) for row in new
    ]
    np.testing.assert_allclose(predictor.percentiles(new), expected)
    assert predictor.percentiles(new)[-1] == 100


def test_a_large_network_is_told_to_be_far(predictor: PropertyPredictor) -> None:
    found = predict_properties(EXAMPLES / "resnet50_torchscript.onnx", predictor)
    assert found.far
    assert {"parameters", "multiply-accumulates"} <= set(found.outside)
    assert found.n_macs == 4_089_184_256  # the usual figure of ResNet-50


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("lstm_text", "this is a text model"),
        ("audio_m5", "this is a model of series or sound"),
        ("detector_fpn", "the outputs of this model are no scores of classes"),
    ],
)
def test_nothing_is_foretold_of_what_is_no_classifier_of_images(
    name: str, why: str, predictor: PropertyPredictor
) -> None:
    found = predict_properties(EXAMPLES / f"{name}.onnx", predictor)
    assert (found.values, found.unlike, found.far) == ((), why, True)
    assert found.n_macs > 0
    assert len(predict_properties(EXAMPLES / f"{name}.onnx", predictor, of_any_kind=True).values) == 2


def test_a_saved_predictor_predicts_the_same_and_is_the_same_file(
    predictor: PropertyPredictor, saved: Path, tmp_path: Path
) -> None:
    again = load_predictor(saved)
    model = EXAMPLES / "resnet18_cifar10.onnx"
    assert predict_properties(model, again).to_dict() == predict_properties(model, predictor).to_dict()
    other = save_predictor(again, tmp_path)
    for name in ("predictor.json", "predictor.safetensors"):
        assert (other / name).read_bytes() == (saved / name).read_bytes()
    with pytest.raises(ModelWriteError, match="exists already"):
        save_predictor(again, tmp_path)


@pytest.mark.parametrize("damage", ["cut", "json", "absent", "version", "columns"])
def test_damaged_predictors_are_refused_in_one_line(saved: Path, tmp_path: Path, damage: str) -> None:
    for name in ("predictor.json", "predictor.safetensors"):
        (tmp_path / name).write_bytes((saved / name).read_bytes())
    record = json.loads((tmp_path / "predictor.json").read_text())
    if damage == "cut":
        data = (tmp_path / "predictor.safetensors").read_bytes()
        (tmp_path / "predictor.safetensors").write_bytes(data[: len(data) // 2])
    elif damage == "json":
        (tmp_path / "predictor.json").write_text("{")
    elif damage == "absent":
        (tmp_path / "predictor.json").unlink()
    elif damage == "version":
        (tmp_path / "predictor.json").write_text(json.dumps(record | {"format": 99}))
    else:
        record["regressions"]["accuracy"]["columns"][0] = 999
        (tmp_path / "predictor.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError) as caught:
        load_predictor(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_bundled_predictor_knows_the_networks_it_was_fitted_on() -> None:
    bundled = load_predictor()
    measured = read_measurements(EXAMPLES.parents[1] / "checkpoints" / "properties-cifar10" / "measurements.jsonl")
    settings, networks = measured["settings"], measured["networks"]
    assert len(bundled.seen) == len(networks) == bundled.report["networks"]
    nets = [net for net, _ in zip(stream("val", settings["arch_seed"]), range(24), strict=False)]
    nets = [net.replace(C=settings["channels"]) for net in nets]
    graphs = [symbolic_graph(net) for net in nets]
    features = bundled.features(graphs, [architecture_macs(n, g) for n, g in zip(nets, graphs, strict=True)])
    np.testing.assert_allclose(features, bundled.seen[:24], rtol=1e-3, atol=1e-4)
    latency_ms = [networks[f"val-{i}"]["latency_ms"] for i in range(24)]
    assert kendalltau(bundled.predict(features)["latency_ms"], latency_ms).statistic > 0.8
    low, high = bundled.intervals(features)["accuracy"]
    inside = [lo <= networks[f"val-{i}"]["accuracy"] <= hi for i, (lo, hi) in enumerate(zip(low, high, strict=True))]
    assert np.mean(inside) > 0.8


def test_the_command_prints_each_property_and_json(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(EXAMPLES / "resnet18_cifar10.onnx")
    main(["properties", model, "--predictor", str(saved)])
    out = capsys.readouterr().out
    assert "accuracy" in out
    assert "latency" in out
    assert "far from what the predictor has seen" in out
    stages = 3 * (64 * 128 * 9 * 256 + 3 * 128 * 128 * 9 * 256 + 64 * 128 * 256)  # each has as many as the next
    n_macs = 3 * 64 * 9 * 1024 + 4 * 64 * 64 * 9 * 1024 + stages + 512 * 10
    assert (n_macs, predict_properties(model, saved).n_macs) == (555_422_720, n_macs)
    assert "parameters, 555 M multiply-accumulates an image" in out
    main(["properties", model, "--predictor", str(saved), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["properties"] == json.loads(json.dumps(predict_properties(model, saved).to_dict()))["properties"]


def test_free_sizes_and_other_files_end_in_one_line(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(EXAMPLES / "resnet18_cifar10.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "width"
    onnx.save(model, tmp_path / "free.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    for name, told in (("free.onnx", "dimension 3 is free"), ("text.onnx", "text.onnx")):
        with pytest.raises(SystemExit) as stop:
            main(["properties", str(tmp_path / name), "--predictor", str(saved)])
        err = capsys.readouterr().err
        assert stop.value.code == 1
        assert told in err
        assert err.count("\n") == 1
