"""Files that are tuned: against torch's own training step, in either layout, resumed, and with parts left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from colour_data import draw_colours
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from tuning_models import SIDE, keras_like_file, tensors_of, torch_file, torch_net, without_values

pytest.importorskip("onnx2fx", reason="onnx2fx is not installed: pip install 'onnx-ghn[finetune]'")

from onnx_ghn.cli.finetune import finetune as command
from onnx_ghn.errors import (
    CheckpointError,
    DataError,
    GraphError,
    ModelReadError,
    OnnxGhnError,
    OptionError,
    RuntimeFailure,
)
from onnx_ghn.exporters import pytorch
from onnx_ghn.finetuning import FinetuneOptions, Finetuning, finetune
from onnx_ghn.finetuning.rewriting import rewrite_for_training
from onnx_ghn.vision import load_dataset, train_stream

PLAIN: dict[str, Any] = {"batch_size": 12, "lr": 0.05, "wd": 0.01, "grad_clip": 1e9, "augment": False, "seed": 3}


def stepped(colours: Path, steps: int) -> torch.nn.Module:
    """The network of the files after steps of torch's own SGD on the batches that finetune sees."""
    net = torch_net().train()
    stream = train_stream(load_dataset(colours, split="trainval"), 12, seed=3, augment=False, drop_last=True)
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        images, labels = stream.batch(step)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
        schedule.step()
    return net


