"""Searches by predicted properties: ranking, limits, front, and what a search leaves."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from colour_data import draw_colours
from nas_predictors import plain_predictor
from safetensors.numpy import load_file

from onnx_ghn.cli import main
from onnx_ghn.deepnets1m import generate, stream, symbolic_graph
from onnx_ghn.errors import ModelWriteError, OptionError
from onnx_ghn.parallel import Jobs
from onnx_ghn.properties import load_predictor
from onnx_ghn.properties.features import n_decoded
from onnx_ghn.properties.macs import architecture_macs
from onnx_ghn.training.nas.output import new_folder
from onnx_ghn.training.nas.search import Candidates, Space, check_names, explore, front, ranked, within

N = 80


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    return plain_predictor(tmp_path_factory.mktemp("p"))


@pytest.fixture(scope="module")
def candidates(saved: str) -> Candidates:
    return explore(Space("search", seed=5), N, saved)


def _random(n: int, seed: int) -> Candidates:
    rng = np.random.default_rng(seed)
    columns = {name: rng.integers(1, 12, n).astype(float) for name in ("accuracy", "latency_ms", "n_params", "n_macs")}
    return Candidates(np.arange(n), columns)


def test_candidates_are_the_streams_architectures_with_their_properties(saved: str, candidates: Candidates) -> None:
    predictor = load_predictor(saved)
    assert candidates.indices.tolist() == list(range(N))
    for index, net in zip(range(N), stream("search", seed=5), strict=False):
        if index not in (0, 63, 64, 79):
            continue
        net = net.replace(C=16)
        assert Space("search", seed=5).architecture(index) == net
        graph = symbolic_graph(net)
        n_macs = architecture_macs(net, graph)
        assert candidates.columns["n_macs"][index] == n_macs
        assert candidates.columns["n_params"][index] == n_decoded(graph)
        expected = predictor.predict(predictor.features([graph], [n_macs]))
        for name, values in expected.items():
            assert candidates.columns[name][index] == pytest.approx(float(values[0]), rel=1e-6)


def test_workers_and_files_give_the_same(saved: str, candidates: Candidates, tmp_path: Path) -> None:
    generate("search", N, 5, tmp_path / "nets.jsonl")
    others = [
        explore(Space("search", seed=5), N, saved, Jobs(workers=2, backend="threading")),
        explore(Space("search", seed=5, file=str(tmp_path / "nets.jsonl")), N, saved),
    ]
    for other in others:
        for name, values in candidates.columns.items():
            np.testing.assert_array_equal(other.columns[name], values)
    with pytest.raises(OptionError, match=f"has {N} of split search"):
        explore(Space("search", file=str(tmp_path / "nets.jsonl")), N + 1, saved)


@pytest.mark.parametrize("by", ["accuracy", "latency_ms"])
@pytest.mark.parametrize("cost", ["latency_ms", "n_params"])
def test_the_front_is_what_nothing_beats(by: str, cost: str) -> None:
    for seed in range(5):
        everything = _random(60, seed)
        good, price = everything.columns[by] * (1 if by == "accuracy" else -1), everything.columns[cost]
        beaten = [
            any((good >= good[i]) & (price <= price[i]) & ((good > good[i]) | (price < price[i]))) for i in range(60)
        ]
        expected = {(float(g), float(c)) for g, c, lost in zip(good, price, beaten, strict=True) if not lost}
        found = front(everything, by, cost)
        mine = found.columns[by] * (1 if by == "accuracy" else -1)
        assert list(zip(mine, found.columns[cost], strict=True)) == sorted(expected, key=lambda pair: pair[1])


def test_limits_and_ranking() -> None:
    everything = _random(60, 1)
    kept = within(everything, {"latency_ms": 6.0, "n_params": None, "n_macs": 8.0})
    latency_ms, n_macs = everything.columns["latency_ms"], everything.columns["n_macs"]
    expected = [i for i in range(60) if latency_ms[i] <= 6 and n_macs[i] <= 8]
    assert kept.indices.tolist() == expected
    best = ranked(kept, "accuracy")
    assert (np.diff(best.columns["accuracy"]) <= 0).all()
    with pytest.raises(OptionError, match="none of 60 architectures"):
        within(everything, {"latency_ms": 0.5})
    check_names({"accuracy", "latency_ms"}, "accuracy", "n_params", 3.0)
    for wrong, told in (
        (("n_params", "n_macs"), "`by` n_params"),
        (("accuracy", "latency_ms"), "`against` latency_ms"),
    ):
        with pytest.raises(OptionError, match=f"{told}: the predictor has accuracy"):
            check_names({"accuracy"}, *wrong)
    with pytest.raises(OptionError, match="`max_latency_ms`: the predictor has accuracy"):
        check_names({"accuracy"}, "accuracy", "n_macs", 3.0)


@pytest.mark.parametrize("n", [12, pytest.param(70, marks=pytest.mark.slow)])
def test_a_search_leaves_tables_picture_and_models(
    saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], n: int
) -> None:
    out = tmp_path / "nas"
    arguments = ["nas", "-n", str(n), "-s", "5", "--predictor", saved, "--top", "2", "--max-percentile", "100"]
    arguments += ["-o", str(out)]
    main([*arguments, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["drawn"] == n
    with open(out / "ranking.csv") as file:
        table = list(csv.DictReader(file))
    assert [row["name"] for row in table[:2]] == [row["name"] for row in found["best"]]
    assert len(table) == found["within_limits"] == n
    assert (out / "front.svg").read_text().startswith("<?xml")
    for row in found["best"]:
        model = onnx.load(out / f"{row['name']}.onnx")
        n_elements = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
        assert n_elements >= row["n_params"]
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 1
    assert "exists already" in capsys.readouterr().err


def test_the_best_and_random_ones_are_trained_alike_and_kept(
    saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = draw_colours(tmp_path / "data", {"train": 40, "test": 6}, side=16)
    out = tmp_path / "nas"
    arguments = ["nas", "-n", "8", "-s", "5", "--predictor", saved, "--top", "1", "--max-percentile", "100"]
    arguments += ["-o", str(out), "--n-images", "6"]
    arguments += ["--no-picture", "--compare", "1", "--compare-steps", "2", "-d", str(data), "--json", "--force"]
    with pytest.raises(SystemExit):
        main(arguments)  # ten random ones unless told
    assert "7 are random ones beside the best 1, and --random asks for 10" in capsys.readouterr().err
    arguments += ["--random", "2"]
    main(arguments)
    first = json.loads(capsys.readouterr().out)["compared"]
    assert [row["chosen"] for row in first] == ["best", "random", "random"]
    kept = (out / "compared.jsonl").read_bytes()
    main(arguments)
    assert json.loads(capsys.readouterr().out)["compared"] == first
    assert (out / "compared.jsonl").read_bytes() == kept


def test_the_best_is_trained_by_the_published_protocol(saved: str, tmp_path: Path) -> None:
    data = draw_colours(tmp_path / "data", {"train": 4, "test": 2})
    out = tmp_path / "nas"
    arguments = ["nas", "-n", "8", "-s", "5", "--predictor", saved, "--top", "1", "--max-percentile", "100"]
    main([*arguments, "-o", str(out), "--no-picture", "--train", "1", "-e", "1", "-d", str(data)])
    (model,) = out.glob("search-*.onnx")
    told = json.loads((out / model.stem / "result.json").read_text())
    assert told["name"] == model.stem
    tensors = load_file(out / model.stem / "net.safetensors")
    # The auxiliary classifier was trained with it; all else is what the exported file has.
    rest = {name for name in tensors if not name.startswith("auxiliary_head.")}
    assert len(rest) < len(tensors)
    with_statistics = {name for name in rest if not name.endswith("num_batches_tracked")}
    exported = {tensor.name for tensor in onnx.load(model).graph.initializer}
    assert {name for name in exported if "." in name and not name.startswith("onnx::")} <= with_statistics


def test_without_matplotlib_the_picture_says_what_to_install(
    saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit):
        main(["nas", "-n", "4", "--predictor", saved, "--max-percentile", "100", "-o", str(tmp_path / "x")])
    assert re.search(r"pip install .*\[plot\]", capsys.readouterr().err)


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ModelWriteError, match="exists already"), new_folder(str(tmp_path), force=False):
        pass
    with new_folder(str(tmp_path), force=True) as folder:
        assert folder == tmp_path


def test_a_search_that_keeps_nothing_leaves_no_folder(saved: str, tmp_path: Path) -> None:
    """Of those that it made: a folder that was there stays, and so does one in which something is kept."""
    (tmp_path / "mine").mkdir()
    for folder in ("mine", "mine/new/nas"):
        with pytest.raises(SystemExit):
            main(["nas", "-n", "4", "--predictor", saved, "--max-params", "1", "-o", str(tmp_path / folder)])
        assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]

    def stopped() -> None:
        with new_folder(str(tmp_path / "kept"), force=False) as folder:
            (folder / "state.jsonl").write_text("{}")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert (tmp_path / "kept" / "state.jsonl").exists()
