"""What every framework's tests hold: nothing lost on the way to ONNX and back, and the same outputs on both sides."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from onnx_ghn.errors import CheckpointError, OptionError
from onnx_ghn.graph import build_graph

__all__ = ["check_initialize", "check_round_trip", "flattened_maps", "predict_file", "run"]


def run(path: Path, *inputs: np.ndarray) -> np.ndarray:
    """The first output, through onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))[0]


def predict_file(path: Path, filled: Path) -> None:
    """Predict here, or with the interpreter that `make test-exporters` names where this one has no torch."""
    if importlib.util.find_spec("torch") is not None:
        import onnx_ghn

        assert onnx_ghn.predict(path, filled, overwrite_special=True, policy="all").coverage.share("predicted") > 0.99
        return
    python = os.environ.get("ONNX_GHN_PYTHON")
    if python is None:
        pytest.skip("no torch here to predict with, and ONNX_GHN_PYTHON names no other interpreter")
    options = ["--policy", "all", "--overwrite-special"]
    command = [python, "-m", "onnx_ghn", "predict", str(path), "-o", str(filled), *options]
    subprocess.run(command, check=True, capture_output=True)


def check_round_trip(
    exporter: ModuleType,
    make: Callable[[int], Any],
    call: Callable[[Any, np.ndarray], np.ndarray],
    weights: Callable[[Any], dict[str, np.ndarray]],
    x: np.ndarray,
    example: Any,
    folder: Path,
    *,
    again: bool = True,
) -> Any:
    """Export, predict, load into another instance; and once more without the file's notes.

    Args:
        exporter: of onnx_ghn.exporters.
        make: a model from a seed.
        call: its output for `x`, in inference mode.
        weights: all its weights by a name that the seed does not change.
        example: example inputs for `export`.
        again: whether the framework can export another instance in the same process, as `load` does for a file
            without notes.

    Returns:
        the model with the predicted weights.
    """
    path, filled, plain = folder / "model.onnx", folder / "init.onnx", folder / "plain.onnx"
    model = make(0)
    before = weights(model)
    report = exporter.export(model, path, example)
    assert report.complete, report.unmatched
    assert report.n_elements == sum(value.size for value in before.values())
    for name, value in weights(model).items():
        np.testing.assert_array_equal(value, before[name])
    np.testing.assert_allclose(run(path, x), call(model, x), rtol=1e-3, atol=1e-5)

    predict_file(path, filled)
    other = make(1)
    assert exporter.load(other, filled).complete
    np.testing.assert_allclose(run(filled, x), call(other, x), rtol=1e-3, atol=1e-5)
    changed = [name for name, value in weights(other).items() if not np.array_equal(value, before[name])]
    assert len(changed) > 0.5 * len(before)

    if not again:
        return other
    proto = onnx.load(filled)
    del proto.metadata_props[:]
    onnx.save(proto, plain)
    third = make(2)
    exporter.load(third, plain, example)
    for name, value in weights(third).items():
        np.testing.assert_array_equal(value, weights(other)[name])

    kept = weights(model)
    graph = onnx.load(path)
    constants = [a.t for node in graph.graph.node if node.op_type == "Constant" for a in node.attribute]
    for tensor in [*graph.graph.initializer, *constants]:  # the same names, other shapes
        if len(tensor.dims) > 1:
            tensor.dims[:] = [1, *tensor.dims]
    del graph.metadata_props[:]
    onnx.save(graph, folder / "other.onnx")
    with pytest.raises(CheckpointError):
        exporter.load(model, folder / "other.onnx", example)
    for name, value in weights(model).items():
        np.testing.assert_array_equal(value, kept[name])
    return other


def check_initialize(
    exporter: ModuleType,
    make: Callable[[int], Any],
    weights: Callable[[Any], dict[str, np.ndarray]],
    example: Any,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`initialize` does what an export, a prediction and a load do, and leaves nothing behind.

    Args:
        exporter, make, weights, example: as for `check_round_trip`.
        folder: an empty one, which stands in for that of temporary files.
    """
    import onnx_ghn

    scratch = folder / "scratch"
    scratch.mkdir()
    kept = make(0)
    start = weights(kept)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(scratch))
        options = onnx_ghn.PredictOptions(policy="none", fallback="keep", calibrate="none", correct_scales=False)
        told = exporter.initialize(kept, example, options)
        assert told.coverage.count("kept") > 0
        assert told.coverage.count("predicted") == 0
        assert told.load.complete, told.load.unmatched
        for name, value in weights(kept).items():
            assert value.tobytes() == start[name].tobytes(), name
        filled = make(0)
        told = exporter.initialize(filled, example, policy="all", seed=3, calibrate="none", correct_scales=False)
    # TensorFlow removes what it compiled at the end of the process.
    assert [path for path in scratch.iterdir() if not path.name.startswith("__autograph")] == []
    exporter.export(make(0), folder / "m.onnx", example)
    prediction = onnx_ghn.predict(
        folder / "m.onnx", folder / "p.onnx", policy="all", seed=3, calibrate="none", correct_scales=False
    )
    by_file = make(0)
    exporter.load(by_file, folder / "p.onnx", example)
    expected = weights(by_file)
    for name, value in weights(filled).items():
        np.testing.assert_array_equal(value, expected[name])
    assert sum(not np.array_equal(value, start[name]) for name, value in expected.items()) > 0.3 * len(start)
    assert told.ghn_name == prediction.ghn_name
    assert told.coverage.count("predicted") == prediction.coverage.count("predicted") > 0
    for name in (folder / "m.onnx", folder / "p.onnx"):
        name.unlink()
    with pytest.raises(OptionError, match=r"`polcy` is no option .*did you mean policy\?"):
        exporter.initialize(filled, example, polcy="all")
    for name, value in weights(filled).items():
        np.testing.assert_array_equal(value, expected[name])


def flattened_maps(path: Path) -> list[tuple[int, bool]]:
    """(positions, channels last) of the flattened maps that a file's linear weights read."""
    return [tuple(p.flattened) for p in build_graph(path).parameters if p.flattened is not None]
