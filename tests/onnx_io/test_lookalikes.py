"""Files that are given for an ONNX model, written by the libraries that write them, and what is said of each."""

from __future__ import annotations

import shlex
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from keras_backend import choose_keras_backend

from onnx_ghn.errors import ModelReadError
from onnx_ghn.onnx_io import read_model
from onnx_ghn.onnx_io.lookalikes import told_at_once


def state_dict(path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(3, 2).state_dict(), path)


def old_state_dict(path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(3, 2).state_dict(), path, _use_new_zipfile_serialization=False)


def script(path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.jit.save(torch.jit.script(torch.nn.Linear(3, 2)), path)


def safe_tensors(path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros((2, 3), np.float32)}, path)


def keras_file(path: Path) -> None:
    choose_keras_backend()
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    (model.save_weights if path.name.endswith(".weights.h5") else model.save)(path)


def lite(path: Path) -> None:
    path.write_bytes(struct.pack("<I", 28) + b"TFL3" + bytes(64))


def frozen_graph(path: Path) -> None:
    """A GraphDef whose only node is a placeholder x."""
    path.write_bytes(b"\n\x10\n\x01x\x12\x0bPlaceholder")


def saved_model(path: Path) -> None:
    """The beginning of a SavedModel: its schema's version, and a meta graph."""
    path.write_bytes(b"\x08\x01\x12\x04\n\x02\x12\x00")


def program(path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.export.save(torch.export.export(torch.nn.Linear(3, 2), (torch.zeros(1, 3),)), path)


def text(path: Path) -> None:
    """A model in the text form that onnx itself writes for the ending of the path."""
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 17]> g (float[3] x) => (float[3] y) { y = Relu(x) }'
    )
    onnx.save(model, path)


def paddle_program(path: Path) -> None:
    path.write_text('{"base_code":{"magic":"pir","trainable":false,"version":1},"program":{"regions":[]}}')


def code(path: Path) -> None:
    path.write_text("def build(): ...\n")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "write", "told"),
    [
        ("a.pth", state_dict, "weights of PyTorch, which hold no network: .* `onnx-ghn export torch:net.py:build`"),
        ("a.pt", old_state_dict, "a Python pickle, .* `onnx-ghn export torch:net.py:build`"),
        ("s.pt", script, "a TorchScript archive: .* `onnx-ghn export torch:net.py:build`"),
        (
            "a.safetensors",
            safe_tensors,
            "weights in safetensors, .* `onnx-ghn export torch:net.py:build` or `hf:",
        ),
        ("a b.keras", keras_file, "a model of Keras: `onnx-ghn export keras:'.*/a b.keras' -o model.onnx` exports it"),
        ("a.h5", keras_file, "a model of Keras: `onnx-ghn export keras:.*/a.h5 -o model.onnx` exports it"),
        ("a.weights.h5", keras_file, "weights in HDF5, .* `onnx-ghn export keras:net.py:build`"),
        ("a.tflite", lite, "a TensorFlow Lite model: .*`python -m tf2onnx.convert --tflite .*/a.tflite"),
        ("a.pb", frozen_graph, "a frozen graph of TensorFlow: .*`onnx-ghn export tensorflow:FOLDER`"),
        ("saved_model.pb", saved_model, "a SavedModel of TensorFlow: `onnx-ghn export tensorflow:.* -o model.onnx`"),
        ("a.pt2", program, r"a program that torch.export saved; convert it by `python -c \"import torch; .*a.pt2"),
        ("a.onnxtxt", text, r"one that is written as text \(onnxtxt\); make it binary by `python -c \"import onnx;"),
        ("a.textproto", text, r"written as text \(textproto\); make it binary by"),
        ("a.onnxjson", text, r"written as text \(json\); make it binary by"),
        ("a.json", paddle_program, "a program of Paddle: .*`paddle2onnx --model_dir .* --model_filename a.json"),
        ("net.py", code, "Python code: .* `onnx-ghn export torch:.*/net.py:FUNCTION"),
    ],
)
def test_the_command_that_makes_the_model_is_named(
    tmp_path: Path, name: str, write: Callable[[Path], None], told: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(ModelReadError, match=told) as raised:
        read_model(tmp_path / name)
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ending", ["onnxtxt", "textproto", "onnxjson", "onnx"])
def test_the_command_for_text_makes_the_model(tmp_path: Path, ending: str) -> None:
    """Also where the name does not tell the form."""
    text(tmp_path / "it's.onnxtxt" if ending == "onnx" else tmp_path / f"a.{ending}")
    (path,) = tmp_path.iterdir()
    if ending == "onnx":
        path = path.rename(tmp_path / "it's.onnx")
    with pytest.raises(ModelReadError) as raised:
        read_model(path)
    command = str(raised.value).split("`")[1].replace("python", shlex.quote(sys.executable), 1)
    subprocess.run(command, shell=True, check=True, cwd=tmp_path, stderr=subprocess.DEVNULL)
    assert [node.op_type for node in read_model(tmp_path / "model.onnx").graph] == ["Relu"]


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelReadError, match=r"is a directory; name the \.onnx file in it"):
        read_model(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelReadError, match="`onnx-ghn export hf:"):
        read_model(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(ModelReadError, match="`onnx-ghn export tensorflow:"):
        read_model(tmp_path)


def test_an_onnx_model_under_another_ending_is_read(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "data" / "examples" / "lstm_text.onnx"
    (tmp_path / "model.pb").write_bytes(example.read_bytes())
    assert read_model(tmp_path / "model.pb").graph.name == read_model(example).graph.name


def test_a_large_file_that_is_left_on_the_disk_is_told_as_well(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"weight": torch.zeros(3 << 20)}, tmp_path / "large.pth")
    with pytest.raises(ModelReadError, match="weights of PyTorch, which hold no network"):
        read_model(tmp_path / "large.pth", leave_on_disk=True)


@pytest.mark.parametrize("field", list(onnx.ModelProto.DESCRIPTOR.fields), ids=lambda field: field.name)
def test_a_model_may_begin_with_any_of_its_fields(field: Any, tmp_path: Path) -> None:
    model = onnx.ModelProto()
    if field.name == "graph":
        model.graph.SetInParent()
    elif field.type == field.TYPE_MESSAGE:
        getattr(model, field.name).add()
    else:
        setattr(model, field.name, 1 if field.type == field.TYPE_INT64 else "a")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert told_at_once(str(tmp_path / "m.onnx")) is None


def test_what_is_no_model_by_its_first_byte_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("a,b\n1,2\n")
    code = f"import sys; from onnx_ghn.cli.checks import check_model; check_model({str(path)!r})"
    found = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True)
    assert found.returncode == 1
    assert f"{path}: is text, not a binary ONNX model" in found.stderr
    loaded = {line.split("|")[-1].strip() for line in found.stderr.splitlines() if line.startswith("import time:")}
    assert not loaded & {"torch", "onnx", "onnx_ir", "numpy"}
    assert told_at_once(str(tmp_path)) is None
    with pytest.raises(ModelReadError, match="is text"):
        read_model(path)
