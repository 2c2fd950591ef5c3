"""Files of architectures: official and compact, round trips, damage."""

from __future__ import annotations

import itertools
import json
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from onnx_ghn.deepnets1m import Architecture, generate, open_deepnets, stream, symbolic_graph, write_official
from onnx_ghn.errors import DataError, ModelWriteError, OnnxGhnError, OptionError
from onnx_ghn.graph import ComputationGraph


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated official file; its JSON is beside it."""
    path = tmp_path_factory.mktemp("official") / "deepnets1m_eval.hdf5"
    splits = {split: list(itertools.islice(stream(split, 4), 6)) for split in ("val", "wide", "bnfree")}
    write_official(path, splits)
    return path


@pytest.fixture(scope="module")
def compact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compact") / "wide.jsonl"
    generate("wide", 70, 4, path)
    return path


def copied(pair: Path, folder: Path) -> tuple[Path, Path]:
    meta = pair.with_name("deepnets1m_eval_meta.json")
    return Path(shutil.copy(pair, folder)), Path(shutil.copy(meta, folder))


def assert_equal(ours: ComputationGraph, theirs: ComputationGraph) -> None:
    assert np.array_equal(ours.primitives, theirs.primitives)
    assert np.array_equal(ours.edges, theirs.edges)
    assert [(n.shape, n.weight, n.scale, n.shift) for n in ours.nodes] == [
        (n.shape, n.weight, n.scale, n.shift) for n in theirs.nodes
    ]
    assert ours.parameters == theirs.parameters
    assert ours.head == theirs.head


def test_official_round_trip(pair: Path) -> None:
    with open_deepnets(pair) as nets:
        assert nets.splits == ("val", "wide", "bnfree")
        assert len(nets) == 18
        for split in nets.splits:
            assert nets.count(split) == 6
            for i, architecture in enumerate(itertools.islice(stream(split, 4), 6)):
                assert nets.record(split, i).architecture == architecture
                widened = architecture.replace(C=128) if split == "wide" else architecture
                assert nets.architecture(split, i) == widened
                assert_equal(nets.graph(split, i), symbolic_graph(widened))
            assert nets.n_nodes(split).tolist() == [record.n_nodes for record in nets.records(split)]
        large = nets.architecture("wide", 0, large_images=True)
        assert large.C == 64
        assert_equal(nets.graph("wide", 0, 1000, large_images=True), symbolic_graph(large, 1000, large_images=True))


def test_the_official_form_is_what_the_published_loader_reads(pair: Path) -> None:
    meta = json.loads(pair.with_name("deepnets1m_eval_meta.json").read_text())["val"]
    names = {int(k): v for k, v in meta["meta"]["unique_op_names"].items()}
    kinds = {int(k): v for k, v in meta["meta"]["primitives_ext"].items()}
    assert {"input", "conv", "conv_1x1", "glob_avg", "bias"} <= set(kinds.values())
    needed = (
        "norm ks preproc glob_avg stem_pool C_mult n_cells fc_layers C fc_dim stem_type num_nodes num_params genotype"
    )
    with h5py.File(pair) as h5:
        assert h5.attrs["title"] == "DeepNets-1M"
        for i, net in enumerate(meta["nets"]):
            assert set(net) == set(needed.split())
            assert set(net["num_params"]) == {"cifar10", "imagenet"}
            adj, nodes = h5[f"val/{i}/adj"][()], h5[f"val/{i}/nodes"][()]
            assert (adj.dtype, nodes.dtype) == (np.uint8, np.uint16)
            assert adj.shape == (net["num_nodes"],) * 2
            assert nodes.shape == (net["num_nodes"], 3)
            assert not np.tril(adj).any()
            assert np.array_equal(adj, symbolic_graph(Architecture.from_dict(net)).distances(250))
            assert (np.diff(nodes[:, 1].astype(int)) >= 0).all()  # cell by cell
            assert [names[number] for number in nodes[-2:, 2]] == [
                f"classifier.{3 * net['fc_layers'] - 3}.{end}" for end in ("weight", "bias")
            ]


def test_an_official_file_is_the_same_for_the_same_nets(pair: Path, tmp_path: Path) -> None:
    splits = {split: itertools.islice(stream(split, 4), 6) for split in ("val", "wide", "bnfree")}
    write_official(tmp_path / "again.hdf5", splits)
    assert (tmp_path / "again.hdf5").read_bytes() == pair.read_bytes()
    meta = pair.with_name("deepnets1m_eval_meta.json")
    assert (tmp_path / "again_meta.json").read_bytes() == meta.read_bytes()


def test_official_targets(pair: Path, tmp_path: Path) -> None:
    h5, meta = copied(pair, tmp_path)
    before = meta.read_bytes()
    with pytest.raises(ModelWriteError, match="exists already"):
        write_official(h5, {"val": []})
    with pytest.raises(OptionError, match=r"must end in \.hdf5"):
        write_official(tmp_path / "nets.json", {"val": []})
    with pytest.raises(ModelWriteError, match="there is no folder"):
        write_official(tmp_path / "absent" / "nets.hdf5", {"val": []})
    with pytest.raises(ZeroDivisionError):
        write_official(h5, {"val": (1 // 0 for _ in range(1))}, force=True)
    assert meta.read_bytes() == before  # a failure changes nothing, and leaves nothing
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deepnets1m_eval.hdf5", "deepnets1m_eval_meta.json"]
    write_official(h5, {"val": []}, force=True)
    assert open_deepnets(h5).count("val") == 0


def test_compact_file(compact: Path) -> None:
    with open_deepnets(compact) as nets:
        assert nets.splits == ("wide",)
        assert len(nets) == 70
        drawn = list(itertools.islice(stream("wide", 4), 70))
        assert [record.architecture for record in nets.records("wide")] == drawn
        assert nets.architecture("wide", 3).C == 128
        assert_equal(nets.graph("wide", 3), symbolic_graph(drawn[3].replace(C=128)))
        assert nets.n_nodes("wide").tolist() == [len(symbolic_graph(a)) for a in drawn]
        for index in (-1, 70):
            with pytest.raises(OptionError, match=f"no architecture {index} in split wide; there are 0 to 69"):
                nets.record("wide", index)
        with pytest.raises(OptionError, match="no split 'train'; there are wide"):
            nets.record("train", 0)
    assert compact.stat().st_size < 70 * 160


def test_open_files_go_to_other_processes(pair: Path, compact: Path) -> None:
    for path in (pair, compact):
        with open_deepnets(path) as nets:
            nets.graph("wide", 2)
            with pickle.loads(pickle.dumps(nets)) as copy:
                assert_equal(copy.graph("wide", 2), nets.graph("wide", 2))


def test_absent_and_foreign_files(pair: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        open_deepnets(tmp_path / "absent.hdf5")
    with pytest.raises(DataError, match="is a folder"):
        open_deepnets(tmp_path)
    (tmp_path / "text.hdf5").write_text("not HDF5")
    (tmp_path / "text_meta.json").write_text("{}")
    with pytest.raises(DataError, match="is no HDF5 file"):
        open_deepnets(tmp_path / "text.hdf5")
    h5, meta = copied(pair, tmp_path)
    meta.unlink()
    with pytest.raises(DataError, match=r"_meta\.json: cannot be read \(no such file"):
        open_deepnets(h5)
    for text in ("", "[1, 2]\n", '{"format": "other"}\n', "\0" * 300):
        (tmp_path / "text.jsonl").write_text(text)
        with pytest.raises(DataError, match="not a file of architectures"):
            open_deepnets(tmp_path / "text.jsonl")


def read_all(path: Path) -> None:
    with open_deepnets(path) as nets:
        for split in nets.splits:
            nets.n_nodes(split)
            for i in range(nets.count(split)):
                nets.graph(split, i)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.9, 0.999])
def test_truncated_official_files(pair: Path, tmp_path: Path, share: float) -> None:
    h5, meta = copied(pair, tmp_path)
    text, data = meta.read_bytes(), h5.read_bytes()
    meta.write_bytes(text[: int(share * len(text))])
    with pytest.raises(DataError, match="is not JSON, or is truncated") as told:
        read_all(h5)
    assert "\n" not in str(told.value)
    meta.write_bytes(text)
    h5.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match="truncated or damaged"):
        read_all(h5)


def test_damaged_official_files(pair: Path, tmp_path: Path) -> None:
    h5, meta = copied(pair, tmp_path)
    good = json.loads(meta.read_text())

    bias = next(k for k, name in good["val"]["meta"]["unique_op_names"].items() if name == "classifier.0.bias")

    def told(pattern: str) -> None:
        with pytest.raises(DataError, match=pattern):
            read_all(h5)

    for pattern, where, value in (
        ("has no list of nets", ("val", "nets"), 3),
        ("has no table 'unique_op_names'", ("val", "meta"), {"primitives_ext": {}}),
        ("num_nodes of split val is damaged", ("val", "nets", 0, "num_nodes"), None),
        ("net 1 of split val is damaged", ("val", "nets", 1, "genotype"), {"normal": 3}),
        ("net 1 of split val is damaged", ("val", "nets", 1, "n_cells"), "many"),
        ("must be unsigned integers", ("val", "nets", 0, "num_nodes"), 7),
        ("would need", ("val", "nets", 0, "num_nodes"), 10**7),
        ("names nothing in its meta", ("val", "meta", "unique_op_names"), {}),
        ("is of no known kind", ("val", "meta", "primitives_ext", "0"), "teapot"),
        ("teapot.* is no parameter of its network", ("val", "meta", "unique_op_names", bias), "teapot.bias"),
    ):
        bad = json.loads(json.dumps(good))
        place = bad
        for key in where[:-1]:
            place = place[key]  # type: ignore[index]
        place[where[-1]] = value  # type: ignore[index]
        meta.write_text(json.dumps(bad))
        told(pattern)
    meta.write_text(json.dumps(good))
    with h5py.File(h5, "r+") as file:
        lengths = file["val/0/adj"][()]
        lengths[5, 1] = 1
        file["val/0/adj"][...] = lengths
    told("not in topological order")
    with h5py.File(h5, "r+") as file:
        del file["val/0/adj"]
    told("val/0/adj: is absent or damaged")
    with h5py.File(h5, "r+") as file:
        file["val/0/adj"] = np.zeros(lengths.shape)
    told("must be unsigned integers")
    with h5py.File(h5, "w") as file:
        file.create_group("test")
    told("holds none of the splits")


def test_random_damage_is_told_in_one_line(compact: Path, tmp_path: Path) -> None:
    data = compact.read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.jsonl"
    for _ in range(60):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_all(path)
        except OnnxGhnError as error:
            assert "\n" not in str(error)  # noqa: PT017 - some damage gives another, valid file


def test_an_unfinished_last_line_is_not_there(compact: Path, tmp_path: Path) -> None:
    lines = compact.read_bytes().splitlines(keepends=True)
    path = tmp_path / "cut.jsonl"
    path.write_bytes(b"".join(lines[:5]) + lines[5][:-1])
    with open_deepnets(path) as nets:
        assert len(nets) == 4
        assert len(list(nets.records("wide"))) == 4
        assert len(nets.n_nodes("wide")) == 4
