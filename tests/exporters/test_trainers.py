"""`initialize` before Lightning's Trainer and Hugging Face's Accelerator: they need nothing more."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import onnx_ghn

pytestmark = pytest.mark.filterwarnings("ignore")
IMAGES = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(8) % 4


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    )


def test_initialize_before_lightning(tmp_path: Path) -> None:
    lightning = pytest.importorskip("pytorch_lightning", reason="PyTorch Lightning is not installed")

    class Classifier(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = small_net()
            self.first = self.net[0].weight.detach().clone()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.net(images)

        def on_train_start(self) -> None:
            self.first = self.net[0].weight.detach().clone()

        def training_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    model = Classifier()
    random = model.first
    onnx_ghn.initialize(model, IMAGES[:1], policy="all")  # the line that a user adds
    predicted = model.net[0].weight.detach().clone()
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(IMAGES, CLASSES), 4)
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, data)
    assert trainer.global_step == 2
    assert not torch.equal(predicted, random)
    assert torch.equal(model.first, predicted)  # training began there
    assert not torch.equal(model.net[0].weight, predicted)


def test_initialize_before_accelerate() -> None:
    accelerate = pytest.importorskip("accelerate", reason="Accelerate is not installed")
    net = small_net()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)  # holds the very tensors that are filled
    onnx_ghn.initialize(net, IMAGES[:1], policy="all")  # the line that a user adds
    predicted = net[0].weight.detach().clone()
    accelerator = accelerate.Accelerator(cpu=True)
    prepared, prepared_optimizer = accelerator.prepare(net, optimizer)
    assert torch.equal(accelerator.unwrap_model(prepared)[0].weight, predicted)
    accelerator.backward(nn.functional.cross_entropy(prepared(IMAGES), CLASSES))
    prepared_optimizer.step()
    gradient = net[0].weight.grad
    torch.testing.assert_close(net[0].weight.detach(), predicted - 0.1 * gradient)
