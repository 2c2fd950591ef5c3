"""Batch norms that normalise kernels, or by statistics that are computed: trained as torch trains the module."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from predict_models import export
from torch import nn
from torch.nn import functional as F
from tuning_models import SIDE, tensors_of

pytest.importorskip("onnx2fx", reason="onnx2fx is not installed: pip install 'onnx-ghn[finetune]'")

from onnx_ghn.errors import GraphError
from onnx_ghn.finetuning import FinetuneOptions, finetune
from onnx_ghn.vision import load_dataset, train_stream


class Standardised(nn.Conv2d):
    """Kernels of mean 0 and variance 1, times a gain, as timm's ScaledStdConv2d standardises them."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out, 3, padding=1)
        self.gain = nn.Parameter(torch.rand(n_out) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.weight.reshape(1, self.out_channels, -1)
        rows = F.batch_norm(rows, None, None, weight=0.3 * self.gain, training=True, momentum=0.0, eps=1e-6)
        return F.conv2d(x, rows.reshape_as(self.weight), self.bias, padding=1)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = Standardised(3, 6), Standardised(6, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))).mean((2, 3)))


def stepped(net: nn.Module, colours: Path, steps: int) -> dict[str, np.ndarray]:
    """What torch's own SGD makes of a module on the batches that finetune sees."""
    stream = train_stream(load_dataset(colours, split="trainval"), 12, seed=3, augment=False, drop_last=True)
    optimizer = torch.optim.SGD(net.train().parameters(), 0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        images, labels = stream.batch(step)
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()
        schedule.step()
    return {name: tensor.detach().numpy() for name, tensor in net.state_dict().items()}


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
def test_standardised_kernels_are_trained_as_torch_trains_them(dynamo: bool, colours: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Net()
    source = tmp_path / "net.onnx"
    axes = {"dynamic_shapes": ({0: torch.export.Dim("n")},)} if dynamo else {"dynamic_axes": {"image": {0: "n"}}}
    export(net, (torch.zeros(2, 3, SIDE, SIDE),), source, dynamo=dynamo, input_names=["image"], **axes)
    norms = [node for node in onnx.load(source).graph.node if node.op_type == "BatchNormalization"]
    assert len(norms) == 2  # what it is about
    options = FinetuneOptions(steps=3, batch_size=12, lr=0.05, wd=0.0, grad_clip=1e9, augment=False, seed=3)
    result = finetune(source, colours, tmp_path / "tuned.onnx", options)
    assert (result.n_trained, result.n_statistics) == (8, 0)
    assert not any("batch norm" in note for note in result.notes)
    wanted, found = stepped(net, colours, 3), tensors_of(tmp_path / "tuned.onnx")
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=2e-4, atol=2e-5, err_msg=name)


def test_statistics_that_the_file_gives_out_are_those_of_each_batch(colours: Path, tmp_path: Path) -> None:
    source = tmp_path / "net.onnx"
    export(Net(), (torch.zeros(2, 3, SIDE, SIDE),), source, input_names=["image"])
    model = onnx.load(source)
    norm = next(node for node in model.graph.node if node.op_type == "BatchNormalization")
    head = next(node for node in model.graph.node if node.op_type == "Gemm")
    head.input[2] = "shifted"
    model.graph.node.insert(
        len(model.graph.node) - 1, onnx.helper.make_node("ReduceMean", [norm.output[1]], ["shifted"], keepdims=0)
    )
    onnx.save(model, source)
    with pytest.raises(GraphError, match="training form"):
        finetune(source, colours, tmp_path / "tuned.onnx", FinetuneOptions(steps=1))
