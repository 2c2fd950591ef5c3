"""Running statistics: what is stored is what the batch has, measured here by torch and numpy."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from predict_models import Net, arrays, besides_copies, cnn, export, random_feed, run, session, signature, tiny_ghn
from torch import nn
from torch.nn import functional as F

from onnx_ghn import predict, runtime
from onnx_ghn.errors import OptionError
from onnx_ghn.onnx_io import read_model
from onnx_ghn.prediction.calibration_inputs import input_types

EXAMPLES = Path(__file__).parents[2] / "data" / "examples"

Feed = dict[str, np.ndarray]


def calibrated(proto: onnx.ModelProto, folder: Path, **options: Any) -> tuple[dict[str, np.ndarray], list[str]]:
    """What the written file stores, and the notes."""
    prediction = predict(proto, folder / "out.onnx", ghn=tiny_ghn(), **{"correct_scales": False, **options})
    written = onnx.load(folder / "out.onnx")
    onnx.checker.check_model(folder / "out.onnx", full_check=True)
    assert signature(written) == signature(proto)
    return arrays(written), prediction.coverage.notes


def batch_norm(
    x: torch.Tensor, stored: dict[str, np.ndarray], name: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """torch's batch norm in training mode, and the statistics (biased) that it used."""
    axes = [0, *range(2, x.dim())]
    scale, shift = (torch.from_numpy(stored[f"{name}.{what}"].astype(np.float32)) for what in ("scale", "shift"))
    out = F.batch_norm(x, None, None, scale, shift, training=True)
    return out, x.mean(axes), x.var(axes, unbiased=False)


def assert_statistics(stored: dict[str, np.ndarray], name: str, mean: Any, variance: Any, rtol: float = 1e-3) -> None:
    spread = float(np.sqrt(np.asarray(variance).max()))
    np.testing.assert_allclose(
        stored[f"{name}.mean"].astype(np.float64), np.asarray(mean), rtol=rtol, atol=rtol * spread
    )
    np.testing.assert_allclose(stored[f"{name}.var"].astype(np.float64), np.asarray(variance), rtol=rtol)


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.onnx")))
def test_types_of_inputs_are_told_before_there_is_a_session(example: str) -> None:
    model = read_model(EXAMPLES / example)
    told = [(entry.name, entry.type) for entry in session(EXAMPLES / example).get_inputs()]
    assert list((input_types(model) or {}).items()) == told


def test_inputs_of_other_types_are_left_to_the_session() -> None:
    """A string, a sequence, and an input with a default, which a session does not count."""
    for kind in (
        helper.make_tensor_type_proto(TensorProto.STRING, [1]),
        helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None)),
    ):
        graph = helper.make_graph([], "g", [helper.make_value_info("x", kind)], [])
        assert input_types(read_model(helper.make_model(graph, ir_version=8))) is None
    values = [helper.make_tensor_value_info(name, TensorProto.INT64, [1]) for name in "ab"]
    default = numpy_helper.from_array(np.zeros(1, np.int64), "a")
    graph = helper.make_graph([], "g", values, [], [default])
    assert input_types(read_model(helper.make_model(graph, ir_version=8))) == {"b": "tensor(int64)"}


@pytest.mark.parametrize("opset", [7, 9, 13, 15, 17, 18, 21])
@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_a_chain_of_batch_norms_equals_torch(opset: int, batch: Any, feeds: list[Feed], tmp_path: Path) -> None:
    stored, notes = calibrated(cnn(batch, opset, bias=3), tmp_path)
    assert besides_copies(notes) == []
    assert len(feeds) == 1  # also where the file declares one sample
    x = torch.from_numpy(feeds[0]["x"]) + 3
    assert x.shape == (32, 3, 16, 16)
    for layer in (1, 2):
        x = F.conv2d(x, torch.from_numpy(stored[f"conv{layer}.w"]), padding=1)
        x, mean, variance = batch_norm(x, stored, f"bn{layer}")
        assert_statistics(stored, f"bn{layer}", mean, variance)
        x = F.relu(x)


