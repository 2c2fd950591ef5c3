"""Libraries on PyTorch: brevitas (quantised layers), torch_geometric (graphs), snnTorch (spikes), e3nn (rotations)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from compatibility_runs.built import CLASSES, IMAGE, WIDTH, Built, Exporter
from compatibility_runs.cells import Cell
from compatibility_runs.exporting import measure_exporter
from compatibility_runs.from_torch import plain_export
from compatibility_runs.rows import Row
from compatibility_runs.torch_networks import built

__all__ = ["measure"]


def _quantised(network: str) -> Built:
    from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU

    torch.manual_seed(0)
    model = nn.Sequential(
        QuantIdentity(bit_width=8),
        QuantConv2d(3, 8, 3, padding=1, bias=False, weight_bit_width=8),
        nn.BatchNorm2d(8),
        QuantReLU(bit_width=8),
        QuantConv2d(8, WIDTH, 3, stride=2, padding=1, weight_bit_width=8),
        QuantReLU(bit_width=8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        QuantLinear(WIDTH, CLASSES, bias=True, weight_bit_width=8),
    )
    model(torch.from_numpy(IMAGE))  # in training: it measures the ranges of activations
    return built(model, IMAGE)


def _qcdq(given: Built, path: Path) -> None:
    from brevitas.export import export_onnx_qcdq

    export_onnx_qcdq(given.model, torch.from_numpy(given.inputs[0]), str(path), dynamo=False)


def _qonnx(given: Built, path: Path) -> None:
    from brevitas.export import export_qonnx

    export_qonnx(given.model, torch.from_numpy(given.inputs[0]), str(path), dynamo=False)


class _Graph(nn.Module):
    """Two graph convolutions."""

    def __init__(self) -> None:
        super().__init__()
        from torch_geometric.nn import GCNConv

        self.first, self.second = GCNConv(6, 12), GCNConv(12, 4)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """(N, 6), (2, E) -> (N, 4)."""
        return self.second(self.first(x, edges).relu(), edges)


def _gcn(network: str) -> Built:
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    return built(_Graph(), draw.random((9, 6), dtype=np.float32), draw.integers(0, 9, (2, 20)))


class _Spiking(nn.Module):
    """Leaky integrate-and-fire neurons over four steps, with learned decay and threshold."""

    def __init__(self) -> None:
        super().__init__()
        import snntorch

        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 4)
        self.spikes = snntorch.Leaky(beta=0.9, learn_beta=True, learn_threshold=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 8) -> (B, 4)."""
        memory = torch.zeros(x.shape[0], 16)
        total = torch.zeros(x.shape[0], 4)
        for _ in range(4):
            spikes, memory = self.spikes(self.first(x), memory)
            total = total + self.second(spikes)
        return total


def _leaky(network: str) -> Built:
    torch.manual_seed(0)
    return built(_Spiking(), np.random.default_rng(0).random((3, 8), dtype=np.float32))


def _o3(network: str) -> Built:
    from e3nn import o3

    class Rotating(nn.Module):
        """Two equivariant linear layers around a tensor product."""

        def __init__(self) -> None:
            super().__init__()
            irreps = o3.Irreps("4x0e + 2x1o")
            self.first = o3.Linear(irreps, irreps)
            self.product = o3.FullyConnectedTensorProduct(irreps, irreps, "4x0e")

        def forward(self, x: Tensor) -> Tensor:
            """(N, 10) -> (N, 4)."""
            return self.product(self.first(x), x)

    torch.manual_seed(0)
    return built(Rotating(), np.random.default_rng(0).random((5, 10), dtype=np.float32))


def _torchscript(given: Built, path: Path) -> None:
    plain_export(given, path, dynamo=False)


_EXPORTERS = {
    "brevitas-qcdq": Exporter(_quantised, _qcdq),
    "brevitas-qonnx": Exporter(_quantised, _qonnx),
    "torch-geometric": Exporter(_gcn, lambda given, path: plain_export(given, path, dynamo=False, opset_version=18)),
    "snntorch": Exporter(_leaky, _torchscript),
    "e3nn": Exporter(_o3, _torchscript),
}


def measure(row: Row, network: str, folder: Path) -> dict[str, Cell]:
    """The cells of one of these libraries."""
    return measure_exporter(_EXPORTERS, row, network, folder)
