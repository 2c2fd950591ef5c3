"""Searches by evolution: what changes, what the rules allow, and that a search that was stopped ends as any other."""

from __future__ import annotations

import itertools
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from nas_predictors import plain_predictor

from onnx_ghn.cli import main
from onnx_ghn.deepnets1m import generate, stream
from onnx_ghn.deepnets1m.network import Network
from onnx_ghn.deepnets1m.sampler import is_wanted, split_rules
from onnx_ghn.errors import DataError, OptionError
from onnx_ghn.parallel import Jobs
from onnx_ghn.training.nas.evolution import EVOLVED, evolve
from onnx_ghn.training.nas.search import Space, explore, random_ones, space_of
from onnx_ghn.training.nas.settings import SearchConfig
from onnx_ghn.training.nas.variation import crossed, mutated

SPLIT = "search"
COUNT, POPULATION = 40, 12


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    return plain_predictor(tmp_path_factory.mktemp("p"))


@pytest.fixture(scope="module")
def parents() -> list:
    return [net for net, _ in zip(stream(SPLIT, seed=5), range(12), strict=False)]


def test_changed_architectures_keep_the_rules(parents: list) -> None:
    rules = split_rules(SPLIT)
    rng = np.random.default_rng(0)
    children = [mutated(net, SPLIT, rng) for net in parents for _ in range(4)]
    children += [child for a, b in itertools.pairwise(parents) for child in crossed(a, b, SPLIT, rng)]
    found = [child for child in children if child is not None]
    assert len(found) > 0.8 * len(children)
    for record in found:
        net = record.architecture
        steps = [len(cell) // 2 for cell in (net.genotype.normal, net.genotype.reduce)]
        assert rules.min_cells <= net.n_cells <= rules.max_cells
        assert max(steps) <= (rules.max_steps if net.n_cells <= max(rules.deep_cells) else rules.medium_steps)
        assert is_wanted(net.genotype)
        assert net.norm == "bnorm"  # it is the split's
        assert record.n_params <= rules.max_params
        for cell in (net.genotype.normal, net.genotype.reduce):
            assert all(cell[i][1] != cell[i + 1][1] for i in range(0, len(cell), 2))  # a step reads two states


def test_counts_of_children_are_those_of_torchs_networks(parents: list) -> None:
    rng = np.random.default_rng(1)
    for net in parents[:3]:
        record = mutated(net, SPLIT, rng)
        assert record is not None
        built = Network(record.architecture)
        assert record.n_params == sum(parameter.numel() for parameter in built.parameters())


def test_a_mutant_differs_in_one_thing_and_children_have_their_parents_cells(parents: list) -> None:
    rng = np.random.default_rng(2)
    record = mutated(parents[0], SPLIT, rng)
    assert record is not None
    assert record.architecture != parents[0]
    for a, b in itertools.pairwise(parents):
        for child in crossed(a, b, SPLIT, rng):
            if child is None:
                continue
            genotype = child.architecture.genotype
            assert genotype.normal in (a.genotype.normal, b.genotype.normal)
            assert genotype.reduce in (a.genotype.reduce, b.genotype.reduce)
            assert child.architecture.n_cells in (a.n_cells, b.n_cells)
    again = mutated(parents[0], SPLIT, np.random.default_rng(2))
    assert again == record


def config_of(saved: str, **more: object) -> SearchConfig:
    settings = {"method": "evolution", "count": COUNT, "population": POPULATION, "seed": 5, "top": 3}
    return SearchConfig(predictor=saved, max_percentile=100.0, **settings | more)


def test_a_search_that_was_stopped_ends_as_one_that_was_not(saved: str, tmp_path: Path) -> None:
    pytest.importorskip("pymoo")
    config = config_of(saved)
    space = space_of(config)
    whole, cut, spread = (tmp_path / name for name in ("whole", "cut", "spread"))
    for folder in (whole, cut, spread):
        folder.mkdir()
    found = evolve(config, space, whole)
    assert (len(found.every), found.n_drawn) == (COUNT, POPULATION)
    # Evolution begins with what a ranking draws first.
    first = explore(Space(SPLIT, 5), POPULATION, saved)
    for name, values in first.columns.items():
        np.testing.assert_allclose(found.every.columns[name][:POPULATION], values, rtol=1e-12)
    assert (found.edge.indices >= POPULATION).any()  # some that came of them are beaten by none of them

    def stop(n: int) -> None:
        lines = (cut / "evaluated.jsonl").read_bytes().count(b"\n")
        if lines > 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evolve(config, space, cut, told=stop)
    state = (cut / "evaluated.jsonl").read_bytes()
    assert 25 < state.count(b"\n") < COUNT
    (cut / "evaluated.jsonl").write_bytes(state[:-30])  # killed in the middle of a line
    told: list[int] = []
    again = evolve(config, space, cut, told=told.append)
    assert sum(told) == COUNT
    spread_out = evolve(config, space, spread, Jobs(workers=2, backend="threading"))
    for other, folder in ((again, cut), (spread_out, spread)):
        assert (folder / EVOLVED).read_bytes() == (whole / EVOLVED).read_bytes()
        for name, values in found.every.columns.items():
            np.testing.assert_array_equal(other.every.columns[name], values)
        np.testing.assert_array_equal(other.edge.indices, found.edge.indices)
    for index in found.best.indices.tolist():
        net = found.space.architecture(index)
        assert space.channels == net.C
    with pytest.raises(DataError, match="results of other settings"):
        evolve(config_of(saved, population=10), space, cut)


def test_a_file_with_less_than_a_population(saved: str, tmp_path: Path) -> None:
    """Only what is in it counts as drawn: random networks to compare with may not be bred ones."""
    pytest.importorskip("pymoo")
    generate(SPLIT, 5, 5, tmp_path / "few.jsonl")
    config = config_of(saved, file=str(tmp_path / "few.jsonl"), count=16)
    found = evolve(config, space_of(config), tmp_path)
    assert (len(found.every), found.n_drawn) == (16, 5)
    drawn = random_ones(found, 0, 5, 0, "compare").indices
    assert sorted(drawn.tolist()) == [0, 1, 2, 3, 4]
    with pytest.raises(OptionError, match="5 are random ones beside the best 0"):
        random_ones(found, 0, 6, 0, "compare")


def test_limits_are_kept(saved: str, tmp_path: Path) -> None:
    pytest.importorskip("pymoo")
    config = config_of(saved, max_params=3e5, against="n_params")
    found = evolve(config, space_of(config), tmp_path)
    assert found.good.columns["n_params"].max() <= 3e5
    # Most children of a population that keeps the limit keep it, too: of random ones about half do.
    late = found.every.columns["n_params"][COUNT // 2 :]
    assert (late <= 3e5).mean() > 0.6


def test_command(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pymoo")
    out = tmp_path / "nas"
    arguments = ["nas", "-n", "16", "--population", "8", "--method", "evolution", "-s", "5", "--predictor", saved]
    arguments += ["--top", "1", "--max-percentile", "100", "-o", str(out)]
    main([*arguments, "--json"])
    first = json.loads(capsys.readouterr().out)
    assert first["drawn"] == 16
    assert (out / f"{first['best'][0]['name']}.onnx").exists()
    assert first["best"][0]["name"].startswith("evolved-")
    main([*arguments, "--force", "--json"])
    assert json.loads(capsys.readouterr().out) | {"wall_s": first["wall_s"]} == first
    main([*arguments, "--force"])
    assert "16 architectures evolved in" in capsys.readouterr().out


def test_without_pymoo_it_is_one_line(
    saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pymoo", None)
    with pytest.raises(SystemExit):
        main(["nas", "-n", "4", "--method", "evolution", "--predictor", saved, "-o", str(tmp_path / "x")])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(r"pymoo is not installed: .*pip install .*\[search\]", line)
    assert not (tmp_path / "x").exists()


def test_bad_input(saved: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="`population` 8: a ranking has none; set `method` to evolution"):
        SearchConfig(population=8)
    with pytest.raises(OptionError, match="`population` 3"):
        SearchConfig(method="evolution", population=3)
    with pytest.raises(OptionError, match="`method`"):
        SearchConfig(method="annealing")  # type: ignore[arg-type]