def test_inference_has_unit_activations_where_uncalibrated_ones_explode(tmp_path: Path) -> None:
    """A deep residual network, as a GHN's weights in training mode would see it."""
    net = Net()
    x = net.conv(net.input("N", 8, 12, 12), 8, 8, "stem")
    for i in range(24):
        y = net.op("Relu", net.bn(net.conv(x, 8, 8, f"c{i}"), 8, f"b{i}"), out=f"r{i}")
        x = net.op("Add", x, y, out=f"s{i}")
    net.bn(x, 8, "last")
    proto = net.model("last.y")
    for tensor in proto.graph.initializer:  # variances far too small, as in a stripped or random file
        if tensor.name.endswith(".var"):
            tensor.CopyFrom(numpy_helper.from_array(np.full(8, 1e-3, np.float32), tensor.name))
    feed = {"x": np.random.default_rng(9).standard_normal((16, 8, 12, 12)).astype(np.float32)}
    predict(proto, tmp_path / "raw.onnx", ghn=tiny_ghn(), calibrate="none")
    predict(proto, tmp_path / "good.onnx", ghn=tiny_ghn())
    exploded, sensible = run(tmp_path / "raw.onnx", feed)[0], run(tmp_path / "good.onnx", feed)[0]
    stored = arrays(onnx.load(tmp_path / "good.onnx"))
    normalised = (sensible - stored["last.shift"].reshape(1, -1, 1, 1)) / stored["last.scale"].reshape(1, -1, 1, 1)
    assert 0.5 < normalised.std() < 2
    assert np.abs(exploded).max() > 100 * np.abs(sensible).max()


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_other_ranks(rank: int, feeds: list[Feed], tmp_path: Path) -> None:
    """N × C, N × C × L, N × C × D × H × W."""
    net = Net()
    x = net.input("N", 4, *[6] * rank)
    x = net.conv(x, 4, 8, "c", rank=rank) if rank else net.op("MatMul", x, net.random("c.w", 4, 8), out="c.y")
    net.bn(x, 8, "b")
    stored, notes = calibrated(net.model("b.y"), tmp_path)
    assert besides_copies(notes) == []
    x, w = torch.from_numpy(feeds[0]["x"]), torch.from_numpy(stored["c.w"])
    convolved = {0: lambda: x @ w, 1: lambda: F.conv1d(x, w, padding=1), 3: lambda: F.conv3d(x, w, padding=1)}[rank]()
    _, mean, variance = batch_norm(convolved, stored, "b")
    assert_statistics(stored, "b", mean, variance)


@pytest.mark.parametrize("opset", [13, 14, 17])
def test_half_precision(opset: int, feeds: list[Feed], tmp_path: Path) -> None:
    stored, notes = calibrated(cnn(opset=opset, dtype=np.float16), tmp_path)
    assert besides_copies(notes) == []
    assert stored["bn1.mean"].dtype == np.float16
    x = torch.from_numpy(feeds[0]["x"]).float()
    for layer in (1, 2):
        x = F.conv2d(x, torch.from_numpy(stored[f"conv{layer}.w"]).float(), padding=1)
        x, mean, variance = batch_norm(x, stored, f"bn{layer}")
        assert_statistics(stored, f"bn{layer}", mean, variance, rtol=1e-2)
        x = F.relu(x)


def test_what_onnxruntime_cannot_run_is_predicted_all_the_same(tmp_path: Path) -> None:
    """An operator that nobody knows: noise, which nobody asked for, stops nothing. Images, asked for, do."""
    net = Net()
    x = net.bn(net.conv(net.input("N", 3, 8, 8), 3, 8, "c"), 8, "b")
    net.op("Mystery", x, out="y", domain="acme")
    proto = net.model("y")
    prediction = predict(proto, ghn=tiny_ghn())
    assert "c.w" in prediction
    (note,) = besides_copies(prediction.coverage.notes)
    assert note.startswith("2 running statistics are kept")
    assert "acme" in note
    assert "\n" not in note


