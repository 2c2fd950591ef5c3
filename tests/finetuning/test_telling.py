"""What finetune says of a file: probabilities, statistics, copies, blocked gradients, chance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from tuning_models import SIDE, tensors_of

pytest.importorskip("onnx2fx", reason="onnx2fx is not installed: pip install 'onnx-ghn[finetune]'")

from onnx_ghn.errors import DataError, GraphError, RuntimeFailure
from onnx_ghn.evaluate import Accuracy, onnx_logits
from onnx_ghn.finetuning import FinetuneOptions, FinetuneResult, finetune
from onnx_ghn.finetuning.chance import chance_note
from onnx_ghn.vision import load_dataset, train_stream

FLOAT = onnx.TensorProto.FLOAT
node = helper.make_node
PLAIN: dict[str, Any] = {"batch_size": 12, "lr": 0.5, "wd": 0.0, "grad_clip": 1e9, "augment": False, "seed": 3}
POOL = node("ReduceMean", ["image"], ["pooled"], "pool", axes=[2, 3], keepdims=0)


def save(
    nodes: Sequence[onnx.NodeProto], tensors: dict[str, Any], path: Path, output: str = "y", opset: int = 17
) -> Path:
    """A classifier of three classes; tensors that no node reads are left out."""
    read = {name for entry in nodes for name in entry.input}
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("image", FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(output, FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items() if name in read],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def weights(rng: np.random.Generator, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name: (0.3 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}


def tuned(source: Path, colours: Path, folder: Path, steps: int = 3, **options: Any) -> FinetuneResult:
    return finetune(source, colours, folder / "tuned.onnx", FinetuneOptions(**{**PLAIN, **options, "steps": steps}))


ENDS: dict[str, list[onnx.NodeProto]] = {
    "logits": [node("Identity", ["l"], ["y"])],
    "log_softmax": [node("LogSoftmax", ["l"], ["y"], axis=1)],
    "softmax": [node("Softmax", ["l"], ["y"], axis=1)],
    "softmax_reshape": [node("Softmax", ["l"], ["p"], axis=-1), node("Reshape", ["p", "shape"], ["y"])],
    "reshape_softmax_flatten": [
        node("Unsqueeze", ["l", "last"], ["u"]),
        node("Softmax", ["u"], ["p"], axis=1),
        node("Flatten", ["p"], ["y"]),
    ],
    "exp_sum_div": [
        node("ReduceMax", ["l"], ["m"], axes=[1]),
        node("Sub", ["l", "m"], ["c"]),
        node("Exp", ["c"], ["e"]),
        node("ReduceSum", ["e", "one"], ["s"]),
        node("Div", ["e", "s"], ["y"]),
    ],
    "sigmoid": [node("Sigmoid", ["l"], ["y"])],
}
CONSTANTS = {"shape": np.array([-1, 3]), "last": np.array([2]), "one": np.array([1])}


@pytest.mark.parametrize("end", [name for name in ENDS if name != "sigmoid"])
def test_probabilities_are_trained_by_their_logarithm(colours: Path, tmp_path: Path, end: str) -> None:
    """The same loss and the same weights as from logits, which torch gives by its own steps."""
    start = weights(np.random.default_rng(0), w=(3, 3), b=(3,))
    nodes = [POOL, node("Gemm", ["pooled", "w", "b"], ["l"], "head", transB=1), *ENDS[end]]
    result = tuned(save(nodes, start | CONSTANTS, tmp_path / "net.onnx"), colours, tmp_path, steps=4)
    wanted, loss = torch_steps(start, colours, 4, torch.nn.functional.cross_entropy)
    assert result.figures["loss"] == pytest.approx(loss, rel=1e-4)
    found = tensors_of(tmp_path / "tuned.onnx")
    for name, tensor in wanted.items():
        np.testing.assert_allclose(found[name], tensor, rtol=1e-4, atol=1e-5)
    assert any("logarithms" in note for note in result.notes) == (end == "exp_sum_div")


def test_maps_as_the_first_output_are_refused_in_one_line(colours: Path, tmp_path: Path) -> None:
    start = weights(np.random.default_rng(0), w=(3, 3), b=(3,))
    nodes = [POOL, node("Gemm", ["pooled", "w", "b"], ["l"], "head", transB=1), *ENDS["softmax"]]
    model = onnx.load(save(nodes, start, tmp_path / "net.onnx"))
    model.graph.node.append(node("ZipMap", ["y"], ["maps"], "zip", domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2]))
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    scores = helper.make_map_type_proto(onnx.TensorProto.INT64, helper.make_tensor_type_proto(FLOAT, []))
    model.graph.output.append(helper.make_value_info("maps", helper.make_sequence_type_proto(scores)))
    onnx.save(model, tmp_path / "last.onnx")
    assert tuned(tmp_path / "last.onnx", colours, tmp_path, steps=1).n_trained == 2
    written = onnx.load(tmp_path / "tuned.onnx")
    assert list(written.graph.output) == list(model.graph.output)
    model.graph.output.pop(0)
    onnx.save(model, tmp_path / "first.onnx")
    with pytest.raises(GraphError, match=r"first output 'maps' is of maps.*export it without ZipMap") as refused:
        finetune(tmp_path / "first.onnx", colours, tmp_path / "never.onnx", FinetuneOptions(**PLAIN, steps=1))
    with (
        pytest.raises(RuntimeFailure, match="first output 'maps' is seq"),
        onnx_logits(tmp_path / "first.onnx", device="cpu"),
    ):
        pass
    assert "\n" not in str(refused.value)


def test_a_sigmoid_is_trained_by_its_logarithm(colours: Path, tmp_path: Path) -> None:
    start = weights(np.random.default_rng(0), w=(3, 3), b=(3,))
    nodes = [POOL, node("Gemm", ["pooled", "w", "b"], ["l"], "head", transB=1), *ENDS["sigmoid"]]
    result = tuned(save(nodes, start, tmp_path / "net.onnx"), colours, tmp_path, steps=4)

    def loss_of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        shares = torch.sigmoid(logits) / torch.sigmoid(logits).sum(1, keepdim=True)
        return -shares.gather(1, labels[:, None]).log().mean()

    wanted, loss = torch_steps(start, colours, 4, loss_of)
    assert result.figures["loss"] == pytest.approx(loss, rel=1e-4)
    np.testing.assert_allclose(tensors_of(tmp_path / "tuned.onnx")["w"], wanted["w"], rtol=1e-3, atol=1e-5)
    assert any("logarithms" in note for note in result.notes)


def torch_steps(
    start: dict[str, np.ndarray], colours: Path, steps: int, loss_of: Any
) -> tuple[dict[str, np.ndarray], float]:
    """Weights after steps of torch's own SGD, and the mean loss."""
    w, b = (torch.tensor(start[name], requires_grad=True) for name in ("w", "b"))
    stream = train_stream(load_dataset(colours, split="trainval"), 12, seed=3, augment=False, drop_last=True)
    optimizer = torch.optim.SGD([w, b], PLAIN["lr"], momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    for step in range(steps):
        images, labels = stream.batch(step)
        optimizer.zero_grad()
        loss = loss_of(images.mean((2, 3)) @ w.T + b, labels)
        losses.append(float(loss.detach()))
        loss.backward()
        optimizer.step()
        schedule.step()
    return {"w": w.detach().numpy(), "b": b.detach().numpy()}, float(np.mean(losses))


def test_outputs_that_only_look_like_probabilities_are_named(colours: Path, tmp_path: Path) -> None:
    nodes = [POOL, node("Gemm", ["pooled", "w", "b"], ["l"], "head", transB=1), node("HardSigmoid", ["l"], ["y"])]
    start = weights(np.random.default_rng(0), w=(3, 3), b=(3,))
    result = tuned(save(nodes, start, tmp_path / "net.onnx"), colours, tmp_path)
    assert any("between 0 and 1 and do not sum to 1" in note for note in result.notes)


def norms(path: Path, momenta: Sequence[float], *, shared: bool = False, **attributes: Any) -> Path:
    """Convolutions, each with its batch norm; `shared`: all call the first norm."""
    rng = np.random.default_rng(0)
    tensors = weights(rng, fw=(3, 6), fb=(3,))
    nodes, value, channels = [], "image", 3
    for number, momentum in enumerate(momenta):
        of = 0 if shared else number
        tensors |= weights(rng, **{f"w{number}": (6, channels, 1, 1)})
        names = ("scale", "var", "shift", "mean")
        tensors |= {f"{name}{of}": rng.uniform(0.5, 1, 6).astype(np.float32) for name in names}
        inputs = [f"c{number}", *(f"{name}{of}" for name in ("scale", "shift", "mean", "var"))]
        nodes.append(node("Conv", [value, f"w{number}"], [f"c{number}"], f"conv{number}"))
        outputs = [f"n{number}", *(f"{name}_out{number}" for name in ("mean", "var") if attributes)]
        nodes.append(node("BatchNormalization", inputs, outputs, f"norm{number}", momentum=momentum, **attributes))
        value, channels = f"n{number}", 6
    nodes += [node("ReduceMean", [value], ["p"], "pool", axes=[2, 3], keepdims=0)]
    nodes += [node("Gemm", ["p", "fw", "fb"], ["y"], "head", transB=1)]
    return save(nodes, tensors, path)


@pytest.mark.parametrize(
    ("momenta", "shared", "n_moved"),
    [
        ([0.9, 0.9], False, 4),
        ([1.0, 0.9], False, 2),
        ([1.0, 1.0], False, 0),
        ([0.9, 0.9], True, 2),
        ([1.0, 1.0], True, 0),
    ],
)
def test_statistics_are_counted_that_moved(
    colours: Path, tmp_path: Path, momenta: list[float], shared: bool, n_moved: int
) -> None:
    source = norms(tmp_path / "net.onnx", momenta, shared=shared)
    result = tuned(source, colours, tmp_path, lr=0.01)
    old, new = tensors_of(source), tensors_of(tmp_path / "tuned.onnx")
    moved = [name for name in old if name.startswith(("mean", "var")) and not np.array_equal(old[name], new[name])]
    assert result.n_statistics == len(moved) == n_moved
    count = len({0} if shared else {n for n, momentum in enumerate(momenta) if momentum == 1})
    said = [note for note in result.notes if "momentum in the file is 1" in note]
    assert len(said) == (1.0 in momenta)
    assert all(note.startswith(f"{count} batch norm") for note in said)


@pytest.mark.parametrize("momenta", [[0.9], [0.5, 0.9], [1.0]])
def test_training_form_is_refused_by_name(colours: Path, tmp_path: Path, momenta: list[float]) -> None:
    source = norms(tmp_path / "net.onnx", momenta, training_mode=1)
    with pytest.raises(GraphError, match=r"node 'norm0' is a BatchNormalization in its training form.*net\.eval"):
        tuned(source, colours, tmp_path)


def hidden(tensors: dict[str, np.ndarray], path: Path) -> Path:
    """Pooled pixels, a hidden layer, three classes."""
    nodes = [
        POOL,
        node("Gemm", ["pooled", "w1", "b1"], ["a"], "first", transB=1),
        node("Relu", ["a"], ["h"], "relu"),
        node("Gemm", ["h", "w2", "b2"], ["y"], "second", transB=1),
    ]
    return save(nodes, tensors, path)


@pytest.mark.parametrize(("n_units", "n_distinct"), [(32, 8), (12, 1), (30, 29)])
def test_copies_are_reported_and_told_apart(colours: Path, tmp_path: Path, n_units: int, n_distinct: int) -> None:
    rng = np.random.default_rng(0)
    take = np.arange(n_units) % n_distinct
    tensors = weights(rng, w1=(n_distinct, 3), b1=(n_distinct,), w2=(3, n_distinct), b2=(3,))
    tensors = {"w1": tensors["w1"][take], "b1": tensors["b1"][take], "w2": tensors["w2"][:, take], "b2": tensors["b2"]}
    result = tuned(hidden(tensors, tmp_path / "net.onnx"), colours, tmp_path, steps=6, lr=0.05)
    (note,) = [note for note in result.notes if "copies of each other" in note]
    assert f"most in w1: {n_distinct} different ones of {n_units}." in note
    assert len(np.unique(tensors_of(tmp_path / "tuned.onnx")["w1"], axis=0)) == n_units


@pytest.mark.parametrize("what", ["different", "zeros", "frozen"])
def test_what_is_no_copy_is_left_alone(colours: Path, tmp_path: Path, what: str) -> None:
    tensors = weights(np.random.default_rng(0), w1=(8, 3), b1=(8,), w2=(3, 8), b2=(3,))
    if what == "zeros":
        tensors["w1"] = np.zeros((8, 3), np.float32)
    if what == "frozen":
        tensors["w1"] = tensors["w1"][np.arange(8) % 4]
    options = {"freeze": ("w1",)} if what == "frozen" else {}
    result = tuned(hidden(tensors, tmp_path / "net.onnx"), colours, tmp_path, steps=1, lr=1e-9, **options)
    assert not [note for note in result.notes if "copies" in note]
    np.testing.assert_allclose(tensors_of(tmp_path / "tuned.onnx")["w1"], tensors["w1"], atol=1e-6)


@pytest.mark.parametrize("n_branches", [2, 3, 4])
def test_branches_that_start_equal_part(colours: Path, tmp_path: Path, n_branches: int) -> None:
    start = weights(np.random.default_rng(0), stem=(4, 3, 1, 1), w=(4, 4, 3, 3), fw=(3, 4), fb=(3,))
    tensors = {name: start[name] for name in ("stem", "fw", "fb")} | {f"w{n}": start["w"] for n in range(n_branches)}
    nodes = [node("Conv", ["image", "stem"], ["s"], "stem")]
    for n in range(n_branches):
        nodes += [node("Conv", ["s", f"w{n}"], [f"c{n}"], f"branch{n}"), node("Relu", [f"c{n}"], [f"r{n}"], f"relu{n}")]
    nodes += [node("Sum", [f"r{n}" for n in range(n_branches)], ["t"], "sum")]
    nodes += [node("ReduceMean", ["t"], ["p"], "pool", axes=[2, 3], keepdims=0)]
    nodes += [node("Gemm", ["p", "fw", "fb"], ["y"], "head", transB=1)]
    result = tuned(save(nodes, tensors, tmp_path / "net.onnx"), colours, tmp_path, lr=0.01)
    found = tensors_of(tmp_path / "tuned.onnx")
    assert all(np.abs(found["w0"] - found[f"w{n}"]).max() > 1e-3 for n in range(1, n_branches))
    assert any("that reads the same values, first w1 and w0" in note for note in result.notes)


STEPS: dict[str, list[onnx.NodeProto]] = {
    "Sign": [node("Sign", ["a"], ["h"], "stop")],
    "Round": [node("Round", ["a"], ["h"], "stop")],
    "Cast": [
        node("Cast", ["a"], ["i"], "stop", to=onnx.TensorProto.INT8),
        node("Cast", ["i"], ["h"], "back", to=FLOAT),
    ],
    "Greater": [node("Greater", ["a", "zero"], ["g"], "stop"), node("Cast", ["g"], ["h"], "spike", to=FLOAT)],
    "Ceil": [node("Ceil", ["a"], ["h"], "stop")],
}


@pytest.mark.parametrize("step", list(STEPS))
def test_weights_without_a_gradient_are_named_and_kept(colours: Path, tmp_path: Path, step: str) -> None:
    tensors: dict[str, Any] = weights(np.random.default_rng(0), w1=(8, 3), b1=(8,), w2=(3, 8), b2=(3,))
    tensors["zero"] = np.float32(0)
    nodes = [POOL, node("Gemm", ["pooled", "w1", "b1"], ["a"], "first", transB=1), *STEPS[step]]
    nodes += [node("Gemm", ["h", "w2", "b2"], ["y"], "second", transB=1)]
    source = save(nodes, tensors, tmp_path / "net.onnx")
    result = tuned(source, colours, tmp_path, wd=0.1)
    (note,) = [note for note in result.notes if "straight-through estimator" in note]
    assert "2 tensors are not trained" in note
    assert f"through {step} (node stop)" in note
    found = tensors_of(tmp_path / "tuned.onnx")
    changed = {name for name in ("w1", "b1", "w2", "b2") if not np.array_equal(found[name], tensors[name])}
    assert changed == {"w2", "b2"}
    assert result.n_trained == 2


@pytest.mark.parametrize("step", ["Sign", "Round", "Floor"])
def test_nothing_to_train_before_a_step_at_the_end(colours: Path, tmp_path: Path, step: str) -> None:
    tensors = weights(np.random.default_rng(0), w=(3, 3), b=(3,))
    nodes = [POOL, node("Gemm", ["pooled", "w", "b"], ["l"], "head", transB=1), node(step, ["l"], ["y"], "end")]
    with pytest.raises(GraphError, match=rf"no gradient passes through {step} \(node end\)"):
        tuned(save(nodes, tensors, tmp_path / "net.onnx"), colours, tmp_path)


@pytest.mark.parametrize(
    ("right", "n_images", "n_classes", "at_random"),
    [(8, 24, 3, True), (20, 24, 3, False), (12, 100, 10, True), (30, 100, 10, False), (55, 100, 2, True)],
)
def test_chance(right: int, n_images: int, n_classes: int, at_random: bool) -> None:
    """Against 20,000 drawn guessers."""
    guesses = np.random.default_rng(0).binomial(n_images, 1 / n_classes, 20_000)
    assert bool((guesses >= right).mean() > 0.05) == at_random
    note = chance_note(Accuracy(100 * right / n_images, 100.0, n_images), n_classes)
    assert (note is not None) == at_random


def test_a_file_that_has_learnt_nothing_is_told_as_that(colours: Path, tmp_path: Path) -> None:
    tensors = weights(np.random.default_rng(0), w=(3, 3), b=(3,)) | {"none": np.zeros(3, np.float32)}
    nodes = [POOL, node("Mul", ["pooled", "none"], ["m"]), node("Gemm", ["m", "w", "b"], ["y"], "head", transB=1)]
    source = save(nodes, tensors, tmp_path / "net.onnx")
    result = tuned(source, colours, tmp_path, train=("^w$",))
    assert result.after.top1 == pytest.approx(100 / 3)
    assert any("33.3 % of 24 held-out images, which is within chance" in note for note in result.notes)


def test_labels_are_no_logits(colours: Path, tmp_path: Path) -> None:
    """scikit-learn's classifiers give labels first."""
    tensors = weights(np.random.default_rng(0), w=(3, 3), b=(3,))
    nodes = [POOL, node("Gemm", ["pooled", "w", "b"], ["l"], "head", transB=1)]
    nodes += [node("ArgMax", ["l"], ["i"], "label", axis=1), node("Cast", ["i"], ["y"], "end", to=FLOAT)]
    with pytest.raises((GraphError, RuntimeFailure, DataError), match="no gradient passes through ArgMax"):
        tuned(save(nodes, tensors, tmp_path / "net.onnx"), colours, tmp_path)
