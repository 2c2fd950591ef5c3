"""Standard initialisation by role."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from onnx_ghn.graph import Layout, Parameter, Role
from onnx_ghn.prediction.fallback import standard_init, tensor_rng


def parameter(role: Role, *shape: int, name: str = "p", op: str = "", layout: Layout | None = None) -> Parameter:
    return Parameter(name, role, layout or Layout(shape), op=op)


@pytest.mark.parametrize("shape", [(64, 32, 3, 3), (256, 128)])
def test_weights_are_those_of_he(shape: tuple[int, ...]) -> None:
    values = standard_init(parameter(Role.weight, *shape), 0)
    assert values is not None
    assert values.shape == shape
    assert values.dtype == np.float32
    reference = torch.nn.init.kaiming_normal_(torch.empty(shape), generator=torch.Generator().manual_seed(0)).numpy()
    assert values.std() == pytest.approx(reference.std(), rel=0.03)
    assert abs(values.mean()) < 0.05 * values.std()


def test_a_transposed_weight_has_the_fan_in_of_its_canonical_form() -> None:
    layout = Layout((512, 64)).transpose((1, 0))  # MatMul: in × out
    values = standard_init(parameter(Role.weight, layout=layout), 0)
    assert values is not None
    assert values.shape == (512, 64)
    assert values.std() == pytest.approx(math.sqrt(2 / 512), rel=0.03)


def test_a_3d_kernel_counts_its_depth() -> None:
    """Stored out × in × d × h × w; canonical is the 2-D kernel, repeated along d."""
    layout = Layout((64, 16, 5, 3, 3)).transpose((2, 0, 1, 3, 4)).inflate()
    assert layout.canonical == (64, 16, 3, 3)
    values = standard_init(parameter(Role.weight, layout=layout), 0)
    assert values is not None
    assert values.shape == (64, 16, 5, 3, 3)
    reference = torch.nn.init.kaiming_normal_(torch.empty(64, 16, 5, 3, 3)).numpy()
    assert values.std() == pytest.approx(reference.std(), rel=0.03)
    assert not np.array_equal(values[:, :, 0], values[:, :, 1])


@pytest.mark.parametrize("role", [Role.embedding, Role.position])
def test_tables(role: Role) -> None:
    values = standard_init(parameter(role, 400, 50), 0)
    assert values is not None
    assert values.std() == pytest.approx(0.02, rel=0.03)


def test_scales_are_one_and_shifts_are_zero() -> None:
    assert (standard_init(parameter(Role.norm_scale, 7), 0) == 1).all()  # type: ignore[union-attr]
    for role in (Role.bias, Role.norm_bias):
        assert (standard_init(parameter(role, 7), 0) == 0).all()  # type: ignore[union-attr]
    assert (standard_init(parameter(Role.other, 7, 1, 1, op="PRelu"), 0) == 0.25).all()  # type: ignore[union-attr]
    assert standard_init(parameter(Role.other, 7), 0) is None
    assert standard_init(parameter(Role.statistic, 7), 0) is None


def test_numbers_depend_on_name_and_seed_alone() -> None:
    def draw(name: str, seed: int) -> np.ndarray:
        values = standard_init(parameter(Role.weight, 16, 16, name=name), seed)
        assert values is not None
        return values

    forward = [draw(name, 3) for name in "abc"]
    backward = [draw(name, 3) for name in "cba"][::-1]
    for one, other in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(forward[0], forward[1])
    assert not np.array_equal(draw("a", 3), draw("a", 4))
    assert tensor_rng("ä/ö", 0).random() == tensor_rng("ä/ö", 0).random()
