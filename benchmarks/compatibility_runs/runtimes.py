"""Runtimes: the outputs of a predicted file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from compatibility_runs.cells import Cell
from compatibility_runs.comparing import compare
from compatibility_runs.given_files import Given, given
from compatibility_runs.messages import short
from compatibility_runs.rows import Row
from compatibility_runs.running_files import run

__all__ = ["measure"]


def _onnxruntime(files: Given, folder: Path) -> np.ndarray:
    return run(files.path, files.inputs)


def _openvino(files: Given, folder: Path) -> np.ndarray:
    import openvino

    compiled = openvino.compile_model(str(files.path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.asarray(compiled(files.inputs)[0])


def _tract(files: Given, folder: Path) -> np.ndarray:
    import tract

    model = tract.onnx().load(str(files.path))
    for i, value in enumerate(files.inputs):
        kind = {"float32": "f32", "int64": "i64", "int32": "i32"}[str(value.dtype)]
        model.set_input_fact(i, ",".join([*map(str, value.shape), kind]))
    return model.into_model().into_runnable().run([np.ascontiguousarray(v) for v in files.inputs])[0].to_numpy()


def _opencv(files: Given, folder: Path) -> np.ndarray:
    import cv2

    net = cv2.dnn.readNetFromONNX(str(files.path))
    for graph_input, value in zip(onnx.load(files.path).graph.input, files.inputs, strict=True):
        net.setInput(value, graph_input.name)
    return np.asarray(net.forward())


def _reference(files: Given, folder: Path) -> np.ndarray:
    from onnx.reference import ReferenceEvaluator

    session = ReferenceEvaluator(str(files.path))
    return np.asarray(session.run(None, dict(zip(session.input_names, files.inputs, strict=True)))[0])


def _ncnn(files: Given, folder: Path) -> np.ndarray:
    import ncnn
    import pnnx

    program = next(Path(pnnx.__file__).parent.rglob("bin/pnnx"), None) or Path(sys.executable).parent / "pnnx"
    target = folder / "model.onnx"
    target.write_bytes(files.path.read_bytes())
    kinds = {"float32": "f32", "int64": "i64", "int32": "i32"}
    shapes = ",".join(f"[{','.join(map(str, v.shape))}]{kinds[str(v.dtype)]}" for v in files.inputs)
    done = subprocess.run(
        [str(program), str(target), f"inputshape={shapes}", "fp16=0"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if not (folder / "model.ncnn.param").exists():
        raise RuntimeError(f"pnnx writes no file: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    net = ncnn.Net()
    net.opt.use_fp16_storage = net.opt.use_fp16_packed = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    if net.load_param(str(folder / "model.ncnn.param")) or net.load_model(str(folder / "model.ncnn.bin")):
        raise RuntimeError("ncnn does not load what pnnx wrote")
    rows = []
    for i in range(len(files.inputs[0])):  # ncnn knows no batch
        extractor = net.create_extractor()
        for j, value in enumerate(files.inputs):
            one = value[i].astype(np.float32 if value.dtype == np.float32 else np.int32)
            extractor.input(f"in{j}", ncnn.Mat(np.ascontiguousarray(one)).clone())
        code, found = extractor.extract("out0")
        if code:
            raise RuntimeError(f"ncnn ends with {code}")
        rows.append(np.array(found))
    return np.stack(rows)


def _iree(files: Given, folder: Path) -> np.ndarray:
    import iree.compiler
    import iree.runtime

    binaries = Path(sys.executable).parent
    text, compiled = folder / "model.mlir", folder / "model.vmfb"
    device = "--iree-hal-target-device=local", "--iree-hal-local-target-device-backends=llvm-cpu"
    for command in (
        [binaries / "iree-import-onnx", files.path, "-o", text],
        [binaries / "iree-compile", text, *device, "--iree-llvmcpu-target-cpu=host", "-o", compiled],
    ):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if "error" in line.lower()]
            raise RuntimeError(said[0] if said else "no message")
    module = iree.runtime.load_vm_flatbuffer_file(str(compiled), driver="local-task")
    name = next(each for each in module.vm_module.function_names if not each.startswith("__") and "$" not in each)
    outputs = module[name](*files.inputs)
    return np.asarray(outputs[0] if isinstance(outputs, list | tuple) else outputs)


_RUNTIMES: dict[str, Callable[[Given, Path], np.ndarray]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "tract": _tract,
    "opencv": _opencv,
    "onnx-reference": _reference,
    "ncnn": _ncnn,
    "iree": _iree,
}


def measure(row: Row, network: str, folder: Path) -> dict[str, Cell]:
    """Run a file, and hold the outputs against those of onnxruntime in the environment of onnx-ghn."""
    files = given(network)
    try:
        outputs = _RUNTIMES[row.key](files, folder)
    except Exception as error:  # noqa: BLE001 - of foreign software; the cell tells it
        return {"outputs": Cell("refused", short(error))}
    return {"outputs": compare(outputs, files.outputs, row.tolerance)}
