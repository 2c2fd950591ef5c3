"""What is said of inherited weights is what was seen: outputs that were not compared are not called kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn import predict, strip
from onnx_ghn.errors import OptionError


def chain(width: int, activation: str = "Relu", dtype: int = TensorProto.FLOAT, **weights: Any) -> onnx.ModelProto:
    """Two dense layers for 4 numbers, with random weights of a seed but for those that are given."""
    rng = np.random.default_rng(width)
    shapes = {"a": (4, width), "b": (width,), "c": (width, 3)}
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    values = {name: weights.get(name, rng.normal(0, 0.5, shape)).astype(kind) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Gemm", ["x", "a", "b"], ["h"]),
        helper.make_node("Clip", ["h", "low", "high"], ["r"])
        if activation == "Relu6"
        else helper.make_node(activation, ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "c"], ["y"]),
    ]
    stored = [numpy_helper.from_array(value, name) for name, value in values.items()]
    if activation == "Relu6":
        stored += [numpy_helper.from_array(np.array(v, kind), n) for n, v in (("low", 0), ("high", 6))]
    ends = [helper.make_tensor_value_info(n, dtype, ["N", size]) for n, size in (("x", 4), ("y", 3))]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def file(donor: onnx.ModelProto, name: str = "donor.onnx") -> str:
    onnx.save(donor, name)
    return name


def told(recipient: onnx.ModelProto, donor: onnx.ModelProto, **options: Any) -> str:
    return " | ".join(predict(recipient, donors=[file(donor)], **options).coverage.notes)


def test_kept_outputs_are_measured() -> None:
    assert "outputs of donor.onnx are kept" in told(chain(16), chain(8))


def test_another_type_is_not_compared_and_not_called_kept() -> None:
    notes = told(chain(16, "Sigmoid", TensorProto.FLOAT16), chain(8))
    assert "kept was not measured" in notes
    assert "are kept, as far" not in notes


def test_what_clips_shows_on_large_inputs() -> None:
    assert "are not kept" in told(chain(16, "Relu6"), chain(8))


def several(width: int, *activations: str) -> onnx.ModelProto:
    """A layer and one output for each activation behind it; the last output is as wide as the layer."""
    model = chain(width)
    del model.graph.node[1:], model.graph.output[:]
    outputs = []
    for number, activation in enumerate(activations):
        model.graph.node.append(helper.make_node(activation, ["h"], [f"r{number}"]))
        model.graph.node.append(helper.make_node("MatMul", [f"r{number}", "c"], [f"y{number}"]))
        outputs.append(helper.make_tensor_value_info(f"y{number}", TensorProto.FLOAT, ["N", 3]))
    model.graph.output.extend([*outputs, helper.make_tensor_value_info("h", TensorProto.FLOAT, ["N", width])])
    return model


def test_every_output_is_compared() -> None:
    """The first outputs are those of the donor, the second ones are not."""
    assert "outputs of donor.onnx are kept" in told(several(8, "Relu", "Tanh"), several(8, "Relu", "Tanh"))
    assert "are not kept" in told(several(8, "Relu", "Sigmoid"), several(8, "Relu", "Tanh"))


def test_outputs_of_other_shapes_are_counted() -> None:
    notes = told(several(16, "Relu"), several(8, "Relu"))
    assert "outputs of donor.onnx are kept" in notes
    assert "one more has another shape and was not compared" in notes


def test_another_number_of_outputs_is_not_compared() -> None:
    notes = told(several(8, "Relu", "Relu"), several(8, "Relu"))
    assert "was not measured: the model has 3 outputs, and the donor 2" in notes


def test_whole_numbers_say_nothing_where_there_are_others() -> None:
    """Classes are compared where nothing else is: a class that flips by rounding is no other network."""
    from onnx_ghn.prediction.kept_outputs import Apart, _compared

    floats = np.array([[1.0, 1.0000001]], np.float32)
    classes = [np.array([0]), np.array([1])]
    found = _compared([[classes[0], floats]], [[classes[1], floats]])
    assert isinstance(found, Apart)
    assert found.largest == 0
    alone = _compared([[classes[0]]], [[classes[1]]])
    assert isinstance(alone, Apart)
    assert alone.largest == 1


def test_a_donor_with_nan_is_refused_by_name() -> None:
    broken = chain(8, b=np.full(8, np.nan))
    with pytest.raises(OptionError, match=r"b holds NaN or infinity.*`donors`"):
        predict(chain(16), donors=[file(broken)])


def test_a_donor_may_mask_by_infinity() -> None:
    """A table of biases with a row of minus infinity, and the number that a maximum starts from."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(20, 6)).astype(np.float32)
    table[0] = -np.inf

    def net(seed: int) -> onnx.ModelProto:
        values = {"table": np.where(np.isinf(table), table, table * seed), "w": rng.normal(size=(6, 3))}
        stored = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()]
        stored.append(numpy_helper.from_array(np.array(-np.inf, np.float32), "least"))
        nodes = [
            helper.make_node("Gather", ["table", "i"], ["a"]),
            helper.make_node("Softmax", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "w"], ["c"]),
            helper.make_node("Max", ["least", "c"], ["y"]),
        ]
        i = helper.make_tensor_value_info("i", TensorProto.INT64, ["N"])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])
        graph = helper.make_graph(nodes, "net", [i], [y], stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    found = predict(net(3), donors=[file(net(1))])
    assert np.array_equal(found["table"], table)
    assert found.coverage.count("inherited") == 2


def test_weights_that_a_type_cannot_hold_are_refused(tmp_path: Path) -> None:
    large = chain(8, c=np.full((8, 3), 1e6))
    target = tmp_path / "out.onnx"
    with pytest.raises(OptionError, match=r"'c'.*larger than FLOAT16 can hold.*`exclude`"):
        predict(chain(8, dtype=TensorProto.FLOAT16), target, donors=[file(large)])
    assert not target.exists()


def test_patterns_are_named_as_the_reason() -> None:
    notes = told(chain(8), chain(8), include=["a"])
    assert "`include` and `exclude` leave tensors out" in notes
    assert "no counterpart" not in notes


def test_nothing_is_said_of_noise_that_is_not_in_the_file() -> None:
    """Two equal branches: the GHN would give them equal weights, the donor gives them its own."""
    rng = np.random.default_rng(0)
    values = {name: rng.normal(0, 0.5, (4, 4)).astype(np.float32) for name in "abc"}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["p"]),
        helper.make_node("MatMul", ["x", "b"], ["q"]),
        helper.make_node("Add", ["p", "q"], ["m"]),
        helper.make_node("MatMul", ["m", "c"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 4]) for n in "xy"]
    stored = [numpy_helper.from_array(value, name) for name, value in values.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "gated", ends[:1], ends[1:], stored),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    assert "tells them apart" in " ".join(predict(model, policy="all").coverage.notes)
    inherited = predict(model, donors=[file(model)], policy="all")
    assert "tells them apart" not in " ".join(inherited.coverage.notes)
    for name, value in values.items():
        np.testing.assert_array_equal(inherited[name], value)


