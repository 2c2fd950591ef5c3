"""Weights are found whatever was done to them, and what was computed is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_ghn.errors import CheckpointError
from onnx_ghn.exporters import weight_map
from onnx_ghn.exporters.weight_map import Codes, Strided, WeightMap

SHAPES = {"kernel": (3, 4, 5), "gates": (8, 6), "bias": (8,), "scale": (), "empty": (0, 3)}


def stored_of(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As an exporter might store them: transposed, split and reordered, joined."""
    first, second = np.split(values["gates"], 2)
    return {
        "const_1": values["kernel"].transpose(2, 0, 1).reshape(5, 12),
        "const_2": np.concatenate([second, first]).T.astype(np.float64),
        "const_3": np.concatenate([values["bias"], values["scale"].reshape(1), np.zeros(3, np.float32)]),
        "unrelated": np.linspace(-1, 0, 7, dtype=np.float32),
        "counts": np.arange(5),
    }


def test_every_element_is_found() -> None:
    codes = Codes(SHAPES)
    values = {name: codes.values(name) for name in SHAPES}
    assert len(np.unique(np.concatenate([v.ravel() for v in values.values()]))) == 60 + 48 + 8 + 1
    mapped = codes.locate(stored_of(values))
    assert mapped.unmatched == {}
    assert "unrelated" not in mapped.stored
    rng = np.random.default_rng(0)
    new = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    for one in (mapped, WeightMap.from_json(mapped.to_json())):
        found = one.collect(stored_of(new))
        for name, expected in new.items():
            np.testing.assert_array_equal(found[name], expected)


def test_what_was_computed_is_missing() -> None:
    codes = Codes({"folded": (4, 3), "half": (4,), "kept": (2,)})
    values = {name: codes.values(name) for name in codes.shapes}
    stored = {
        "a": values["folded"] * np.float32(1.7),
        "b": values["half"][:3],
        "c": values["kept"],
        "quantised": values["folded"].astype(np.int8),
    }
    mapped = codes.locate(stored)
    assert mapped.unmatched == {"folded": 12, "half": 1}
    assert set(mapped.places) == {"kept"}


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(4)), st.tuples(*[st.integers(1, 5)] * 4))
def test_any_permutation(axes: list[int], shape: tuple[int, ...]) -> None:
    codes = Codes({"w": shape})
    mapped = codes.locate({"t": codes.values("w").transpose(axes)})
    new = np.random.default_rng(1).standard_normal(shape)
    np.testing.assert_array_equal(mapped.collect({"t": new.transpose(axes)})["w"], new)


def test_a_large_trace_is_small() -> None:
    codes = Codes({"w": (512, 256, 3, 3)})
    text = codes.locate({"t": codes.values("w").transpose(2, 3, 1, 0)}).to_json()
    assert len(text) < 200
    halves = np.split(codes.values("w").transpose(2, 3, 1, 0), 2, axis=-1)
    text = codes.locate({"t": halves[1], "u": halves[0]}).to_json()
    assert len(text) < 50_000


def test_constants_are_not_taken_for_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """As among sixty million weights, where codes are numbers about 1."""
    monkeypatch.setattr(weight_map, "_FIRST", int(np.float32(1).view(np.int32)) - (1 << 20))
    codes = Codes({"w": (1 << 21,)})
    values = codes.values("w")
    assert values[0] < 0.95
    assert values[-1] > 1.1
    assert not np.isin([0.9375, 1, 1.0625], values).any()
    constant = values[-3:-2].copy()  # as if somebody had written this very number
    mapped = codes.locate({"first": constant, "weights": values, "last": constant})
    assert set(mapped.stored) == {"weights"}
    assert mapped.places["w"] == Strided(0, (1,))


def test_other_files_and_damaged_traces_are_refused() -> None:
    codes = Codes({"w": (4, 3)})
    mapped = codes.locate({"t": codes.values("w")})
    with pytest.raises(CheckpointError, match="tensor t is absent"):
        mapped.collect({"u": np.zeros((4, 3))})
    with pytest.raises(CheckpointError, match=r"tensor t is \(3, 4\)"):
        mapped.collect({"t": np.zeros((3, 4))})
    text = mapped.to_json()
    for broken in (
        "",
        "[]",
        "{}",
        text[:-20],
        text.replace('"w":[4,3]', '"w":[4000000,3]'),
        text.replace(":1,", ":9,"),
    ):
        with pytest.raises(CheckpointError):
            WeightMap.from_json(broken)
