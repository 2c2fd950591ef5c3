"""What a file or folder is that is given for an ONNX model, and the command that makes the model of it."""

from __future__ import annotations

import os
import re
import shlex

__all__ = ["ENDS", "folder_told", "lookalike", "told_at_once"]

ENDS = 1 << 16  # bytes at either end, where archives have their lists

_LONGEST_HEADER = 10**8  # of safetensors, which sets this limit itself
_NOT = "is not an ONNX model"
_WEIGHTS = "which hold no network: export the network itself"

# How other files that end up with the name of a model begin (where known, at which byte).
_BEGINNINGS = (
    (0, b"\x1f\x8b", "compressed with gzip; unpack it"),
    (0, b"\x80", f"a Python pickle, such as old PyTorch files, {_WEIGHTS} by `onnx-ghn export torch:net.py:build`"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it"),
    (0, b"\xfd7zXZ\0", "compressed with xz; unpack it"),
    (0, b"BZh", "compressed with bzip2; unpack it"),
    (257, b"ustar", "a tar archive; unpack it, or export the network in it by `onnx-ghn export`"),
    (0, b"version https://git-lfs", "a Git LFS pointer; run `git lfs pull`"),
    (0, b"<net", "a model of OpenVINO; use the ONNX file that it was made from"),
    (0, b'<?xml version="1.0"?>\n<net', "a model of OpenVINO; use the ONNX file that it was made from"),
    (0, b"<", "a web page or XML; download the model again"),
    (4, b"ORTM", "in onnxruntime's own format; use the .onnx file that it was made from"),
    (4, b"ET12", "a program of ExecuTorch; use the ONNX file that it was made from, or export the network itself"),
    (0, b"7767517", "a network of ncnn; use the ONNX file that it was made from"),
    (0, b"GGUF", f"weights in the form of llama.cpp, {_WEIGHTS} by `onnx-ghn export hf:FOLDER`"),
)
#: The first byte of each field of a ModelProto, by its number and its form (varint or length-delimited).
_FIRST_BYTES = frozenset(
    bytes([(number << 3 | form) & 0x7F | (0x80 if number > 15 else 0)])
    for number, form in {(1, 0), (5, 0), *((number, 2) for number in (2, 3, 4, 6, 7, 8, 14, 20, 25, 26))}
)
# How ONNX models begin that are written as text, by the name that onnx gives the form.
_TEXTS = (
    ("onnxtxt", re.compile(rb"\s*<\s*(ir_version|opset_import|producer_name)\s*:")),
    (
        "textproto",
        re.compile(rb"\s*(ir_version|producer_name|producer_version|domain)\s*:|\s*(graph|opset_import)\s*\{"),
    ),
    ("json", re.compile(rb"\s*\{\s*\"(ir_?[vV]ersion|opset_?[iI]mport|producer_?[nN]ame)\"")),
)
_EXPORTS = {  # weights by the endings of their frameworks
    ".pdparams": "paddle",
    ".pdiparams": "paddle",
    ".pdopt": "paddle",
    ".msgpack": "flax",
    ".eqx": "equinox",
    ".ckpt": "torch",
    ".npz": "torch",
}


def lookalike(data: bytes, path: str = "") -> str:
    """What content that is no ONNX model is, told as the end of a sentence on it.

    Args:
        data: of the file; of a large one its beginning and its end.
        path: of the file, if it has one.
    """
    told = _known(data, path)
    if told is not None:
        return f"{_NOT} but {told}"
    ending = os.path.splitext(path)[1].lower()
    if ending in _EXPORTS:
        return f"{_NOT} but weights, {_WEIGHTS} by `onnx-ghn export {_EXPORTS[ending]}:net.py:build`"
    head = data[:512]
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        if ending == ".py":
            return (
                f"is Python code: export the network of a function by `onnx-ghn export torch:{_quoted(path)}:FUNCTION`"
            )
        return "is text, not a binary ONNX model; export the model again"
    return f"{_NOT}, or is damaged or truncated; copy, download or export it again"


def told_at_once(path: str) -> str | None:
    """What a file is that cannot be an ONNX model by its first byte; None where it may be one, or is no plain file."""
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        data = file.read(1)
        if data in _FIRST_BYTES or not data:
            return None
        data += file.read(ENDS - 1)
        if (size := os.fstat(file.fileno()).st_size) > ENDS:
            file.seek(-min(ENDS, size - ENDS), os.SEEK_END)
            data += file.read(ENDS)
    return lookalike(data, path)


def folder_told(path: str) -> str:
    """What a folder is that is given for a model, told as the end of a sentence on it."""
    quoted = _quoted(path)
    if os.path.isfile(os.path.join(path, "saved_model.pb")):
        return f"is a SavedModel of TensorFlow: `onnx-ghn export tensorflow:{quoted} -o model.onnx` exports it"
    if os.path.isfile(os.path.join(path, "config.json")):
        return f"is a folder with a config.json: `onnx-ghn export hf:{quoted} -o model.onnx` exports its model"
    return "is a directory; name the .onnx file in it"


def _known(data: bytes, path: str) -> str | None:
    quoted, name = _quoted(path) or "FILE", os.path.basename(path).lower()
    if data[:4] == b"PK\x03\x04":
        if b"model.weights.h5" in data:
            return f"a model of Keras: `onnx-ghn export keras:{quoted} -o model.onnx` exports it"
        if b"/constants.pkl" in data and b"/code/" in data:
            return (
                "a TorchScript archive: export the module that it was made from by `onnx-ghn export torch:net.py:build`"
            )
        if b"/archive_format" in data and b"/models/" in data:
            code = f"import torch; torch.onnx.export(torch.export.load({_literal(path)}), f='model.onnx', dynamo=True)"
            return f"a program that torch.export saved; convert it by `{_python(code)}`"
        if b"/data.pkl" in data:
            return f"weights of PyTorch, {_WEIGHTS} by `onnx-ghn export torch:net.py:build`"
        return "a zip archive; unpack it, or export the network in it by `onnx-ghn export`"
    if data[:4] == b"\x89HDF":
        if b"model_config" in data:
            return f"a model of Keras: `onnx-ghn export keras:{quoted} -o model.onnx` exports it"
        return f"weights in HDF5, {_WEIGHTS} by `onnx-ghn export keras:net.py:build`"
    if data[8:10] == b'{"' and 0 < int.from_bytes(data[:8], "little") < _LONGEST_HEADER:
        return f"weights in safetensors, {_WEIGHTS} by `onnx-ghn export torch:net.py:build` or `hf:FOLDER`"
    if data[4:8] == b"TFL3":
        return (
            "a TensorFlow Lite model: export what it was made from by `onnx-ghn export keras:saved.keras`, or convert "
            f"it by `python -m tf2onnx.convert --tflite {quoted} --output model.onnx`"
        )
    for form, beginning in _TEXTS:
        if beginning.match(data[:512]):
            code = f"import onnx; onnx.save(onnx.load({_literal(path)}, format={form!r}), 'model.onnx')"
            return f"one that is written as text ({form}); make it binary by `{_python(code)}`"
    if data.startswith(b'{"base_code":') or name.endswith(".pdmodel"):
        return (
            "a program of Paddle: export what it was made from by `onnx-ghn export paddle:net.py:build`, or convert it "
            f"by `paddle2onnx --model_dir {_quoted(os.path.dirname(path) or os.curdir)} --model_filename "
            f"{_quoted(os.path.basename(path)) or 'FILE'} --params_filename WEIGHTS.pdiparams --save_file model.onnx`"
        )
    for at, magic, what in _BEGINNINGS:
        if data[at : at + len(magic)] == magic:
            return what
    if name == "saved_model.pb" or (name.endswith(".pb") and data[:3] == b"\x08\x01\x12"):
        folder = _quoted(os.path.dirname(path) or os.curdir)
        return f"a SavedModel of TensorFlow: `onnx-ghn export tensorflow:{folder} -o model.onnx` exports it"
    if name.endswith(".pb") and data[:1] == b"\n":
        return (
            "a frozen graph of TensorFlow: export the SavedModel that it was made from by `onnx-ghn export "
            f"tensorflow:FOLDER`, or convert it by `python -m tf2onnx.convert --graphdef {quoted} --output model.onnx`"
        )
    return None


def _python(code: str) -> str:
    """The command that runs code, in double quotes where these leave it as it is, as it holds single ones."""
    return f'python -c "{code}"' if not set(code) & set('"$`\\!') else f"python -c {shlex.quote(code)}"


def _literal(path: str) -> str:
    """A path as Python takes it."""
    return repr(path or "FILE")


def _quoted(path: str) -> str:
    """A path as a shell takes it."""
    return shlex.quote(path) if path else ""
