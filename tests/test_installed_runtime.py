"""onnxruntime that is missing, broken, or there twice: one line with the cause and the remedy, in every command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.ghn import GHNConfig, new_ghn
from onnx_ghn.installed_runtime import require_onnxruntime
from onnx_ghn.prediction import predict
from onnx_ghn.profiling import profile
from onnx_ghn.runtime import open_session

ROOT = Path(__file__).resolve().parents[1]
Broken = Callable[..., None]


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broken]:
    """Put another module onnxruntime before the installed one, and say which packages pip knows."""
    real = taken_out()
    sys.modules.update(real)

    def install(content: str, *packages: str) -> None:
        taken_out()
        (tmp_path / "site" / "onnxruntime").mkdir(parents=True)
        (tmp_path / "site" / "onnxruntime" / "__init__.py").write_text(content)
        monkeypatch.syspath_prepend(tmp_path / "site")
        known = [SimpleNamespace(metadata={"Name": name}) for name in (*packages, "onnx", "onnxruntime-extensions")]
        monkeypatch.setattr(metadata, "distributions", lambda: iter(known))
        require_onnxruntime.cache_clear()

    yield install
    # Also where the installed one was not imported before: the other one would serve the tests that follow.
    taken_out()
    sys.modules.update(real)
    require_onnxruntime.cache_clear()


def taken_out() -> dict[str, ModuleType]:
    """The modules of onnxruntime, which are no longer imported."""
    names = [name for name in sys.modules if name.split(".")[0] == "onnxruntime"]
    return {name: sys.modules.pop(name) for name in names}


def batch_norm(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    tensors = [("w", (8, 3, 3, 3)), *((name, (8,)) for name in "sbmv"), ("f", (8, 4))]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("BatchNormalization", ["a", *"sbmv"], ["n"]),
        helper.make_node("ReduceMean", ["n"], ["p"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["p", "f"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", 1, [1, 4])],
        [numpy_helper.from_array(rng.uniform(0.5, 1, shape).astype(np.float32), name) for name, shape in tensors],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


CUDA = "libcublasLt.so.13: cannot open shared object file: No such file or directory"
CASES = [
    (
        "raise ModuleNotFoundError(\"No module named 'onnxruntime'\")",
        (),
        ("is not installed", "pip install", "[cpu]"),
    ),
    (
        f"raise ImportError({CUDA!r})",
        ("onnxruntime-gpu",),
        ("libcublasLt.so.13 of NVIDIA's CUDA 13", "onnxruntime-gpu"),
    ),
    ("raise ImportError('libcudart.so.12: cannot open')", ("onnxruntime_gpu",), ("CUDA 12 libraries is missing",)),
    ("raise ImportError('DLL load failed: cudart64_13.dll')", ("onnxruntime-gpu",), ("CUDA 13 libraries is missing",)),
    ("raise ImportError('libcudnn.so.9: cannot open')", ("ort-nightly-gpu",), ("libcudnn.so.9", "ort-nightly-gpu")),
    ("", ("onnxruntime",), ("half of it was removed", "--force-reinstall --no-deps onnxruntime")),
    ("import onnxruntime.capi", ("onnxruntime-directml",), ("onnxruntime.capi", "--no-deps onnxruntime-directml")),
    ("", ("onnxruntime", "onnxruntime-gpu"), ("onnxruntime and onnxruntime-gpu are installed at once", "uninstall -y")),
    ("raise AttributeError('_ARRAY_API not found')", ("onnxruntime",), ("_ARRAY_API not found", "--force-reinstall")),
]


@pytest.mark.parametrize(("content", "packages", "words"), CASES)
def test_the_cause_and_the_remedy(
    broken: Broken, tmp_path: Path, content: str, packages: tuple[str, ...], words: tuple[str, ...]
) -> None:
    broken(content, *packages)
    with pytest.raises(RuntimeFailure) as caught:
        open_session(tmp_path / "m.onnx")
    told = str(caught.value)
    assert told.startswith("onnxruntime ")
    assert "\n" not in told
    assert [word for word in words if word not in told] == []
    with pytest.raises(RuntimeFailure, match="onnxruntime"):
        profile(batch_norm(tmp_path))


@pytest.mark.parametrize(("content", "packages", "words"), [CASES[0], CASES[1], CASES[5]])
def test_a_prediction_keeps_statistics_and_says_why(
    broken: Broken, tmp_path: Path, content: str, packages: tuple[str, ...], words: tuple[str, ...]
) -> None:
    network = new_ghn(GHNConfig.preset("ghn2", hid=8, max_shape=(8, 8, 3, 3)), seed=0)  # torch starts without the fake
    broken(content, *packages)
    path = batch_norm(tmp_path)
    found = predict(path, tmp_path / "out.onnx", ghn=network, correct_scales=False)
    (note,) = found.coverage.notes
    assert note.startswith("2 running statistics are kept: onnxruntime ")
    assert words[0] in note
    old, new = (
        {t.name: numpy_helper.to_array(t) for t in onnx.load(p).graph.initializer}
        for p in (path, tmp_path / "out.onnx")
    )
    np.testing.assert_array_equal(new["v"], old["v"])
    assert not np.array_equal(new["w"], old["w"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("eval", "--model", "{model}", "-d", "{images}"),
        ("finetune", "{model}", "-d", "{images}", "-o", "{out}"),
        ("profile", "{model}"),
        ("predict", "{model}", "-o", "{out}", "--policy", "all", "--calibrate", "{images}"),
    ],
)
def test_commands_that_need_it(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """In a process of its own, where the import fails as it does for people."""
    from PIL import Image

    package = tmp_path / "site" / "onnxruntime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"raise ImportError({CUDA!r})")
    for split in ("train", "test"):
        for label in "ab":
            (tmp_path / "images" / split / label).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / "images" / split / label / "0.png")
    places = {"model": batch_norm(tmp_path), "images": tmp_path / "images", "out": tmp_path / "o.onnx"}
    environment = {"PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "onnx_ghn", *(argument.format(**places) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "libcublasLt.so.13 of NVIDIA's CUDA 13 libraries is missing" in done.stderr
