"""Accuracy: counted by hand, the same through torch and onnxruntime, with stored or with batch statistics."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from onnx_ghn.errors import ModelReadError, OptionError, RuntimeFailure
from onnx_ghn.evaluate import accuracy, batch_statistics_mode, onnx_logits
from onnx_ghn.torch_export import module_to_onnx
from onnx_ghn.vision import Batch


def test_counts_first_and_first_five() -> None:
    scores = torch.tensor(
        [[9.0, 1, 2, 3, 4, 5, 6], [0, 9, 8, 7, 6, 5, 4], [float("nan"), 0, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 7]]
    )
    labels = torch.tensor([0, 5, 0, 1])  # right; fifth; not a number; sixth
    found = accuracy(lambda _: scores, [Batch(torch.zeros(4, 3, 2, 2), labels)])
    assert (found.top1, found.top5, found.n_images) == (25.0, 50.0, 4)


def test_refuses_what_cannot_be_counted() -> None:
    with pytest.raises(RuntimeFailure, match="no images"):
        accuracy(lambda x: x, [])
    with pytest.raises(RuntimeFailure, match="classes up to 3"):
        accuracy(lambda x: torch.zeros(1, 3), [Batch(torch.zeros(1, 3, 2, 2), torch.tensor([3]))])


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.last = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.norm(self.conv(x))).mean(dim=(2, 3)))


@pytest.fixture
def small() -> nn.Module:
    torch.manual_seed(0)
    net = Small()
    net.norm.running_mean.uniform_(-1, 1)
    net.norm.running_var.uniform_(0.5, 2)
    return net


def exported(net: nn.Module, path: Path, batch: int, dynamic: bool = True) -> Path:
    model = module_to_onnx(
        net,
        (torch.zeros(batch, 3, 8, 8),),
        input_names=["images"],
        dynamic_axes={"images": {0: "n"}} if dynamic else None,
    )
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("statistics", ["stored", "batch"])
def test_onnxruntime_gives_what_torch_gives(small: nn.Module, tmp_path: Path, statistics: str) -> None:
    images = torch.randn(10, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    path = exported(small, tmp_path / "net.onnx", 2)
    with torch.no_grad():
        if statistics == "batch":
            with batch_statistics_mode(small) as run:
                expected = run(images)
        else:
            expected = small.eval()(images)
    with onnx_logits(path, statistics=statistics, device="cpu") as logits:
        torch.testing.assert_close(logits(images), expected, rtol=1e-4, atol=1e-5)


def test_batch_statistics_leave_the_module_as_it_was(small: nn.Module) -> None:
    small.train()
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    images = torch.randn(10, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with batch_statistics_mode(small) as run, torch.no_grad():
        found = run(images)
    assert small.training
    assert small.norm.track_running_stats
    after = small.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    normal = nn.functional.batch_norm(small.conv(images), None, None, small.norm.weight, small.norm.bias, training=True)
    torch.testing.assert_close(found, small.last(torch.relu(normal).mean(dim=(2, 3))))


def test_a_model_of_one_batch_size_takes_any_number_of_images(small: nn.Module, tmp_path: Path) -> None:
    images = torch.randn(7, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with onnx_logits(exported(small, tmp_path / "net.onnx", 4, dynamic=False), device="cpu") as logits, torch.no_grad():
        np.testing.assert_allclose(logits(images).numpy(), small.eval()(images).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_images_are_given_as_the_model_takes_them(small: nn.Module, tmp_path: Path, backend: str) -> None:
    class ChannelsLast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x.permute(0, 3, 1, 2))

    if backend == "torch":
        pytest.importorskip("onnx2fx", reason="onnx2fx is not installed")
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    onnx.save(module_to_onnx(ChannelsLast(), (torch.zeros(4, 8, 8, 3),)), tmp_path / "net.onnx")
    with onnx_logits(tmp_path / "net.onnx", backend=backend, device="cpu") as logits, torch.no_grad():
        torch.testing.assert_close(logits(images), small.eval()(images), rtol=1e-4, atol=1e-5)


def test_no_batch_norm_no_statistics(tmp_path: Path) -> None:
    """Without any, a model of one batch size stays one: its reshapes may be made for that size."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))
    path = exported(net, tmp_path / "net.onnx", 1, dynamic=False)
    model = onnx.load(path)
    (flatten,) = (node for node in model.graph.node if node.op_type == "Flatten")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 144]), "shape"))
    flatten.CopyFrom(onnx.helper.make_node("Reshape", [flatten.input[0], "shape"], list(flatten.output)))
    onnx.save(model, path)
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with onnx_logits(path, statistics="batch", device="cpu") as logits, torch.no_grad():
        torch.testing.assert_close(logits(images), net(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 5, 8, 8), (2, 3, 8)])
def test_a_model_of_other_inputs_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    onnx.save(module_to_onnx(nn.ReLU(), (torch.zeros(shape),)), tmp_path / "net.onnx")
    with pytest.raises(OptionError, match=" × ".join(map(str, shape))), onnx_logits(tmp_path / "net.onnx"):
        pass


def test_bad_models_give_one_line(tmp_path: Path) -> None:
    with pytest.raises((ModelReadError, RuntimeFailure)), onnx_logits(tmp_path / "absent.onnx"):
        pass
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises((ModelReadError, RuntimeFailure)), onnx_logits(tmp_path / "broken.onnx", statistics="batch"):
        pass


@pytest.mark.parametrize("statistics", ["stored", "batch"])
def test_torch_gives_what_onnxruntime_gives(small: nn.Module, tmp_path: Path, statistics: str) -> None:
    pytest.importorskip("onnx2fx", reason="onnx2fx is not installed")
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    path = exported(small, tmp_path / "net.onnx", 2)
    with onnx_logits(path, statistics=statistics, device="cpu") as others:
        expected = others(images)
    with onnx_logits(path, statistics=statistics, backend="torch", device="cpu") as logits, torch.no_grad():
        torch.testing.assert_close(logits(images), expected, rtol=1e-4, atol=1e-5)


def test_a_backend_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx2fx", None)
    with pytest.raises(OptionError, match="onnx2fx"), onnx_logits(tmp_path / "x.onnx", backend="torch"):
        pass


@pytest.mark.parametrize(
    ("device", "available", "providers"),
    [
        ("cpu", ["CUDAExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"]),
        ("cuda", ["CUDAExecutionProvider", "CPUExecutionProvider"], ["CUDAExecutionProvider", "CPUExecutionProvider"]),
        (None, ["CPUExecutionProvider"], ["CPUExecutionProvider"]),
    ],
)
def test_onnxruntime_runs_where_it_is_told(
    device: str | None, available: list[str], providers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[list[str], int | None]] = []
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: available)
    monkeypatch.setattr("onnx_ghn.runtime.open_session", lambda path, wanted, threads: given.append((wanted, threads)))
    monkeypatch.setattr("onnx_ghn.evaluate.onnx_files._scores_of", lambda session: None)
    with onnx_logits("net.onnx", device=device, threads=3):
        assert given == [(providers, 3)]


def test_a_device_that_onnxruntime_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(OptionError, match=r"`device` cuda.*`backend` torch"), onnx_logits("net.onnx", device="cuda"):
        pass
