"""Tensors of random numbers are drawn once in a prediction, and each time where there is no room to hold them."""

from pathlib import Path

import numpy as np
import pytest

from onnx_ghn.prediction import draws, making, predict
from onnx_ghn.prediction.draws import Draws

EXAMPLE = Path(__file__).parents[2] / "data" / "examples" / "resnet18_cifar10.onnx"


def test_what_has_room_is_drawn_once() -> None:
    rng = np.random.default_rng(0)
    held = Draws(limit_bytes=64)
    first = held.take("a", lambda: rng.standard_normal(8))
    assert held.take("a", lambda: rng.standard_normal(8)) is first
    too_large = held.take("b", lambda: rng.standard_normal(1))  # the room of 64 bytes is full
    assert not np.array_equal(held.take("b", lambda: rng.standard_normal(1)), too_large)
    assert too_large.flags.writeable


def test_what_is_held_cannot_be_changed() -> None:
    """A caller who writes into an array would change what the file gets."""
    array = Draws().take("a", lambda: np.zeros(3))
    with pytest.raises(ValueError, match="read-only"):
        array += 1


@pytest.mark.parametrize("calibrate", ["none", "noise"])
def test_a_prediction_draws_each_tensor_once(calibrate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    separate, standard = making.separate_copies, making.standard_init

    def count(values, name, *options):  # type: ignore[no-untyped-def]
        drawn.append(name)
        return separate(values, name, *options)

    def count_standard(parameter, seed):  # type: ignore[no-untyped-def]
        drawn.append(parameter.name)
        return standard(parameter, seed)

    monkeypatch.setattr(making, "separate_copies", count)
    monkeypatch.setattr(making, "standard_init", count_standard)
    once = {name: np.array(values) for name, values in predict(EXAMPLE, calibrate=calibrate).items()}
    assert len(drawn) > 15
    assert sorted(drawn) == sorted(set(drawn))

    drawn.clear()
    monkeypatch.setattr(draws.Draws.__init__, "__defaults__", (0,))  # room for nothing
    anew = predict(EXAMPLE, calibrate=calibrate)
    assert set(anew) == set(once)
    for name, values in once.items():
        np.testing.assert_array_equal(anew[name], values)
    assert len(drawn) >= 2 * len(set(drawn))
