"""A model in several precisions: what is converted, measured and kept, and one line for what is wrong."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper
from PIL import Image

for _folder in ("cli", "graph"):
    _path = str(Path(__file__).resolve().parents[1] / _folder)
    if _path not in sys.path:
        sys.path.append(_path)

from cli_tools import command, one_line, snapshot  # noqa: E402
from graph_models import Net  # noqa: E402

from onnx_ghn.errors import ModelWriteError, OptionError, RuntimeFailure  # noqa: E402
from onnx_ghn.profiling import conversions  # noqa: E402
from onnx_ghn.profiling.conversions import convert  # noqa: E402
from onnx_ghn.profiling.kept_models import keep  # noqa: E402
from onnx_ghn.profiling.settings import Settings  # noqa: E402
from onnx_ghn.training.precision_profile import profile_precisions  # noqa: E402
from onnx_ghn.training.precision_settings import Precisions  # noqa: E402

QUICK = Settings(warmup=0, iterations=20)
QUICKLY = ("--threads", "1", "--iterations", "20", "--warmup", "0")


def tells_red_from_green(width: int = 16) -> onnx.ModelProto:
    """A classifier of 8 × 8 images, red or green; a wide layer makes the file's size one of weights."""
    net = Net(opset=17)
    x = net.input("batch", 3, 8, 8, name="x")
    kernel = np.zeros((width, 3, 3, 3), np.float32)
    kernel[0, 0, 1, 1] = kernel[1, 1, 1, 1] = 1
    y = net.op("Conv", x, net.weight(array=kernel, name="w"), pads=[1, 1, 1, 1])
    y = net.op("Flatten", net.op("GlobalAveragePool", y))
    head = np.zeros((width, 2), np.float32)
    head[0, 0] = head[1, 1] = 1
    return net.model(net.op("Gemm", y, net.weight(array=head, name="h")), shape=("batch", 2))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    file = folder / "colours.onnx"
    file.write_bytes(tells_red_from_green(512).SerializeToString())
    return file


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 24), ("test", 10)):
        for channel, name in enumerate(("a_red", "b_green")):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (8, 8, 3), dtype=np.uint8)
                pixels[..., channel] += 150
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "images"