@pytest.mark.parametrize("blend", ["0.5", True, float("nan")])
def test_a_blend_that_is_no_share_is_told(blend: Any) -> None:
    with pytest.raises(OptionError, match="`blend`"):
        predict(chain(8), donors=[file(chain(8))], blend=blend)


def test_outputs_are_compared_with_the_donor_that_is_used() -> None:
    """The first donor is the less alike, so that nothing comes from it: its outputs are of no account."""
    other, like = file(chain(3, "Sigmoid"), "other.onnx"), file(chain(8), "like.onnx")
    prediction = predict(chain(16), donors=[other, like])
    assert prediction.inheritance is not None
    assert prediction.inheritance.whole_donor is prediction.inheritance.donors[1]
    notes = " | ".join(prediction.coverage.notes)
    assert "outputs of like.onnx are kept" in notes
    assert "other.onnx" not in notes


def test_the_donor_that_is_used_is_named_where_nothing_was_run() -> None:
    other, like = file(chain(3, "Sigmoid"), "other.onnx"), file(chain(8), "like.onnx")
    notes = " | ".join(predict(chain(16), donors=[other, like], calibrate="none").coverage.notes)
    assert "what comes from like.onnx is exact tensor by tensor" in notes
    narrow = " | ".join(predict(chain(7), donors=[other, like]).coverage.notes)
    assert "outputs of like.onnx may not be kept" in narrow


