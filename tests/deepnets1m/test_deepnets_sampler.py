"""Random architectures against the published rules (experiments/net_generator.py of facebookresearch/ppuda)."""

from __future__ import annotations

import collections
import itertools

import numpy as np
import pytest
import torch

from onnx_ghn.deepnets1m import SPLITS, Architecture, predefined, sample, sample_width, stream, stream_records
from onnx_ghn.deepnets1m.genotypes import OPERATIONS
from onnx_ghn.deepnets1m.network import Network
from onnx_ghn.deepnets1m.symbolic import count_trainable, n_trainable, symbolic_graph
from onnx_ghn.errors import GraphError, OptionError

# Fewest and most steps, most in deep nets, fewest and most cells, the thresholds of depth.
RULES = {
    **dict.fromkeys(("train", "val", "test", "wide", "bnfree"), (1, 4, 2, 4, 18, range(7, 11))),
    "deep": (1, 4, 2, 10, 36, (18,)),
    "dense": (2, 10, 6, 4, 18, range(7, 11)),
    "search": (1, 6, 3, 6, 20, (10,)),
}
N_DRAWN = 1500


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Architecture | None]]:
    return {split: [sample(split, np.random.default_rng([5, i])) for i in range(N_DRAWN)] for split in SPLITS}


def n_steps(architecture: Architecture) -> int:
    return len(architecture.genotype.normal) // 2


def near(share: float, expected: float, n: int) -> bool:
    """Within four standard errors."""
    return abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / n)


@pytest.mark.parametrize("split", SPLITS)
def test_ranges_of_a_split(split: str, drawn: dict[str, list[Architecture | None]]) -> None:
    fewest, most, most_deep, fewest_cells, most_cells, deep = RULES[split]
    kept = [a for a in drawn[split] if a is not None]
    assert {n_steps(a) for a in kept} == set(range(fewest, most + 1))
    assert {a.n_cells for a in kept} == set(range(fewest_cells, most_cells + 1))
    assert all(n_steps(a) <= most_deep for a in kept if a.n_cells > max(deep))
    assert any(n_steps(a) > most_deep for a in kept)
    for a in kept:
        genotype, operations = a.genotype, a.genotype.operations
        assert len(genotype.reduce) == len(genotype.normal)
        for cell in (genotype.normal, genotype.reduce):
            for step in range(n_steps(a)):
                first, second = (state for _, state in cell[2 * step : 2 * step + 2])
                assert first != second
                assert max(first, second) < step + 2
        assert genotype.normal_concat == genotype.reduce_concat
        assert genotype.normal_concat[-1] == n_steps(a) + 1  # the last sum is never dropped
        assert "none" not in operations or n_steps(a) > 1
        assert a.preproc or (n_steps(a) == 1 and a.C_mult == 1)
        assert a.glob_avg or not (genotype.is_vit or a.n_cells > max(deep))
        assert not (a.stem_pool and a.stem_type == 1)
        if split == "bnfree":
            assert a.norm is None
        elif split == "search" or a.n_cells > fewest_cells + 1 or n_steps(a) > most_deep:
            assert a.norm == "bnorm"
    assert {a.ks for a in kept} == {3, 5, 7}
    assert {a.fc_layers for a in kept} == {1, 2}
    assert {a.C_mult for a in kept} == {1, 2}
    assert {a.norm for a in kept} == (
        {None} if split == "bnfree" else {"bnorm"} if split == "search" else {"bnorm", None}
    )


@pytest.mark.parametrize("split", SPLITS)
def test_what_the_published_generator_leaves_out(split: str, drawn: dict[str, list[Architecture | None]]) -> None:
    assert None in drawn[split]
    for a in drawn[split]:
        if a is None:
            continue
        operations = a.genotype.operations
        learns = {"msa", "cse"} & set(operations) or any("conv" in operation for operation in operations)
        assert learns
        assert "cse" not in operations or any("conv" in operation for operation in operations)
        for cell in (a.genotype.normal, a.genotype.reduce):
            names = collections.Counter(operation for operation, _ in cell)
            assert names["cse"] <= 1
            assert names["conv_5x5"] + names["conv_7x7"] <= 1