def test_statistics_behind_identity_and_cast(feeds: list[Feed], tmp_path: Path) -> None:
    net = Net()
    x = net.conv(net.input("N", 3, 8, 8), 3, 8, "c")
    half = np.linspace(0.5, 1, 8).astype(np.float16)
    mean = net.op("Cast", net.tensor("b.mean", half, np.float16), out="as_float", to=TensorProto.FLOAT)
    variance = net.op("Identity", net.op("Identity", net.tensor("b.var", half), out="i1"), out="i2")
    net.op("BatchNormalization", x, net.random("b.scale", 8), net.random("b.shift", 8), mean, variance, out="y")
    stored, notes = calibrated(net.model("y"), tmp_path)
    assert besides_copies(notes) == []
    assert stored["b.mean"].dtype == np.float16
    convolved = F.conv2d(torch.from_numpy(feeds[0]["x"]), torch.from_numpy(stored["c.w"]), padding=1)
    _, mean_, variance_ = batch_norm(convolved, stored, "b")
    np.testing.assert_allclose(stored["b.mean"], mean_.numpy(), atol=2e-3)
    np.testing.assert_allclose(stored["b.var"], variance_.numpy(), rtol=1e-3)


def test_two_layers_that_share_statistics_get_those_of_both(feeds: list[Feed], tmp_path: Path) -> None:
    net = Net()
    x = net.input("N", 3, 8, 8)
    first = net.bn(net.conv(x, 3, 8, "c1"), 8, "b")
    second = net.conv(first, 8, 8, "c2")
    net.op("BatchNormalization", second, "b.scale", "b.shift", "b.mean", "b.var", out="y")
    stored, notes = calibrated(net.model("y"), tmp_path)
    assert besides_copies(notes) == []
    y = F.conv2d(torch.from_numpy(feeds[0]["x"]), torch.from_numpy(stored["c1.w"]), padding=1)
    z = F.conv2d(batch_norm(y, stored, "b")[0], torch.from_numpy(stored["c2.w"]), padding=1)
    both = torch.cat([y, z])
    assert_statistics(stored, "b", both.mean((0, 2, 3)), both.var((0, 2, 3), unbiased=False))


def test_two_inputs_and_integers(feeds: list[Feed], tmp_path: Path) -> None:
    net = Net()
    net.input("N", 5, name="tokens", kind=TensorProto.INT64)
    net.input("N", 5, 8, name="x")
    embedded = net.op("Gather", net.random("emb", 20, 8), "tokens", out="e")
    summed = net.op("Add", embedded, "x", out="sum")
    turned = net.op("Transpose", summed, out="t", perm=[0, 2, 1])
    net.bn(turned, 8, "b")
    stored, notes = calibrated(net.model("b.y"), tmp_path)
    assert besides_copies(notes) == []
    assert feeds[0]["tokens"].dtype == np.int64
    assert len(feeds[0]["tokens"]) == len(feeds[0]["x"]) == 32
    x = torch.from_numpy((stored["emb"][feeds[0]["tokens"]] + feeds[0]["x"]).transpose(0, 2, 1))
    _, mean, variance = batch_norm(x, stored, "b")
    assert_statistics(stored, "b", mean, variance)


def test_a_network_for_one_sample_only_pools_single_samples(feeds: list[Feed], tmp_path: Path) -> None:
    """A reshape with the batch written into it: 32 runs of one sample, by the law of total variance."""
    net = Net()
    x = net.op("Reshape", net.input(1, 48), net.tensor("dims", [1, 3, 4, 4], np.int64), out="r")
    net.bn(net.conv(x, 3, 8, "c"), 8, "b")
    stored, notes = calibrated(net.model("b.y"), tmp_path)
    assert besides_copies(notes) == []
    singles = [feed["x"] for feed in feeds if len(feed["x"]) == 1]
    assert len(singles) == 32
    x = torch.from_numpy(np.concatenate(singles).reshape(32, 3, 4, 4))
    _, mean, variance = batch_norm(F.conv2d(x, torch.from_numpy(stored["c.w"]), padding=1), stored, "b")
    assert_statistics(stored, "b", mean, variance)