def test_what_comes_from_two_donors_is_nobodys_outputs() -> None:
    """The second donor has the classes that the first one lacks; each tensor by itself is exact."""
    five = chain(8, c=np.random.default_rng(0).normal(size=(8, 5)))
    five.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5
    prediction = predict(chain(8), donors=[file(five, "five.onnx"), file(chain(4), "three.onnx")])
    assert prediction.inheritance is not None
    assert [donor.name for donor in prediction.inheritance.used] == ["five.onnx", "three.onnx"]
    assert prediction.inheritance.whole_donor is None
    notes = " | ".join(prediction.coverage.notes)
    assert "tensors come from 2 donors (five.onnx, three.onnx)" in notes
    assert "was not measured: not everything comes from one donor" in notes
    assert "are kept, as far" not in notes


def _no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx_ghn.prediction import kept_outputs

    monkeypatch.setattr(kept_outputs.importlib.util, "find_spec", lambda name: None)


def _small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx_ghn.prediction import kept_outputs

    monkeypatch.setattr(kept_outputs, "_LARGEST", 100)


@pytest.mark.parametrize(
    ("recipient", "options", "patch", "why"),
    [
        (chain(16), {}, _no_runtime, "onnxruntime is not installed"),
        (chain(16), {}, _small_limit, "are too large to run twice"),
        (chain(16), {"calibrate": "none"}, None, "`calibrate` none asks for no runs"),
        (chain(16, dtype=TensorProto.FLOAT16), {}, None, "the model takes FLOAT16 [?, 4], and the donor FLOAT [?, 4]"),
        (chain(4), {"calibrate": "none"}, None, "`calibrate` none asks for no runs"),
        (chain(16), {"exclude": ["b"]}, None, ""),
    ],
    ids=["no runtime", "too large", "no runs", "other inputs", "no runs of a narrower one", "patterns"],
)
def test_a_report_says_why_outputs_were_not_compared(
    recipient: onnx.ModelProto, options: dict[str, Any], patch: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    donor = file(chain(8))
    if patch is not None:
        patch(monkeypatch)
    notes = " | ".join(predict(recipient, donors=[donor], **options).coverage.notes)
    assert ("was not measured: " in notes) == bool(why)
    assert why in notes


@pytest.mark.parametrize("fixed", ["recipient", "donor"])
def test_a_batch_that_one_file_leaves_free_is_the_others(fixed: str) -> None:
    recipient, donor = chain(16), chain(8)
    given = recipient if fixed == "recipient" else donor
    for value in (*given.graph.input, *given.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    notes = told(recipient, donor)
    assert "was not measured" not in notes
    assert "are kept, as far as floating point goes" in notes


def test_outputs_of_other_shapes_are_not_compared() -> None:
    """One of the two sums over its classes at the end, which is no tensor."""
    summed = chain(16)
    summed.graph.node[-1].output[0] = "each"
    summed.graph.node.append(helper.make_node("ReduceMax", ["each"], ["y"], axes=[1], keepdims=1))
    summed.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    assert "outputs have the shapes [4, 1] and [4, 3]" in told(summed, chain(8))


def test_what_does_not_run_is_named() -> None:
    """A reshape that fits no batch but that of the file."""
    fixed = chain(16)
    fixed.graph.initializer.append(numpy_helper.from_array(np.array([7, 3], np.int64), "shape"))
    fixed.graph.node[-1].output[0] = "each"
    fixed.graph.node.append(helper.make_node("Reshape", ["each", "shape"], ["y"]))
    assert "was not measured: the model does not run on noise" in told(fixed, chain(8))


def test_an_inspection_says_that_it_runs_nothing() -> None:
    from onnx_ghn.inspection import inspect_model

    notes = inspect_model(chain(16), donors=[file(chain(8))]).coverage.notes
    assert any("was not measured: an inspection runs nothing" in note for note in notes)


def test_a_file_that_is_predicted_without_donors_names_none(tmp_path: Path) -> None:
    from onnx_ghn.prediction.origins import INHERITED

    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    predict(chain(16), first, donors=[file(chain(8))])
    assert INHERITED in {entry.key for entry in onnx.load(first).metadata_props}
    predict(first, second, policy="all")
    assert INHERITED not in {entry.key for entry in onnx.load(second).metadata_props}
    predict(first, second, donors=[file(chain(8))], include=["nothing of it"], force=True)
    assert INHERITED not in {entry.key for entry in onnx.load(second).metadata_props}


def test_what_is_copied_whole_is_not_copied_in_memory() -> None:
    prediction = predict(chain(8), donors=[file(chain(8))])
    assert prediction.inheritance is not None
    theirs = prediction.inheritance.donors[0].opened.stored
    for name in "abc":
        assert np.shares_memory(prediction[name], theirs[name].numpy())
        assert not prediction[name].flags.writeable
    wider = predict(chain(16), donors=["donor.onnx"])
    np.testing.assert_array_equal(wider["b"], np.repeat(theirs["b"].numpy(), 2))


@pytest.mark.parametrize("options", [{"selection": "first"}, {"selection": "norm"}, {"blend": 0.5}])
def test_options_of_donors_have_no_meaning_without(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"`{next(iter(options))}` .* has no meaning without `donors`"):
        predict(chain(8), **options)


def _deep(n_layers: int, width: int = 16) -> onnx.ModelProto:
    """Dense layers for 4 numbers, each with a bias and a ReLU; then one without."""
    rng = np.random.default_rng(n_layers)
    nodes, stored, last = [], [], "x"
    for i in range(n_layers):
        weight = rng.normal(0, 0.5, (width if i else 4, width)).astype(np.float32)
        stored += [numpy_helper.from_array(weight, f"w{i}"), numpy_helper.from_array(weight[0], f"b{i}")]
        nodes += [
            helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [f"h{i}"]),
            helper.make_node("Relu", [f"h{i}"], [f"r{i}"]),
        ]
        last = f"r{i}"
    stored.append(numpy_helper.from_array(rng.normal(0, 0.5, (width, 3)).astype(np.float32), "c"))
    nodes.append(helper.make_node("MatMul", [last, "c"], ["y"]))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", size]) for n, size in (("x", 4), ("y", 3))]
    graph = helper.make_graph(nodes, "deep", ends[:1], ends[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_it_is_said_where_little_is_inherited() -> None:
    few = told(_deep(6), chain(16))
    assert "only 3 of 13 tensors have a counterpart: a start without `donors` may be better" in few
    assert "have a counterpart: a start" not in told(_deep(2), chain(16))


@pytest.mark.parametrize("producer", ["pytorch", "acme"])
def test_what_is_a_constant_of_the_donor_is_no_new_layer(producer: str, tmp_path: Path) -> None:
    """A table in a Constant node, which strip leaves. In the donor it is told by its exporter, in the copy by that."""
    rng = np.random.default_rng(0)
    table = helper.make_node("Constant", [], ["table"], value=numpy_helper.from_array(rng.random((6,), np.float32)))
    layers = [numpy_helper.from_array(rng.normal(size=(6, 6)).astype(np.float32), name) for name in "ab"]
    nodes = [
        table,
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Add", ["h", "table"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 6]) for n in "xy"]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], layers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name=producer)
    donor = file(model)
    found = predict(strip(donor, tmp_path / "bare.onnx"), donors=[donor]).coverage
    assert any("outputs of donor.onnx are kept" in note for note in found.notes), found.notes
    assert found.count("inherited") == (2 if producer == "pytorch" else 3)


def test_a_block_of_constants_of_the_donor_is_none_that_it_has_not() -> None:
    """The same file, but that a tool took the name off by which its exporter is known."""

    def net(name: str) -> onnx.ModelProto:
        rng = np.random.default_rng(0)
        stored = {f"conv2d_{i}.w_0": rng.normal(size=(4, 4, 1, 1)) for i in range(2)} | {"helper.constant.1": [0.3]}
        nodes = [
            helper.make_node("Conv", ["x", "conv2d_0.w_0"], ["a"]),
            helper.make_node("Mul", ["a", "helper.constant.1"], ["b"]),
            helper.make_node("Conv", ["b", "conv2d_1.w_0"], ["y"]),
        ]
        ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 4, 5, 5]) for n in "xy"]
        tensors = [numpy_helper.from_array(np.asarray(value, np.float32), key) for key, value in stored.items()]
        graph = helper.make_graph(nodes, name, ends[:1], ends[1:], tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    assert "outputs of donor.onnx are kept" in told(net("net"), net("PaddlePaddle Graph"))
