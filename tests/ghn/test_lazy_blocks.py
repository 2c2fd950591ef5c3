"""Blocks are decoded when they are asked for, group by group, and are what they are when all are decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from onnx_ghn import predict
from onnx_ghn.ghn.array_network import ArrayGHN
from onnx_ghn.ghn.lazy_blocks import LazyBlocks
from onnx_ghn.ghn.targets import Target

EXAMPLES = Path(__file__).parents[2] / "data" / "examples"


def _target(parameter: int, node: int, size: int) -> Target:
    return Target("scale", 0, node, parameter, (size,), tiled=(size,))


class _Decoder:
    """Gives each target of a group its node's number, four times, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __call__(self, group: list[Target]) -> npt.NDArray[np.float32]:
        self.asked.append([target.parameter for target in group])
        return np.array([[target.node] * 4 for target in group], np.float32)


def test_only_the_groups_that_are_asked_for_are_decoded_and_each_once() -> None:
    decode = _Decoder()
    blocks = LazyBlocks([[_target(0, 5, 4), _target(3, 6, 2)], [_target(7, 8, 4)]], decode)
    assert (list(blocks), len(blocks)) == ([0, 3, 7], 3)
    assert 3 in blocks
    assert 1 not in blocks
    assert blocks.get(1) is None
    assert decode.asked == []
    np.testing.assert_array_equal(blocks[3].array(), np.full(2, 6, np.float32))
    np.testing.assert_array_equal(blocks[0].array(), np.full(4, 5, np.float32))
    assert decode.asked == [[0, 3]]
    with pytest.raises(KeyError):
        blocks[1]


def test_a_tensor_that_two_nodes_decode_is_the_last_ones_whichever_is_asked_for_first() -> None:
    groups = [[_target(0, 1, 4), _target(1, 2, 4)], [_target(0, 3, 4)], [_target(2, 4, 4), _target(2, 5, 4)]]
    for order in ((0, 1, 2), (1, 0, 2), (2, 1, 0)):
        blocks = LazyBlocks(groups, _Decoder())
        assert {index: float(blocks[index].values[0]) for index in order} == {0: 3.0, 1: 2.0, 2: 5.0}


def _count_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    passes: list[int] = []
    whole = ArrayGHN._embed

    def counted(self: ArrayGHN, graph: object) -> object:
        passes.append(1)
        return whole(self, graph)  # type: ignore[arg-type]

    monkeypatch.setattr(ArrayGHN, "_embed", counted)
    return passes


def test_nothing_passes_through_the_ghn_where_a_file_keeps_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = _count_passes(monkeypatch)
    predict(EXAMPLES / "resnet18_cifar10.onnx", policy="none", calibrate="none")
    assert passes == []
    predict(EXAMPLES / "resnet18_cifar10.onnx", policy="all", calibrate="none")
    assert passes == [1]


def test_nothing_passes_through_the_ghn_where_everything_is_inherited(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    donor = tmp_path / "donor.onnx"
    predict(EXAMPLES / "resnet18_cifar10.onnx", donor, policy="all", calibrate="none")
    passes = _count_passes(monkeypatch)

    predict(EXAMPLES / "resnet18_cifar10.onnx", donors=[donor], calibrate="none")
    assert passes == []
    predict(EXAMPLES / "resnet18_cifar10.onnx", donors=[donor], calibrate="none", blend=0.5)
    assert passes == [1]
