"""The identity part of decoded weights: where it is, how large, and where it is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onnx_ghn.ghn import GHN, GHNConfig, new_ghn
from onnx_ghn.graph.layout import Layout
from onnx_ghn.graph.model import ComputationGraph, Node, Primitive
from onnx_ghn.graph.parameter import Parameter, Role

SIZES = {"max_shape": (64, 64, 7, 7), "num_classes": 5, "hid": 8}
SHAPES = {
    "square": (32, 32, 3, 3),
    "one by seven": (32, 32, 1, 7),
    "wide": (128, 64, 1, 1),
    "concatenated": (64, 128, 1, 1),
    "depthwise": (48, 1, 5, 5),
    "grouped": (48, 8, 3, 3),
    "linear": (16, 64),
    "first": (32, 3, 3, 3),
    "head": (5, 16),
}


def chain() -> ComputationGraph:
    """An input, a node a weight, and a bias, one behind the other."""
    names = list(SHAPES)
    parameters = [Parameter(name, Role.weight, Layout(shape)) for name, shape in SHAPES.items()]
    parameters.append(Parameter("head bias", Role.bias, Layout((5,))))
    nodes = [Node(Primitive.input)]
    kinds = {"depthwise": Primitive.sep_conv, "grouped": Primitive.sep_conv}
    nodes += [Node(kinds.get(name, Primitive.conv), SHAPES[name], weight=i, name=name) for i, name in enumerate(names)]
    nodes.append(Node(Primitive.bias, (5,), shift=len(names)))
    edges = np.array([(i, i + 1) for i in range(len(nodes) - 1)])
    return ComputationGraph(tuple(nodes), edges, tuple(parameters))


@pytest.fixture(scope="module")
def ghns() -> tuple[GHN, GHN]:
    """A GHN, and the same one with an identity part."""
    plain = new_ghn(GHNConfig.preset("ghn3", **SIZES), seed=1)
    dirac = new_ghn(GHNConfig.preset("ghn3", dirac=True, **SIZES), seed=1)
    dirac.load_state_dict(plain.state_dict(), strict=False)
    return plain, dirac


def difference(ghns: tuple[GHN, GHN], name: str) -> np.ndarray:
    graph = chain()
    index = [parameter.name for parameter in graph.parameters].index(name)
    plain, dirac = (ghn.blocks(graph)[index].array() for ghn in ghns)
    return dirac - plain


def test_kernels_have_it_at_their_centre(ghns: tuple[GHN, GHN]) -> None:
    for name, (row, column) in (("square", (1, 1)), ("one by seven", (0, 3))):
        found = difference(ghns, name)
        np.testing.assert_allclose(found[:, :, row, column], np.eye(32), atol=1e-6)
        found[:, :, row, column] = 0
        assert not found.any()


def test_tiled_weights_average_equal_inputs(ghns: tuple[GHN, GHN]) -> None:
    wide = difference(ghns, "wide")[:, :, 0, 0]
    np.testing.assert_allclose(wide, np.concatenate([np.eye(64)] * 2), atol=1e-6)
    concatenated = difference(ghns, "concatenated")[:, :, 0, 0]
    np.testing.assert_allclose(concatenated, np.concatenate([np.eye(64)] * 2, axis=1) / 2, atol=1e-6)
    np.testing.assert_allclose(difference(ghns, "linear"), np.eye(16, 64), atol=1e-6)
    np.testing.assert_allclose(difference(ghns, "first")[:, :, 1, 1], np.eye(32, 3), atol=1e-6)


def test_depthwise_kernels_pass_each_channel_on(ghns: tuple[GHN, GHN]) -> None:
    found = difference(ghns, "depthwise")
    np.testing.assert_allclose(found[:, 0, 2, 2], 1, atol=1e-6)
    assert np.count_nonzero(found) == 48


def test_grouped_kernels_pass_each_channel_of_a_group_on(ghns: tuple[GHN, GHN]) -> None:
    kernel = torch.from_numpy(difference(ghns, "grouped"))  # 6 groups of 8
    x = torch.randn(2, 48, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.nn.functional.conv2d(x, kernel, padding=1, groups=6), x, rtol=1e-5, atol=1e-5)


def test_the_classifier_has_none(ghns: tuple[GHN, GHN]) -> None:
    assert not difference(ghns, "head").any()
    assert not difference(ghns, "head bias").any()


def test_other_shifts_reach_the_parts_of_a_concatenation(ghns: tuple[GHN, GHN]) -> None:
    dirac = ghns[1]
    with torch.no_grad():
        before = dirac.dirac.scale.bias.clone()
        dirac.dirac.scale.bias[2] = 0.5  # 32 inputs further on
    found = difference(ghns, "linear")
    with torch.no_grad():
        dirac.dirac.scale.bias.copy_(before)
    np.testing.assert_allclose(found, np.eye(16, 64) + 0.5 * np.eye(16, 64, k=32), atol=1e-6)


def test_training_and_prediction_agree(ghns: tuple[GHN, GHN]) -> None:
    graph = chain()
    (predicted,) = ghns[1]([graph])
    for index, block in ghns[1].blocks(graph).items():
        np.testing.assert_allclose(predicted[index].detach().numpy(), block.array(), rtol=1e-5, atol=1e-6)