@pytest.mark.parametrize("softmax", [True, False])
def test_steps_are_those_of_torch_in_either_layout(
    colours: Path, net_file: Path, tmp_path: Path, softmax: bool
) -> None:
    wanted = {name: tensor.detach().numpy() for name, tensor in stepped(colours, 4).state_dict().items()}
    options = FinetuneOptions(steps=4, **PLAIN)
    result = finetune(net_file, colours, tmp_path / "torch.onnx", options)
    found = tensors_of(tmp_path / "torch.onnx")
    assert {n for n in wanted if not n.endswith("num_batches_tracked")} == set(found)
    assert (result.n_trained, result.n_statistics, result.steps) == (9, 4, 4)
    for name, values in found.items():
        np.testing.assert_allclose(values, wanted[name], rtol=2e-4, atol=2e-5, err_msg=name)
    keras = keras_like_file(torch_net(), tmp_path / "keras.onnx", softmax=softmax)
    tuned = finetune(keras, colours, tmp_path / "tuned.onnx", options)
    assert tuned.figures["loss"] == pytest.approx(result.figures["loss"], rel=1e-4)
    theirs = tensors_of(tmp_path / "tuned.onnx")
    pairs = {"conv/kernel": "conv.weight", "conv2/bias": "conv2.bias", "bn2/gamma": "norm2.weight"}
    pairs |= {"bn/moving_mean": "norm.running_mean", "bn2/moving_variance": "norm2.running_var"}
    for ours, name in pairs.items():
        np.testing.assert_allclose(theirs[f"model/{ours}"], wanted[name], rtol=2e-4, atol=2e-5, err_msg=name)
    np.testing.assert_allclose(theirs["model/dense/kernel"], wanted["head.weight"].T, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("amp", [False, True])
def test_a_file_learns_and_stays_the_same_file(colours: Path, tmp_path: Path, amp: bool) -> None:
    source = keras_like_file(torch_net(), tmp_path / "init.onnx")
    before = source.read_bytes()
    result = finetune(
        source, colours, tmp_path / "tuned.onnx", FinetuneOptions(epochs=8, batch_size=12, lr=0.1, seed=1)
    )
    assert result.before.top1 < 70 < 95 < result.after.top1
    assert result.after.n_images == 24
    assert source.read_bytes() == before
    assert without_values(tmp_path / "tuned.onnx") == without_values(source)


def test_a_killed_run_goes_on(colours: Path, net_file: Path, tmp_path: Path) -> None:
    options = FinetuneOptions(steps=6, batch_size=8, opt="adamw", lr=0.01)
    whole = finetune(net_file, colours, tmp_path / "whole.onnx", options)
    run = {"run_folder": tmp_path / "run"}
    Finetuning(net_file, colours, tmp_path / "half.onnx", options, **run).run(until=3)  # type: ignore[arg-type]
    tuning = Finetuning(net_file, colours, tmp_path / "parts.onnx", options, **run)  # type: ignore[arg-type]
    assert (tuning.resumed, tuning.loop.step) == (True, 3)
    assert tuning.run().after == whole.after
    assert (tmp_path / "parts.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    assert (tmp_path / "half.onnx").read_bytes() != (tmp_path / "whole.onnx").read_bytes()
    other = torch_file(torch_net(seed=5), tmp_path / "net.onnx")  # the same name, other weights
    with pytest.raises(CheckpointError, match="origin"):
        Finetuning(other, colours, tmp_path / "x.onnx", options, **run)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        (
            {"freeze": ("^conv", "norm2")},
            {"norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "head."},
        ),
        ({"train": ("head",)}, {"head."}),
        ({"train": ("norm",), "freeze": ("running",)}, {"norm.weight", "norm.bias", "norm2.weight", "norm2.bias"}),
    ],
)
def test_what_is_frozen_keeps_its_bits(
    colours: Path, net_file: Path, tmp_path: Path, options: dict[str, Any], changed: set[str]
) -> None:
    finetune(net_file, colours, tmp_path / "tuned.onnx", FinetuneOptions(steps=2, batch_size=8, **options))
    old, new = tensors_of(net_file), tensors_of(tmp_path / "tuned.onnx")
    different = {name for name in old if not np.array_equal(old[name], new[name])}
    assert different == {name for name in old if name.startswith(tuple(changed))}


def test_what_the_exporter_marked_as_frozen_stays(colours: Path, net_file: Path, tmp_path: Path) -> None:
    """Of a frozen layer all; but statistics, which exporters mark in every layer, move where scales are trained."""
    model = onnx.load(net_file)
    statistics = {f"{layer}.running_{name}": None for layer in ("norm", "norm2") for name in ("mean", "var")}
    layer = {"conv.weight": None, "norm2.weight": None, "norm2.bias": None}
    marks = {**statistics, **layer, "head.weight": [[0, 6], [10, 12]]}
    helper.set_model_props(model, {"onnx_ghn.frozen": json.dumps(marks)})
    onnx.save(model, tmp_path / "marked.onnx")
    finetune(tmp_path / "marked.onnx", colours, tmp_path / "tuned.onnx", FinetuneOptions(steps=3, batch_size=8))
    old, new = tensors_of(net_file), tensors_of(tmp_path / "tuned.onnx")
    same = {name for name in old if np.array_equal(old[name], new[name])}
    assert same == {*layer, "norm2.running_mean", "norm2.running_var"}
    kept = (old["head.weight"] == new["head.weight"]).ravel()
    assert kept.tolist() == [*[True] * 6, *[False] * 4, *[True] * 2, *[False] * 6]


def test_statistics_of_a_norm_without_scale_and_shift_move(tmp_path: Path) -> None:
    """Our exporter marks the ones and zeros that torch writes for it, and says nothing of its layer by that."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Flatten(), nn.Linear(4 * 36, 3))
    pytorch.export(net, tmp_path / "net.onnx", torch.zeros(2, 3, 8, 8))
    assert rewrite_for_training(str(tmp_path / "net.onnx")).moved == ("1.running_mean", "1.running_var")


def stored_everywhere(path: Path) -> Path:
    """Weights as an initializer, a Constant, a function's Constant that is called twice, and names that look alike."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((0.2 * rng.standard_normal(shape)).astype(np.float32), name)

    inner = [
        helper.make_node("Constant", [], ["w"], value=weight("w", 8, 8)),
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Relu", ["product"], ["y"]),
    ]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("test", 1)]
    block = helper.make_function("test", "Block", ["x"], ["y"], inner, opsets[:1])
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Constant", [], ["in.weight"], value=weight("in.weight", 3, 8)),
        helper.make_node("MatMul", ["mean", "in.weight"], ["h0"]),
        helper.make_node("Block", ["h0"], ["h1"], domain="test"),
        helper.make_node("Block", ["h1"], ["h2"], domain="test"),
        helper.make_node("MatMul", ["h2", "a.b"], ["h3"]),
        helper.make_node("MatMul", ["h3", "a_b"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "everywhere",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [weight("a.b", 8, 8), weight("a_b", 8, 3)],
    )
    model = helper.make_model(graph, opset_imports=opsets, functions=[block], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def test_weights_are_found_wherever_they_are_stored(colours: Path, tmp_path: Path) -> None:
    from onnx_ghn.onnx_io import read_model, stored_tensors

    source = stored_everywhere(tmp_path / "net.onnx")
    old = {name: entry.numpy() for name, entry in stored_tensors(read_model(source)).items()}
    options = FinetuneOptions(**{**PLAIN, "steps": 3})
    assert finetune(source, colours, tmp_path / "tuned.onnx", options).n_trained == 4
    new = {name: entry.numpy() for name, entry in stored_tensors(read_model(tmp_path / "tuned.onnx")).items()}
    assert set(new) == set(old)
    names = ("in.weight", "test::Block/w", "a.b", "a_b")
    given, block, first, second = (torch.tensor(old[name], requires_grad=True) for name in names)
    stream = train_stream(load_dataset(colours, split="trainval"), 12, seed=3, augment=False, drop_last=True)
    optimizer = torch.optim.SGD([given, block, first, second], 0.05, momentum=0.9, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
    for step in range(3):
        images, labels = stream.batch(step)
        hidden = images.mean((2, 3)) @ given
        logits = torch.relu(torch.relu(hidden @ block) @ block) @ first @ second
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
        schedule.step()
    for name, tensor in zip(names, (given, block, first, second), strict=True):
        np.testing.assert_allclose(new[name], tensor.detach().numpy(), rtol=1e-4, atol=1e-6, err_msg=name)


def test_merged_statistics_move_apart(colours: Path, tmp_path: Path) -> None:
    """A fresh torch network's running means are one tensor of zeros in the file."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3),
        torch.nn.BatchNorm2d(8), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 3),
    )  # fmt: skip
    source = torch_file(net.eval(), tmp_path / "fresh.onnx")
    assert len(tensors_of(source)) < 14
    finetune(source, colours, tmp_path / "tuned.onnx", FinetuneOptions(steps=2, batch_size=12))
    new = tensors_of(tmp_path / "tuned.onnx")
    means = [new["1.running_mean"], new["4.running_mean"]]
    assert all(np.abs(mean).min() > 0 for mean in means)
    assert not np.array_equal(*means)


def test_dropout_has_the_ratio_of_the_file(tmp_path: Path) -> None:
    from onnx_ghn.finetuning.conversion import as_classifier

    for opset in (11, 17):
        ratio = numpy_helper.from_array(np.array(0.3, np.float32), "ratio")
        old = {"ratio": 0.3} if opset == 11 else {}
        nodes = [
            helper.make_node("Dropout", ["image"] if old else ["image", "ratio"], ["dropped"], **old),
            helper.make_node("Conv", ["dropped", "w"], ["out"]),
        ]
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 64])],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "w"), ratio],
        )
        path = tmp_path / f"{opset}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
        net, _ = as_classifier(path)
        images = torch.ones(1, 3, 64, 64)
        torch.manual_seed(0)
        dropped = net.train()(images).detach()
        assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.02)
        assert float(dropped.max()) == pytest.approx(1 / 0.7)
        assert torch.equal(net.eval()(images).detach(), images)


def test_held_out_images(colours: Path, net_file: Path, tmp_path: Path) -> None:
    options = {"steps": 1, "batch_size": 8}
    share = finetune(net_file, colours, tmp_path / "a.onnx", FinetuneOptions(val="0.25", **options))  # type: ignore[arg-type]
    assert (share.n_images, share.after.n_images) == (54, 18)
    more = draw_colours(tmp_path / "more", {"all": 5}, side=SIDE) / "all"
    other = finetune(net_file, colours, tmp_path / "b.onnx", FinetuneOptions(val=str(more), **options))  # type: ignore[arg-type]
    assert (other.n_images, other.after.n_images) == (72, 15)
    (more / "red").rename(more / "pink")
    with pytest.raises(DataError, match="classes blue, green, pink, not those"):
        finetune(net_file, colours, tmp_path / "c.onnx", FinetuneOptions(val=str(more)))
    with pytest.raises(OptionError, match="between 0 and 1"):
        finetune(net_file, colours, tmp_path / "c.onnx", FinetuneOptions(val="1.5"))


def edited(source: Path, target: Path, change: Any) -> Path:
    model = onnx.load(source)
    change(model)
    onnx.save(model, target)
    return target


def half(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16


def unknown(model: onnx.ModelProto) -> None:
    """onnxruntime knows more operators than the converter."""
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.op_type, node.domain, node.name = "QuickGelu", "com.microsoft", "odd"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def integers(model: onnx.ModelProto) -> None:
    cast = helper.make_node("Cast", ["pixels"], ["image"], to=TensorProto.FLOAT)
    model.graph.node.insert(0, cast)
    model.graph.input[0].name = "pixels"
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8


def oblong(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = SIDE + 4


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (half, GraphError, "stored as float16; export the model in float32"),
        (oblong, OptionError, "square images"),
        (unknown, GraphError, r"operator com\.microsoft\.QuickGelu \(opset 1\) of node 'odd' cannot be trained"),
        (integers, RuntimeFailure, "input is of type uint8"),
    ],
)
def test_what_cannot_be_tuned_is_told(
    colours: Path, net_file: Path, tmp_path: Path, change: Any, error: type[OnnxGhnError], message: str
) -> None:
    source = edited(net_file, tmp_path / "odd.onnx", change)
    with pytest.raises(error, match=message):
        finetune(source, colours, tmp_path / "tuned.onnx")
    assert not (tmp_path / "tuned.onnx").exists()


def test_options_that_go_wrong_are_told(colours: Path, net_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "tuned.onnx"
    wide = torch_file(torch_net(n_classes=5), tmp_path / "wide.onnx")
    with pytest.raises(DataError, match="tells 5 classes apart, the images are of 3; export the model with 3 outputs"):
        finetune(wide, colours, target)
    with pytest.raises(ModelReadError, match="no such file"):
        finetune(tmp_path / "absent.onnx", colours, target)
    with pytest.raises(OptionError, match="is the file to be read"):
        finetune(wide, colours, wide, force=True)
    with pytest.raises(OptionError, match="no tensor is left to train"):
        finetune(net_file, colours, target, FinetuneOptions(train=("nothing",)))
    with pytest.raises(OptionError, match="no regular expression"):
        finetune(net_file, colours, target, FinetuneOptions(freeze=("(",)))
    with pytest.raises(OptionError, match="72 training images; take fewer"):
        finetune(net_file, colours, target, FinetuneOptions(batch_size=100))
    with pytest.raises(OnnxGhnError, match="loss is"):
        finetune(net_file, colours, target, FinetuneOptions(lr=1e30, steps=9, batch_size=8))
    assert not target.exists()
    target.write_text("mine")
    with pytest.raises(OnnxGhnError, match="exists"):
        finetune(net_file, colours, target)
    assert target.read_text() == "mine"


def test_the_command_prints_what_the_files_reach(colours: Path, tmp_path: Path) -> None:
    source, target = keras_like_file(torch_net(), tmp_path / "init.onnx"), tmp_path / "tuned.onnx"
    arguments = [source, "-d", colours, "-o", target, "-e", 4, "-b", 12, "--lr", 0.1, "-S", tmp_path / "out"]
    given = [str(argument) for argument in arguments]
    outcome = CliRunner().invoke(command, given, catch_exceptions=False)
    assert outcome.exit_code == 0
    assert "top-1" in outcome.output
    assert "9 tensors trained, 4 running statistics moved, 24 steps on 72 images" in outcome.output
    assert (tmp_path / "out" / "tuned" / "log.jsonl").exists()
    again = CliRunner().invoke(command, [*given, "--force", "--json"], catch_exceptions=False)
    found = json.loads(again.output)
    assert found["steps"] == 24
    assert found["after"]["top1"] > found["before"]["top1"]
    assert f"{found['after']['top1']:.2f}" in outcome.output
