"""Damaged or wrong GHNs, and calibration that cannot be done: one line each."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
import tracemalloc
from pathlib import Path

import cli_models as models
import io_models as m
import numpy as np
import onnx
import pytest
from cli_tools import one_line, save
from graph_models import Net
from onnx import TensorProto, helper

# -- GHNs --------------------------------------------------------------------------------------------------


@pytest.fixture
def bad_ghn(ghn_folder, tmp_path) -> Path:
    """A copy of the GHN, to be damaged."""
    return Path(shutil.copytree(ghn_folder, tmp_path / "ghn"))


def test_ghns_that_are_not_there(good, predictor, tmp_path):
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "fifo.pt")
    for ghn in (
        "ghn-99",
        "",
        "x" * 5000,
        "~nobody-of-that-name/x",
        "a\0b",
        tmp_path / "empty",
        "/dev/zero",
        tmp_path / "fifo.pt",
    ):
        predictor.fails(good, options=("--ghn", ghn))


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, 0.5, 0.999])
def test_truncated_ghns(good, predictor, bad_ghn, keep):
    weights = bad_ghn / "model.safetensors"
    size = weights.stat().st_size
    os.truncate(weights, keep if isinstance(keep, int) else int(keep * size))
    predictor.fails(good, str(bad_ghn), options=("--ghn", bad_ghn))


def test_flipped_ghns(good, predictor, bad_ghn):
    """30 flips in the header of the weights, 30 in the config: refused, or the same GHN all the same."""
    random = np.random.default_rng(0)
    for name, extent in (("model.safetensors", 3000), ("config.json", 10**9)):
        data = (bad_ghn / name).read_bytes()
        for _ in range(30):
            damaged = bytearray(data)
            damaged[random.integers(0, min(extent, len(data)))] ^= 1 << random.integers(0, 8)
            (bad_ghn / name).write_bytes(damaged)
            predictor(good, "--ghn", bad_ghn)
            predictor.clear()
        (bad_ghn / name).write_bytes(data)


@pytest.mark.parametrize(
    "change",
    [
        {"hid": 16}, {"hid": 7}, {"hid": "8"}, {"hid": 10**9}, {"max_shape": [8, 8, 3]}, {"max_shape": [8, 8, 3, 5]},
        {"max_shape": "8"}, {"num_classes": 0}, {"num_classes": 11}, {"hypernet": "x"}, {"hypernet": "graphormer"},
        {"decoder": "mlp"}, {"graph_rules": "x"}, {"unknown": 1}, {"ve_cutoff": -1}, {"layernorm": False},
        {"trained": 1},
    ],
)  # fmt: skip
def test_ghns_of_another_config(good, predictor, bad_ghn, change):
    config = bad_ghn / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    predictor.fails(good, options=("--ghn", bad_ghn))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1", "[" * 100000, '{"hid": NaN}', "\x00", '"x"', "{}"])
def test_configs_that_are_none(good, predictor, bad_ghn, text):
    (bad_ghn / "config.json").write_text(text)
    predictor.fails(good, options=("--ghn", bad_ghn))


def test_a_ghn_of_nans(good, predictor, bad_ghn):
    from safetensors.torch import load_file, save_file

    tensors = load_file(bad_ghn / "model.safetensors")
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, bad_ghn / "model.safetensors")
    predictor.fails(good, "NaNs", options=("--ghn", bad_ghn))


class _Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/onnx_ghn_was_here",)


def test_pickles_are_never_run(good, predictor, tmp_path):
    import torch

    paths = [tmp_path / f"{i}.pt" for i in range(6)]
    paths[0].write_bytes(pickle.dumps(_Evil()))
    torch.save({"state_dict": _Evil()}, paths[1])
    torch.save([1, 2], paths[2])
    torch.save({"state_dict": {"x": torch.ones(2)}}, paths[3])
    torch.save({"state_dict": {"x": torch.ones(2)}, "config": "x"}, paths[4])
    paths[5].write_bytes(paths[3].read_bytes()[:200])
    for path in paths:
        predictor.fails(good, str(path), options=("--ghn", path))
    assert not os.path.exists("/tmp/onnx_ghn_was_here")


# -- calibration -------------------------------------------------------------------------------------------


@pytest.fixture
def conv_path(tmp_path) -> Path:
    return save(tmp_path / "in", models.conv_net())


def test_folders_that_hold_no_images(conv_path, predictor, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("x")
    (tmp_path / "folders" / "a.png").mkdir(parents=True)
    (tmp_path / "pipes").mkdir()
    os.mkfifo(tmp_path / "pipes" / "a.png")
    for folder in ("missing", "empty", "text", "folders", "pipes", "in/m.onnx", "x" * 300):
        predictor.fails(conv_path, "--calibrate", options=("--calibrate", tmp_path / folder))


def test_broken_images(conv_path, predictor, tmp_path):
    """32 damaged images of four formats: read past, or told by name."""
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    pixels = Image.fromarray(random.integers(0, 255, (12, 12, 3), dtype=np.uint8))
    for suffix in ("png", "jpg", "bmp", "webp"):
        path = folder / f"a.{suffix}"
        pixels.save(path)
        data = path.read_bytes()
        for i in range(8):
            damaged = bytearray(data[: random.integers(0, len(data))] if i % 3 == 0 else data)
            for at in random.integers(0, max(1, min(80, len(damaged))), 3):
                if damaged:
                    damaged[at] ^= 1 << random.integers(0, 8)
            path.write_bytes(damaged)
            outcome = predictor(conv_path, "--calibrate", folder, watch=folder)
            if outcome.code:
                one_line(outcome, str(path))
            predictor.clear()
        path.unlink()


def _calibrated(kind: int, shape: tuple[object, ...], custom: str = "") -> onnx.ModelProto:
    net = Net()
    x = net.input(*shape, kind=kind)
    if custom:
        x = net.op(custom, x, domain="made.up")
    elif kind != m.F:
        x = net.op("Cast", x, to=m.F)
    y = net.op("Relu", models.batch_norm(net, net.conv(x, 3, 4, "w"), 4, "bn"))
    return net.model(y)


@pytest.mark.parametrize(
    ("kind", "shape", "custom"),
    [
        (TensorProto.STRING, (1, 3, 4, 4), ""), (m.F, (1, 3, 4, 4), "Nobody"), (m.F, (1, 5, 4, 4), ""),
        (m.F, (1, 3), ""), (m.F, ("N", 3, 1, 1), ""),
        (m.F, (), ""), (m.F, (0, 3, 4, 4), ""), (m.F, (1, 3, 0, 0), ""), (m.F, ("N", "C", "H", "W"), ""),
        (m.F, (10**6, 3, 10**6, 10**6), ""), (m.F, (2**62, 3, 2**62, 4), ""), (TensorProto.COMPLEX64, (1, 3, 4, 4), ""),
        (TensorProto.BFLOAT16, (1, 3, 4, 4), ""), (TensorProto.FLOAT8E4M3FN, (1, 3, 4, 4), ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("source", ["noise", "folder"])
def test_models_that_cannot_be_calibrated(tmp_path, predictor, kind, shape, custom, source):
    """Noise, which is the default, becomes a note; a folder that was asked for is an error."""
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    path = save(tmp_path / "in", _calibrated(kind, shape, custom))
    tracemalloc.start()
    outcome = predictor(path, "--calibrate", folder if source == "folder" else "noise", watch=path.parent)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 30
    if outcome.code == 0:
        predictor.take()


def test_a_loop_without_end(tmp_path, predictor, monkeypatch):
    """onnxruntime is stopped; the model is written with the statistics that it had."""
    from onnx_ghn import runtime

    monkeypatch.setattr(runtime, "_MAX_RUN_S", 1.0)
    net = Net()
    x = net.input(1, 4, 2, 2)
    trips = net.number(2**62, np.int64)
    true = net.number(True, np.bool_)
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Relu", ["s"], ["s2"])], "body",
        [m.info("i", kind=TensorProto.INT64), m.info("c", kind=TensorProto.BOOL), m.info("s", 1, 4, 2, 2)],
        [m.info("c2", kind=TensorProto.BOOL), m.info("s2", 1, 4, 2, 2)],
    )  # fmt: skip
    y = models.batch_norm(net, net.op("Loop", trips, true, x, body=body), 4, "bn")
    path = save(tmp_path / "in", net.model(y))
    began = time.perf_counter()
    outcome = predictor(path)
    assert time.perf_counter() - began < 15
    assert "still runs after" in outcome.out + outcome.err
    predictor.clear()