def test_speed_size_and_accuracy(path, images, tmp_path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    before = path.read_bytes()
    precisions = Precisions(precision=("fp32", "fp16", "int8"), data=str(images), converted=str(kept))
    rows = profile_precisions(path, precisions, QUICK, threads=[1])
    assert [(row.precision, row.error) for row in rows] == [("fp32", None), ("fp16", None), ("int8", None)]
    assert [(row.top1, row.n_images) for row in rows] == [(100.0, 20)] * 3
    # float16 halves the weights, int8 quarters them; the rest of the file is small.
    full, half, quarter = (row.size_bytes for row in rows)
    assert 0.5 < half / full < 0.6
    assert 0.25 < quarter / full < 0.6
    assert rows[0].ratio is None
    assert all(row.ratio.low <= row.ratio.ratio <= row.ratio.high for row in rows[1:])
    assert all(row.point.memory.peak_bytes > 0 and row.point.latency.n_runs == 20 for row in rows)
    assert path.read_bytes() == before
    assert sorted(file.name for file in kept.iterdir()) == ["colours.fp16.onnx", "colours.int8.onnx"]
    kinds = {node.op_type for node in onnx.load(kept / "colours.int8.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    stored = {tensor.data_type for tensor in onnx.load(kept / "colours.fp16.onnx").graph.initializer}
    assert stored == {TensorProto.FLOAT16}


def test_only_what_is_written_is_in_the_way(path, tmp_path) -> None:
    """fp32 is the file as it is: nothing is written in its name, and nothing of that name is looked at."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "colours.fp32.onnx").write_bytes(b"mine")
    outcome = command("profile", path, *QUICKLY, "--precision", "fp32,fp16", "--converted", kept)
    assert outcome.code == 0, outcome.err
    assert (kept / "colours.fp32.onnx").read_bytes() == b"mine"
    first = (kept / "colours.fp16.onnx").read_bytes()
    precisions = Precisions(precision=("fp16",), converted=str(kept))
    with pytest.raises(ModelWriteError, match="exists already"):
        profile_precisions(path, precisions, QUICK, threads=[1])
    (kept / "colours.fp16.onnx").write_bytes(b"old")
    profile_precisions(path, precisions, QUICK, force=True, threads=[1])
    assert (kept / "colours.fp16.onnx").read_bytes() == first
    (kept / "colours.int8.onnx.data").write_bytes(b"weights of mine")
    one_line(command("profile", path, *QUICKLY, "--precision", "int8", "--converted", kept), "int8.onnx.data: exists")


@pytest.mark.parametrize("precision", ["fp16", "int8-dynamic"])
def test_large_models_keep_their_weights_beside_them(path, tmp_path, monkeypatch, precision) -> None:
    """The file of the weights has the name that is looked for before the work."""
    monkeypatch.setattr(conversions, "_LARGE_BYTES", 0)
    folder = tmp_path / "converted"
    folder.mkdir()
    target = folder / f"colours.{precision}.onnx"
    convert(str(path), precision, str(target), [])
    kept = tmp_path / "kept"
    kept.mkdir()
    keep(target, kept, force=False)
    assert sorted(file.name for file in kept.iterdir()) == [target.name, f"{target.name}.data"]
    assert [file.read_bytes() for file in sorted(kept.iterdir())] == [
        file.read_bytes() for file in sorted(folder.iterdir())
    ]
    onnxruntime.InferenceSession(kept / target.name, providers=["CPUExecutionProvider"])


def test_without_data(path) -> None:
    rows = profile_precisions(path, Precisions(precision=("int8", "int8-dynamic")), QUICK, threads=[1])
    assert [row.error for row in rows] == [None, None]
    assert [row.top1 for row in rows] == [None, None]
    assert rows[1].ratio.ratio > 0


def test_a_decoder_with_a_cache() -> None:
    """Its mask, positions and cache go together in calibration, too."""
    path = Path(__file__).parents[2] / "data" / "examples" / "llama_cache.onnx"
    settings = Settings(warmup=0, iterations=1, new_tokens=21)
    (row,) = profile_precisions(path, Precisions(precision=("int8",)), settings, threads=[1], context=[16])
    assert row.error is None
    assert row.point.generation.context == 16


def test_calibration_sets_the_scale_of_activations(path, tmp_path) -> None:
    """Inputs from -1 to 3 give uint8 a step of 4 / 255."""
    feeds = [{"x": np.full((1, 3, 8, 8), value, np.float32)} for value in (-1, 3)]
    target = tmp_path / "q.onnx"
    convert(str(path), "int8", str(target), feeds)
    model = onnx.load(target)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    first = next(node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "x")
    assert stored[first.input[1]] == pytest.approx(4 / 255)


def test_one_precision_fails_and_the_others_go_on(path, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "onnxconverter_common", None)
        with pytest.raises(RuntimeFailure, match="pip install onnxconverter-common"):
            convert(str(path), "fp16-common", "t.onnx", [])
    rows = profile_precisions(path, Precisions(precision=("fp32", "fp16-common")), QUICK, threads=[1])
    assert rows[0].error is None
    installed = importlib.util.find_spec("onnxconverter_common") is not None
    assert (rows[1].error is None) == installed
    with pytest.raises(RuntimeFailure, match="int8: the converter gives up: "):
        convert(str(path.with_name("absent.onnx")), "int8", "t.onnx", [])


def test_command(path, images) -> None:
    outcome = command("profile", path, *QUICKLY, "--precision", "fp32,fp16", "--data", images)
    assert outcome.code == 0, outcome.err
    for word in ("precision", "95 % interval", "top-1 %", "100.00", "accuracy on 20 images"):
        assert word in outcome.out
    outcome = command("profile", path, *QUICKLY, "--precision", "fp32", "--json")
    (row,) = json.loads(outcome.out)["rows"]
    assert row["size_bytes"] == path.stat().st_size
    assert row["point"]["latency"]["n_runs"] == 20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--precision", "fp8"), "choose of fp32, fp16"),
        (("--data", "images"), "--data: of precisions that are compared"),
        (("--converted", "models"), "--converted: of precisions"),
        (("--precision", "fp16", "--n-images", "3"), "no images without --data"),
        (("--precision", "fp16", "--data", "absent"), "absent"),
        (("--precision", "fp16", "--converted", "absent"), "is no folder"),
        (("--precision", "fp32", "--converted", "models"), "nothing is kept; leave it out"),
        (("--precision", "fp16,int8,fp16"), "--precision fp16: is there twice"),
        (("--precision", "fp16", "--converted", "models"), "exists already"),
        (("--precision", "fp16", "--against", "models/colours.onnx"), "leave --against out"),
        (("--precision", "fp16", "--csv", "a.csv"), "leave --csv out"),
        (("--precision", "fp16", "--fail-above", "p50_ms=3"), "leave --fail-above out"),
        (("--precision", "fp16", "--context", "3"), "leave --context out"),
        (("--precision", "fp16", "--shape", "x:1x4x8x8"), "onnxruntime cannot run the model"),
    ],
)
def test_bad_input(path, images, tmp_path, monkeypatch, options, words) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "colours.fp16.onnx").write_bytes(b"mine")
    before = snapshot(tmp_path)
    one_line(command("profile", path, *QUICKLY, *options), words)
    assert snapshot(tmp_path) == before


def test_settings() -> None:
    with pytest.raises(OptionError, match="choose of"):
        Precisions(precision=("half",))
