"""Shapes from symbols: equal symbols, sums of symbols, and what contradicts them."""

from __future__ import annotations

from typing import Any

import pytest
from shape_models import text_net, two_inputs

from onnx_ghn.errors import OptionError
from onnx_ghn.profiling.sizing import batch_symbols, candidate_shapes, described, symbols_of
from onnx_ghn.profiling.specs import InputSpec, model_spec
from onnx_ghn.profiling.symbols import as_symbol, sum_of


def spec(name: str, *dims: int | str | None) -> InputSpec:
    numbers = tuple(dim if isinstance(dim, int) else None for dim in dims)
    return InputSpec(name, "int64", numbers, symbols=tuple(dim if isinstance(dim, str) else None for dim in dims))


IDS, MASK = spec("ids", "batch", "sequence"), spec("mask", "batch", "past + sequence")
PAST, PLACES = spec("past", "batch", 4, "past", 16), spec("places", "sequence")
EVERY = [IDS, MASK, PAST, PLACES]


def first(specs: list[InputSpec], **options: Any) -> dict[str, tuple[int, ...]]:
    return dict(next(candidate_shapes(specs, **options)).shapes)


@pytest.mark.parametrize(
    ("text", "factors", "constant"),
    [
        ("sequence", {"sequence": 1}, 0),
        ("past_sequence_length + 1", {"past_sequence_length": 1}, 1),
        ("s0 + 2*s1 - 3", {"s0": 1, "s1": 2}, -3),
        ("-(a - 2)", {"a": -1}, 2),
        ("a - a", {"a - a": 1}, 0),  # says nothing of a, so that it is a symbol of its own
        ("batch x heads", {"batch x heads": 1}, 0),
        ("n // 2", {"n // 2": 1}, 0),
        ("a*b", {"a*b": 1}, 0),
        ("DynamicDimension.0", {"DynamicDimension.0": 1}, 0),
        ("(" * 300, {"(" * 300: 1}, 0),
    ],
)
def test_sums(text, factors, constant) -> None:
    found = sum_of(text)
    assert (dict(found.factors), found.constant) == (factors, constant)


def test_unnamed_dimensions_are_no_symbols() -> None:
    assert [as_symbol(value) for value in ("", "?", "None", None, 3, "n")] == [None] * 5 + ["n"]


def test_a_sum_is_solved_for_what_is_open() -> None:
    total = sum_of("past + 2*sequence + 1")
    assert total.size({"past": 3, "sequence": 4}) == 12
    assert total.size({"past": 3}) is None
    assert total.solved(12, {"past": 3}) == ("sequence", 4)
    assert total.solved(13, {"past": 3}) is None  # 4.5
    assert total.solved(2, {"past": 3}) is None  # below 0
    assert total.solved(12, {}) is None


def test_equal_symbols_have_equal_sizes() -> None:
    expected = {"ids": (2, 7), "mask": (2, 12), "past": (2, 4, 5, 16), "places": (7,)}
    assert first(EVERY, batch=2, sizes={"sequence": 7, "past": 5}) == expected
    assert first(EVERY, shapes={"ids": (2, 7), "past": (2, 4, 5, 16)}) == expected
    # A sum that is told gives the symbol in it that is not.
    assert first(EVERY, shapes={"mask": (2, 12), "places": (7,)}) == expected
    assert first(EVERY, batch=2, shapes={"mask": (2, 12)}, sizes={"past": 5}) == expected
    assert first([IDS, PLACES], sizes={"sequence": 3}) == {"ids": (1, 3), "places": (3,)}
    assert first(EVERY, sizes={"past": 0, "sequence": 2})["mask"] == (1, 2)


def test_what_is_free_is_chosen_once() -> None:
    tried = [(dict(one.shapes), one.chosen) for one in candidate_shapes([IDS, spec("mask", "batch", "sequence")])]
    assert tried == [
        ({"ids": (1, 64), "mask": (1, 64)}, ("sequence 64",)),
        ({"ids": (1, 16), "mask": (1, 16)}, ("sequence 16",)),
    ]


def test_a_symbol_that_stands_later_too_is_no_batch() -> None:
    assert batch_symbols([IDS, PLACES]) == {"batch"}
    assert batch_symbols([spec("a", "n", "n")]) == {"n"}
    assert first([IDS, PLACES], batch=5, sizes={"sequence": 3}) == {"ids": (5, 3), "places": (3,)}
    assert first([spec("x", "batch", 4), spec("twice", "2*batch", 4)], batch=3) == {"x": (3, 4), "twice": (6, 4)}
    assert first([spec("twice", "2*batch", 4)], batch=4) == {"twice": (4, 4)}


def test_files_tell_their_symbols(save) -> None:
    specs = list(model_spec(save(text_net())).inputs)
    assert described(specs) == "ids [batch, sequence], mask [batch, sequence]"
    assert symbols_of(specs) == ("batch", "sequence")
    assert specs[0] == InputSpec("ids", "int64", (None, None), 50, ("batch", "sequence"))
    specs = list(model_spec(save(two_inputs((None, 3), ("?", "a+1")))).inputs)
    assert described(specs) == "a [?, 3], b [?, a+1]"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sizes": {"sequenc": 3}}, "no input has that symbol.*did you mean sequence"),
        ({"shapes": {"ids": (1, 3), "places": (4,)}}, r"'sequence' is 3 by input 'ids' and 4 by input 'places'"),
        ({"shapes": {"ids": (1, 3)}, "sizes": {"sequence": 4}}, "'sequence' is 4 by `size` and 3 by input 'ids'"),
        ({"shapes": {"ids": (1, 9), "mask": (1, 5)}}, r"'past \+ sequence' of input 'mask' cannot be 5"),
        ({"batch": 2, "shapes": {"ids": (1, 3)}, "sizes": {"batch": 1}}, "`batch` 2: no input has a batch dimension"),
        ({"shapes": {"ids": (1, 3, 3)}}, r"has 3 dimensions, input 'ids' has 2: ids \[batch, sequence\]"),
        ({"shapes": {"id": (1, 3)}}, r"no input 'id'; its inputs are ids \[batch, sequence\], mask"),
    ],
)
def test_contradictions(options, words) -> None:
    with pytest.raises(OptionError, match=words):
        first(EVERY, **options)
    with pytest.raises(OptionError, match="would be -1; choose other sizes"):
        first([spec("x", 1, "n - 3")], sizes={"n": 2})