def test_shares(drawn: dict[str, list[Architecture | None]]) -> None:
    kept = [a for a in drawn["train"] if a is not None]
    n = len(kept)
    assert near(sum(a.stem_type for a in kept) / n, 1 / 2, n)
    assert near(sum(a.fc_layers == 2 for a in kept) / n, 1 / 2, n)
    assert near(sum(a.ks == 5 for a in kept) / n, 1 / 3, n)
    assert near(sum(a.C_mult == 2 for a in kept) / n, 1 / 2, n)
    simple = [a for a in kept if a.stem_type == 0]
    assert near(sum(a.stem_pool for a in simple) / len(simple), 1 / 2, len(simple))
    shallow = [a for a in kept if not a.genotype.is_vit and a.n_cells <= 7]
    assert near(sum(not a.glob_avg for a in shallow) / len(shallow), 1 / 10, len(shallow))
    free = [a for a in kept if n_steps(a) == 1 and a.C_mult == 1 and a.genotype.is_vit]
    assert near(sum(a.preproc for a in free) / len(free), 1 / 5, len(free))
    # Half of the reduction cells are of pools and skips only; of the others a few are so by chance.
    pools = {"none", "max_pool_3x3", "avg_pool_3x3", "skip_connect"}
    share = sum(all(operation in pools for operation, _ in a.genotype.reduce) for a in kept) / n
    assert 0.35 < share < 0.6
    # No operation is preferred, but for those whose pairs are left out.
    counts = collections.Counter(op for a in kept if n_steps(a) > 1 for op, _ in a.genotype.normal)
    alike = [counts[op] for op in OPERATIONS if op not in ("cse", "conv_5x5", "conv_7x7")]
    assert max(alike) < 1.35 * min(alike)


def test_streams_repeat_and_go_on() -> None:
    first = list(itertools.islice(stream("train", 3), 100))
    assert first == list(itertools.islice(stream("train", 3), 100))
    assert first[70:] == list(itertools.islice(stream("train", 3, start=70), 30))
    assert first[:5] != list(itertools.islice(stream("train", 4), 5))
    assert first[:5] != list(itertools.islice(stream("val", 3), 5))
    with pytest.raises(OptionError, match="no split 'predefined'"):
        stream("predefined", 0)


@pytest.mark.parametrize("split", SPLITS)
def test_streamed_nets_are_whole_and_within_their_size(split: str) -> None:
    most = 10**8 if split in ("deep", "dense") else 10**7
    for record in itertools.islice(stream_records(split, 1), 20):
        graph = symbolic_graph(record.architecture)
        large = symbolic_graph(record.architecture, large_images=True)
        assert (record.n_nodes, record.n_params, record.n_params_large) == (
            len(graph),
            n_trainable(graph),
            n_trainable(large),
        )
        assert max(record.n_params, record.n_params_large) <= most
        assert count_trainable(record.architecture, 100) == n_trainable(symbolic_graph(record.architecture, 100))


def test_widths_in_training() -> None:
    rng = np.random.default_rng(0)
    for record in itertools.islice(stream_records("train", 2), 200):
        widened = sample_width(record.architecture, record.n_params, rng)
        operations = widened.genotype.operations
        assert widened.C in range(32, 129, 16)
        assert widened.fc_dim in range(64, 513, 64)
        heavy = record.n_params > 800_000 or not widened.glob_avg or widened.n_cells > 12
        if heavy or "conv_5x5" in operations or "conv_7x7" in operations:
            assert (widened.C, widened.fc_dim <= 256) == (32, True)
        elif record.n_params > 400_000 or widened.n_cells > 10:
            assert widened.C <= 48
        elif record.n_params > 200_000 or widened.n_cells > 8:
            assert widened.C <= 64
        assert widened.fc_dim <= 256 or widened.C <= 64


def test_predefined_nets() -> None:
    nets = dict(predefined())
    assert list(nets) == ["ResNet-50", "ViT", "DARTS", "PDARTS"]
    assert nets["ResNet-50"] == "resnet50"
    vit, darts = nets["ViT"], nets["DARTS"]
    assert isinstance(vit, Architecture)
    assert isinstance(darts, Architecture)
    # A block of ViT at C = 128: two layer norms, qkv without biases, three linear layers with.
    block = 2 * 2 * 128 + 3 * 128 * 128 + 3 * (128 * 128 + 128)
    n_blocks = 12 - 2  # two cells pool
    assert n_trainable(symbolic_graph(vit)) == 3 * 128 * 9 + 128 * 11 * 11 + n_blocks * block + 128 * 10 + 10
    assert n_trainable(symbolic_graph(darts)) == pytest.approx(3.3e6, rel=0.05)  # as published for CIFAR-10, 36 × 20
    large = dict(predefined(large_images=True))["DARTS"]
    assert isinstance(large, Architecture)
    assert (large.C, large.n_cells) == (48, 14)


def test_widths_of_which_no_network_can_be_built() -> None:
    nets = dict(predefined())
    for name, width, reason in (("DARTS", 37, "even"), ("ViT", 6, "heads"), ("DARTS", 0, "integer")):
        with pytest.raises(OptionError, match=f"C is {width}, must be .*{reason}"):
            nets[name].replace(C=width)
    images = torch.zeros(2, 3, 32, 32)
    for name, width in (("DARTS", 2), ("ViT", 8)):
        assert Network(nets[name].replace(C=width, n_cells=3))(images).shape == (2, 10)


def test_disconnected() -> None:
    cut = {"normal": [["none", 0], ["none", 1]], "normal_concat": [2]}
    genotype = {**cut, "reduce": cut["normal"], "reduce_concat": [2]}
    with pytest.raises(GraphError, match="cut every path"):
        symbolic_graph(Architecture.from_dict({"genotype": genotype, "n_cells": 4}))