@pytest.mark.parametrize(
    ("declared", "tried"),
    [(1, [2] + 32 * [1]), ("N", [32, *(32 * [1])]), (8, [32, *(4 * [8])])],
    ids=["fixed", "free", "large"],
)
def test_a_large_batch_is_refused_after_two_samples(
    declared: int | str, tried: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Twice the declared batch tells as much as the batch does, where that is far larger."""
    given: list[int] = []
    run_session = runtime.run_session

    def record(session: Any, feed: Feed, outputs: Any = None) -> Any:
        given.append(len(feed["x"]))
        return run_session(session, feed, outputs)

    monkeypatch.setattr(runtime, "run_session", record)
    size = declared if isinstance(declared, int) else 1
    net = Net()
    x = net.op("Reshape", net.input(declared, 48), net.tensor("dims", [size, 3, 4, 4], np.int64), out="r")
    net.bn(net.conv(x, 3, 8, "c"), 8, "b")
    _, notes = calibrated(net.model("b.y"), tmp_path)
    assert notes == []
    assert given == tried


@pytest.mark.parametrize(
    ("shape", "kernel", "sizes"), [(("N", 3, "H", "W"), 100, (224, 224)), (("N", 1, "T"), 400, (1024,))]
)
def test_free_sizes_grow_until_the_network_takes_them(
    shape: Any, kernel: int, sizes: tuple[int, ...], feeds: list[Feed], tmp_path: Path
) -> None:
    net = Net()
    rank = len(sizes)
    w = net.random("c.w", 4, shape[1], *[kernel] * rank)
    net.op("Conv", net.input(*shape), w, out="c", strides=[50] * rank)
    net.bn("c", 4, "b")
    _, notes = calibrated(net.model("b.y"), tmp_path)
    assert besides_copies(notes) == []
    assert feeds[-1]["x"].shape[2:] == sizes


def test_a_folder_of_images(feeds: list[Feed], tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    folder = tmp_path / "images" / "class"
    folder.mkdir(parents=True)
    pixels = [rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(5)]
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{i}.png")
    (folder / "notes.txt").write_text("no image")
    stored, notes = calibrated(cnn(), tmp_path, calibrate=folder.parent)
    assert besides_copies(notes) == []
    normalised = (np.stack(pixels) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    given = feeds[0]["x"]
    assert given.shape == (32, 3, 16, 16)
    np.testing.assert_allclose(given[:5], normalised.transpose(0, 3, 1, 2), atol=1e-5)
    np.testing.assert_array_equal(given[5:10], given[:5])
    _, mean, variance = batch_norm(
        F.conv2d(torch.from_numpy(given), torch.from_numpy(stored["conv1.w"]), padding=1), stored, "bn1"
    )
    assert_statistics(stored, "bn1", mean, variance)

    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"class/{path.name}")
    feeds.clear()
    predict(cnn(), ghn=tiny_ghn(), calibrate=tmp_path / "images.zip")
    np.testing.assert_array_equal(feeds[0]["x"], given)

    (tmp_path / "empty").mkdir()
    with pytest.raises(OptionError, match="no images"):
        predict(cnn(), ghn=tiny_ghn(), calibrate=tmp_path / "empty")
    (folder / "5.png").write_bytes(b"not a picture")
    with pytest.raises(OptionError, match=r"5\.png"):
        predict(cnn(), ghn=tiny_ghn(), calibrate=folder)


def test_images_one_by_one_are_different_images(feeds: list[Feed], tmp_path: Path) -> None:
    from PIL import Image

    for i in range(64):
        Image.fromarray(np.full((4, 4, 3), 4 * i, np.uint8)).save(tmp_path / f"{i:02}.png")
    net = Net()
    x = net.op("Reshape", net.input(1, 3, 4, 4), net.tensor("dims", [1, 3, 4, 4], np.int64), out="r")
    net.bn(net.conv(x, 3, 8, "c"), 8, "b")
    predict(net.model("b.y"), ghn=tiny_ghn(), calibrate=tmp_path)
    singles = [float(feed["x"].mean()) for feed in feeds if len(feed["x"]) == 1]
    assert len(set(singles)) == 32


def test_a_batch_norm_out_of_reach_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    inner = Net()
    inner.bn("h", 8, "inner")
    body = helper.make_graph(
        inner.nodes, "then", [], [helper.make_tensor_value_info("inner.y", TensorProto.FLOAT, None)], inner.tensors
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["h"], ["same"])],
        "else",
        [],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, None)],
    )
    net = Net()
    x = net.bn(net.conv(net.input("N", 3, 8, 8), 3, 8, "c"), 8, "outer")
    net.op("Relu", x, out="h")
    net.op("If", net.input(name="flag", kind=TensorProto.BOOL), out="y", then_branch=body, else_branch=other)
    proto = net.model("y")
    before = arrays(proto)
    prediction = predict(proto, tmp_path / "out.onnx", ghn=tiny_ghn(), correct_scales=False)
    (note,) = besides_copies(prediction.coverage.notes)
    assert note.startswith("2 running statistics are kept")
    assert "inner.mean" in note
    stored = arrays(onnx.load(tmp_path / "out.onnx"))
    assert not np.array_equal(stored["outer.mean"], before["outer.mean"])


def test_statistics_that_are_also_something_else_stay(tmp_path: Path) -> None:
    """IR 3 files cannot be untied: a variance that is a scale too must not become the batch's variance."""
    net = Net(opset=9, ir_version=3)
    x = net.conv(net.input("N", 3, 8, 8), 3, 8, "c")
    one = net.tensor("one", np.ones(8))
    net.op(
        "BatchNormalization", x, one, net.tensor("shift", np.zeros(8)), net.tensor("mean", np.zeros(8)), one, out="y"
    )
    net.inputs += [helper.make_tensor_value_info(t.name, TensorProto.FLOAT, t.dims) for t in net.tensors]
    prediction = predict(net.model("y"), tmp_path / "out.onnx", ghn=tiny_ghn(), correct_scales=False)
    np.testing.assert_array_equal(arrays(onnx.load(tmp_path / "out.onnx"))["one"], prediction["one"])
    assert "parameters too" in prediction.coverage.notes[0]


def test_a_batch_norm_written_as_arithmetic_is_not_passed_over(feeds: list[Feed], tmp_path: Path) -> None:
    net = Net()
    x = net.conv(net.input("N", 3, 8, 8), 3, 8, "c")
    shape = (8, 1, 1)
    x = net.op("Sub", x, net.tensor("mean", np.linspace(0.1, 1, 8).reshape(shape)), out="centred")
    variance = net.tensor("variance", np.linspace(1.1, 2, 8).reshape(shape))
    root = net.op("Sqrt", net.op("Add", variance, net.tensor("epsilon", 1e-3), out="guarded"), out="root")
    x = net.op("Mul", net.op("Div", x, root, out="normal"), net.random("gamma", *shape), out="scaled")
    net.op("Add", x, net.random("beta", *shape), out="y")
    prediction = predict(net.model("y"), tmp_path / "out.onnx", ghn=tiny_ghn(), correct_scales=False)
    assert set(prediction) == {"c.w", "gamma", "beta"}
    assert besides_copies(prediction.coverage.notes) == []
    stored = arrays(onnx.load(tmp_path / "out.onnx"))
    y = F.conv2d(torch.from_numpy(feeds[0]["x"]), torch.from_numpy(stored["c.w"]), padding=1).numpy()
    np.testing.assert_allclose(stored["mean"].reshape(-1), y.mean((0, 2, 3)), rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(stored["variance"].reshape(-1), y.var((0, 2, 3)), rtol=1e-3)


def test_training_mode_measures_its_own(tmp_path: Path) -> None:
    net = Net()
    net.bn(net.conv(net.input("N", 3, 8, 8), 3, 8, "c"), 8, "b", training_mode=1)
    proto = net.model("b.y")
    prediction = predict(proto, tmp_path / "out.onnx", ghn=tiny_ghn())
    np.testing.assert_array_equal(arrays(onnx.load(tmp_path / "out.onnx"))["b.var"], arrays(proto)["b.var"])
    assert "running statistics are kept" in prediction.coverage.notes[0]


@pytest.mark.parametrize("calibrate", ["none", "noise"])
def test_without_batch_norms_nothing_is_run(calibrate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_ghn.runtime.open_session", lambda *_: pytest.fail("opened a session"))
    net = Net()
    net.conv(net.input("N", 3, 8, 8), 3, 8, "c")
    prediction = predict(net.model("c.y"), ghn=tiny_ghn(), calibrate=calibrate, correct_scales=False)
    assert besides_copies(prediction.coverage.notes) == []


def test_a_torch_network_in_evaluation_mode(tmp_path: Path) -> None:
    """End to end: the file's statistics loaded into torch make its evaluation mode agree with its training mode."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    export(net, (torch.randn(1, 3, 20, 20),), tmp_path / "in.onnx")
    predict(tmp_path / "in.onnx", tmp_path / "out.onnx", ghn=tiny_ghn(), calibrate="noise")
    stored = arrays(onnx.load(tmp_path / "out.onnx"))
    net.load_state_dict({n: torch.from_numpy(stored[n].copy()) for n in net.state_dict() if n in stored}, strict=False)
    x = torch.randn(64, 3, 20, 20)
    with torch.no_grad():
        evaluated = net.eval()(x)
        trained = net.train()(x)
    assert (evaluated - trained).abs().mean() < 0.1 * trained.abs().mean()
    runtime = session(tmp_path / "out.onnx")
    feed = random_feed(runtime)
    with torch.no_grad():
        net.load_state_dict(
            {n: torch.from_numpy(stored[n].copy()) for n in net.state_dict() if n in stored}, strict=False
        )
        expected = net.eval()(torch.from_numpy(next(iter(feed.values())))).numpy()
    np.testing.assert_allclose(runtime.run(None, feed)[0], expected, rtol=1e-3, atol=1e-4)


# -- norms that are frozen ------------------------------------------------------------------------------------


class HalfFrozen(nn.Module):
    """A pretrained half that is not trained, and a new one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.old, self.old_norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.new, self.new_norm = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)
        with torch.no_grad():
            self.old_norm.running_mean.uniform_(-1, 1)
            self.old_norm.running_var.uniform_(1, 3)
            self.old_norm.weight.uniform_(0.5, 1.5)
        for parameter in (*self.old.parameters(), *self.old_norm.parameters()):
            parameter.requires_grad_(False)

    def half(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, 9, 9) -> (B, 8, 7, 7)."""
        return torch.relu(self.old_norm(self.old(x)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, 9, 9) -> (B, 5)."""
        answer: torch.Tensor = self.head(torch.relu(self.new_norm(self.new(self.half(x)))).mean((2, 3)))
        return answer


def test_a_frozen_norm_keeps_its_statistics_and_normalises_by_them(tmp_path: Path) -> None:
    """What is measured behind it is what comes through it in inference mode."""
    from onnx_ghn.exporters import pytorch

    net = HalfFrozen()
    x = torch.randn(16, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    np.save(tmp_path / "x.npy", x.numpy())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    told = pytorch.initialize(net, x[:2], policy="all", calibrate=tmp_path / "x.npy")
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("old") or "num_batches" in name, name
    assert {e.outcome for e in told.coverage.entries if e.parameter.role.value == "statistic"} == {
        "frozen",
        "statistic",
    }
    with torch.no_grad():
        behind = net.new(net.eval().half(x))
    torch.testing.assert_close(net.new_norm.running_mean, behind.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(net.new_norm.running_var, behind.var((0, 2, 3), unbiased=False), rtol=1e-3, atol=1e-4)


def test_statistics_of_a_trained_norm_are_measured_although_they_are_marked(tmp_path: Path) -> None:
    """No gradient trains statistics, so that a bridge marks them in every layer."""
    from onnx_ghn.exporters import pytorch

    net = HalfFrozen()
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    before = net.old_norm.running_var.clone()
    pytorch.initialize(net, torch.zeros(2, 3, 9, 9), policy="all")
    assert not torch.allclose(net.old_norm.running_var, before)


def test_a_norm_without_scale_and_shift_is_not_frozen(tmp_path: Path) -> None:
    """The ones and zeros that torch writes for it are marked, as no gradient trains them: it is measured."""
    from onnx_ghn.exporters import pytorch

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, affine=False), nn.Flatten(), nn.Linear(8 * 49, 5))
    x = torch.randn(16, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    np.save(tmp_path / "x.npy", x.numpy())
    pytorch.initialize(net, x[:2], policy="all", calibrate=tmp_path / "x.npy")
    with torch.no_grad():
        behind = net[0](x)
    torch.testing.assert_close(net[1].running_mean, behind.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(net[1].running_var, behind.var((0, 2, 3), unbiased=False), rtol=1e-3, atol=1e-4)
