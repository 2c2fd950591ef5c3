"""Arguments of the wrong type end in one line that names them, before any work is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnx_ghn import PredictOptions, load_ghn, predict
from onnx_ghn.arguments import listed, path_given, value_told
from onnx_ghn.errors import OptionError

MODEL = Path(__file__).parents[1] / "data" / "examples" / "resnet18_cifar10.onnx"


def test_short_values_are_told_as_they_are_and_others_by_their_type() -> None:
    assert [value_told(one) for one in (None, 7, "a", [1])] == ["None", "7", "'a'", "[1]"]
    assert value_told(np.zeros(3)) == "of type ndarray"
    assert value_told("a" * 41) == "of type str"
    assert value_told(onnx.ModelProto()) == "of type ModelProto"


def test_a_path_is_a_text_or_a_path_and_a_list_may_be_its_only_entry() -> None:
    assert path_given("source", Path("a") / "b.onnx") == "a/b.onnx"
    assert path_given("source", "a.onnx") == "a.onnx"
    with pytest.raises(OptionError, match=r"^`source` 7 must be a path, or a ModelProto$"):
        path_given("source", 7, "or a ModelProto")
    with pytest.raises(OptionError, match=r"^`source` of type bytes must be a path$"):
        path_given("source", b"a")
    assert (listed("donors", "abc"), listed("donors", Path("a")), listed("donors", ["a", "b"])) == (
        ("abc",),
        (Path("a"),),
        ("a", "b"),
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: predict(None), "`source` None must be a path, a ModelProto, or the bytes of a file"),  # type: ignore[arg-type]
        (lambda: predict([MODEL]), "`source` of type list must be a path, a ModelProto, or the bytes of a file"),  # type: ignore[arg-type]
        (lambda: predict(MODEL, 7), "`output` 7 must be a path"),  # type: ignore[arg-type]
        (
            lambda: predict(MODEL, ghn=7),
            "`ghn` 7 must be a GHN, the name of a shipped one, a folder, or a published .pt",
        ),  # type: ignore[arg-type]
        (lambda: predict(MODEL, base_dir=7), "`base_dir` 7 must be a path"),  # type: ignore[arg-type]
        (lambda: load_ghn(7), "`source` 7 must be a path, or the name of a GHN that is shipped"),  # type: ignore[arg-type]
        (lambda: predict(MODEL, options={}), "`options` {} must be PredictOptions, or single options by their names"),  # type: ignore[arg-type]
    ],
)
def test_a_prediction_tells_which_argument_is_of_the_wrong_type(call: Callable[[], object], message: str) -> None:
    with pytest.raises(OptionError) as raised:
        call()
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": None}, "`policy` None must be one of auto, early, all, none"),
        ({"donors": None}, "`donors` None must be a list"),
        ({"donors": [onnx.ModelProto()]}, "`donors` of type ModelProto must be a path, or a list of paths"),
        ({"include": 3}, "`include` 3 must be a list"),
        ({"exclude": ["a", 3]}, "`exclude` holds 3, which must be a regular expression"),
        (
            {"calibrate": None},
            "`calibrate` None must be a text or a path (none|synthetic|noise|FOLDER|ZIP|NPZ|TXT)",
        ),
        (
            {"calibrate": np.zeros((2, 3, 8, 8))},
            "`calibrate` of type ndarray must be a text or a path (none|synthetic|noise|FOLDER|ZIP|NPZ|TXT)",
        ),
        ({"seed": None}, "`seed` None must be a whole number"),
        ({"correct_scales": None}, "`correct_scales` None must be True or False"),
    ],
)
def test_options_of_the_wrong_type_are_told_by_their_names(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as raised:
        PredictOptions.of(**options)
    assert str(raised.value) == message


def test_options_of_several_types_are_checked_where_they_are_read() -> None:
    names = (["cat"], ["cat", "dog"])
    assert PredictOptions.of(donors="a.onnx", classes=names).classes == names
    assert PredictOptions.of(calibrate=Path("images")).calibrate == Path("images")
