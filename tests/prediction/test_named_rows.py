"""Rows of classifiers and tables by name: exact rows of the donor's, and what they would get without for the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from predict_models import Net, tiny_ghn

import onnx_ghn
from onnx_ghn.errors import OptionError
from onnx_ghn.onnx_io import read_model, stored_tensors

THEIRS = ["cat", "dog", "Red_Fox", "bird"]
OURS = ["DOG", "whale", "red fox"]
ROWS = [1, -1, 2]  # of the donor, by hand


def classifier(classes: int, seed: int, width: int = 8) -> onnx.ModelProto:
    net = Net()
    net.rng = np.random.default_rng(seed)
    x = net.input(2, 3, 8, 8)
    x = net.op("Relu", net.bn(net.conv(x, 3, width, "conv"), width, "bn"), out="relu")
    x = net.op("Flatten", net.op("GlobalAveragePool", x, out="mean"), out="flat")
    x = net.op("Gemm", x, net.random("head.w", classes, width), net.random("head.b", classes), out="y", transB=1)
    return net.model(x)


def language(n_tokens: int, seed: int, *, tied: bool) -> onnx.ModelProto:
    """A table of tokens, a layer, and a layer that tells tokens apart: the table itself where it is tied."""
    draw = np.random.default_rng(seed)
    shapes = {"table": (n_tokens, 4), "middle": (4, 4), **({} if tied else {"out": (4, n_tokens)}), "bias": (n_tokens,)}
    stored = [numpy_helper.from_array(draw.normal(size=s).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["e"]),
        helper.make_node("MatMul", ["e", "middle"], ["h"]),
        *([helper.make_node("Transpose", ["table"], ["out"], perm=[1, 0])] if tied else []),
        helper.make_node("MatMul", ["h", "out"], ["logits"]),
        helper.make_node("Add", ["logits", "bias"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.INT64, [2, 5]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5, n_tokens]),
    ]
    graph = helper.make_graph(nodes, "words", ends[:1], ends[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(model: onnx.ModelProto) -> str:
    onnx.save(model, "donor.onnx")
    return "donor.onnx"


def stored(model: onnx.ModelProto | str, name: str) -> np.ndarray:
    return stored_tensors(read_model(model))[name].numpy()


def check_rows(made: np.ndarray, donor: np.ndarray, usual: np.ndarray, rows: list[int] = ROWS) -> None:
    """By hand: row by row."""
    assert len(made) == len(rows)
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(made[i], donor[row] if row >= 0 else usual[i])


FORMS = ["lists", "text", "text of Windows", "list", "index to name", "name to index", "id2label"]


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_a_classifier_go_by_name(form: str, tmp_path: Path) -> None:
    given: Any = (THEIRS, OURS)
    if form != "lists":
        suffix = "txt" if form.startswith("text") else "json"
        for path, names in (("theirs", THEIRS), ("ours", OURS)):
            contents: Any = names
            if form in ("index to name", "id2label"):
                contents = {str(i): name for i, name in enumerate(names)}
            elif form == "name to index":
                contents = {name: i for i, name in reversed(list(enumerate(names)))}
            contents = {"id2label": contents} if form == "id2label" else contents
            ends = "\r\n" if "Windows" in form else "\n"
            text = ends.join(names) + ends if suffix == "txt" else json.dumps(contents)
            (tmp_path / f"{path}.{suffix}").write_bytes(text.encode())
        given = f"theirs.{suffix}:ours.{suffix}"
    donor, model = classifier(4, 0), classifier(3, 1)
    prediction = onnx_ghn.predict(model, ghn=tiny_ghn(), donors=[written(donor)], policy="all", classes=given)
    usual = onnx_ghn.predict(model, ghn=tiny_ghn(), policy="all", calibrate="none", correct_scales=False)
    for name in ("head.w", "head.b"):
        check_rows(prediction[name], stored(donor, name), usual[name])
    (entry,) = (entry for entry in prediction.coverage.entries if entry.parameter.name == "head.w")
    assert "2 of 3 rows by name, the others by the usual rule" in entry.reason
    notes = " ".join(prediction.coverage.notes)
    assert "not measured: rows that go by name stand in another order" in notes
    assert "are kept, as far" not in notes


def test_rows_that_the_donor_lacks_keep_their_own_values_where_the_policy_says_so(tmp_path: Path) -> None:
    donor, model = classifier(4, 0), classifier(3, 1)
    output = tmp_path / "init.onnx"
    onnx_ghn.predict(model, output, ghn=tiny_ghn(), donors=[written(donor)], policy="none", classes=(THEIRS, OURS))
    for name in ("head.w", "head.b"):
        check_rows(stored(str(output), name), stored(donor, name), stored(model, name))


def test_as_many_classes_in_another_order_are_put_in_order(tmp_path: Path) -> None:
    donor, model = classifier(4, 0, width=4), classifier(4, 1, width=8)  # a wider one: columns share
    other = ["bird", "cat", "dog", "red fox"]
    prediction = onnx_ghn.predict(model, ghn=tiny_ghn(), donors=[written(donor)], classes=(THEIRS, other))
    plain = onnx_ghn.predict(model, ghn=tiny_ghn(), donors=["donor.onnx"])
    for name in ("head.w", "head.b"):
        np.testing.assert_array_equal(prediction[name], plain[name][[3, 0, 1, 2]])


def named(model: onnx.ModelProto, key: str, text: str) -> onnx.ModelProto:
    helper.set_model_props(model, {key: text})
    return model


@pytest.mark.parametrize(
    ("key", "write"),
    [
        ("names", lambda names: str(dict(enumerate(names)))),  # as Ultralytics writes them
        ("classes", json.dumps),
        ("id2label", lambda names: json.dumps({str(i): name for i, name in enumerate(names)})),
        ("labels", lambda names: json.dumps({name: i for i, name in enumerate(names)})),
    ],
)
def test_names_that_both_files_hold_need_no_option(key: str, write: Callable[[list[str]], str]) -> None:
    donor, model = named(classifier(4, 0), key, write(THEIRS)), named(classifier(3, 1), "names", str(OURS))
    options: dict[str, Any] = {"ghn": tiny_ghn(), "donors": [written(donor)], "policy": "none"}
    prediction = onnx_ghn.predict(model, **options)
    for name in ("head.w", "head.b"):
        check_rows(prediction[name], stored(donor, name), stored(model, name))
    assert any("not measured: rows that go by name" in note for note in prediction.coverage.notes)
    assert any("names in both files put rows in another order" in note for note in prediction.coverage.notes)
    # An option goes before them.
    other = onnx_ghn.predict(model, **options, classes=(THEIRS, ["bird", "cat", "x"]))
    check_rows(other["head.w"], stored(donor, "head.w"), stored(model, "head.w"), [3, 0, -1])


def test_as_many_classes_of_other_names_are_not_inherited() -> None:
    donor, model = (
        named(classifier(3, 0), "names", '["a", "b", "c"]'),
        named(classifier(3, 1), "names", '["x", "y", "z"]'),
    )
    prediction = onnx_ghn.predict(model, ghn=tiny_ghn(), donors=[written(donor)], policy="none")
    np.testing.assert_array_equal(prediction["head.w"], stored(model, "head.w"))
    np.testing.assert_array_equal(prediction["conv.w"], stored(donor, "conv.w"))
    assert "none of its 3 classes is one of the donor's 3" in " ".join(prediction.coverage.notes)


@pytest.mark.parametrize(
    "text", ["", "[", "{0: 'a', 2: 'b', 3: 'c'}", "['a', 'a', 'b']", "__import__('os')", "[1, 2, 3]", "3"]
)
def test_notes_that_are_no_names_say_nothing(text: str) -> None:
    donor, model = named(classifier(3, 0), "names", '["x", "y", "z"]'), named(classifier(3, 1), "names", text)
    prediction = onnx_ghn.predict(model, ghn=tiny_ghn(), donors=[written(donor)], policy="none")
    np.testing.assert_array_equal(prediction["head.w"], stored(donor, "head.w"))  # by position, as without names


@pytest.mark.parametrize("form", ["{}", "LABEL_{}", "class {}"])
def test_numbers_are_no_names(form: str) -> None:
    """As Ultralytics and transformers write for classes that nobody named."""
    donor, model = (
        named(classifier(n, seed), "names", str({i: form.format(i) for i in range(n)})) for n, seed in ((4, 0), (3, 1))
    )
    prediction = onnx_ghn.predict(model, ghn=tiny_ghn(), donors=[written(donor)], policy="none")
    np.testing.assert_array_equal(prediction["head.w"], stored(model, "head.w"))
    assert "a classifier of 3 outputs, and the donor's has 4" in " ".join(prediction.coverage.notes)


def test_the_same_names_in_the_same_order_keep_outputs() -> None:
    donor, model = (named(classifier(3, seed), "names", '["x", "y", "z"]') for seed in (0, 1))
    prediction = onnx_ghn.predict(model, ghn=tiny_ghn(), donors=[written(donor)], policy="none")
    assert any("are kept, as far as floating point goes" in note for note in prediction.coverage.notes)


@pytest.mark.parametrize("tied", [False, True])
def test_tokens_of_tables_and_of_the_layer_that_tells_them_apart_go_by_name(tied: bool) -> None:
    theirs, ours = ["the", "The", " a", "b"], ["The", "x", " a", "the", "B"]
    rows = [1, -1, 2, 0, -1]  # tokens are compared as they are
    donor, model = language(4, 0, tied=tied), language(5, 1, tied=tied)
    options: dict[str, Any] = {"donors": [written(donor)], "policy": "none", "vocabulary": (theirs, ours)}
    prediction = onnx_ghn.predict(model, ghn=tiny_ghn(), **options)
    check_rows(prediction["table"], stored(donor, "table"), stored(model, "table"), rows)
    check_rows(prediction["bias"], stored(donor, "bias"), stored(model, "bias"), rows)
    if not tied:
        check_rows(prediction["out"].T, stored(donor, "out").T, stored(model, "out").T, rows)
    np.testing.assert_array_equal(prediction["middle"], stored(donor, "middle"))


def test_the_bias_behind_a_tied_table_of_another_vocabulary_is_not_inherited() -> None:
    donor, model = language(4, 0, tied=True), language(5, 1, tied=True)
    prediction = onnx_ghn.predict(model, ghn=tiny_ghn(), donors=[written(donor)], policy="none")
    for name in ("table", "bias"):
        np.testing.assert_array_equal(prediction[name], stored(model, name))


def test_an_inspection_foretells_named_rows() -> None:
    from onnx_ghn.inspection import inspect_model

    model, options = classifier(3, 1), {"donors": [written(classifier(4, 0))], "classes": (THEIRS, OURS)}
    told = inspect_model(model, policy="all", **options).coverage.to_dict()["parameters"]
    done = onnx_ghn.predict(model, ghn=tiny_ghn(), policy="all", **options).coverage.to_dict()["parameters"]
    assert told == done


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ((["a", "b", "a"], OURS), r"`classes`: 'a' stands twice, as names 1 and 3"),
        ((["Red_fox", "red fox", "x", "y"], OURS), "'red fox' stands twice, as names 1 and 2"),
        ((THEIRS, ["x", "y", "z"]), r"have none in common, first 'x'"),
        ((THEIRS[:3], OURS), r"3 names of the donor and 3 of the model.* there are 4 and 3"),
        ((THEIRS, [*OURS, "cat"]), r"4 names of the donor and 4 of the model.* there are 4 and 3"),
        ((THEIRS, []), "there are no names"),
        ((THEIRS, ["a", ""]), "name 2 is empty"),
        ((THEIRS, [1, 2, 3]), "3 of its 3 names are no texts"),
        ((THEIRS, {"0": "a", "2": "b"}), "indices are not 0 to 1"),
        ("names.txt", r"names no two files: give it as DONOR\.txt:NEW\.txt"),
        ("absent.txt:other.txt", r"`classes` absent\.txt cannot be read"),
        ("broken.json:broken.json", r"broken\.json is no JSON"),
        (("latin.txt", OURS), r"latin\.txt is no text in UTF-8"),
        ((THEIRS,), "is a pair"),
    ],
)  # fmt: skip
def test_names_that_fit_nothing_are_refused(classes: Any, words: str, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("[")
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(OptionError, match=words) as caught:
        onnx_ghn.predict(
            classifier(3, 1), "out.onnx", ghn=tiny_ghn(), donors=[written(classifier(4, 0))], classes=classes
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("option", ["classes", "vocabulary"])
def test_names_have_no_meaning_without_donors(option: str) -> None:
    with pytest.raises(OptionError, match=f"`{option}` has no meaning without `donors`"):
        onnx_ghn.predict(classifier(3, 1), ghn=tiny_ghn(), **{option: (THEIRS, OURS)})  # type: ignore[arg-type]
