"""Torch modules for `exact_counts.py` whose libraries have no small ones by name: each function makes one, and inputs.

Those of torchvision that are large in every named form; graph networks (torch_geometric), spiking networks (snntorch)
and equivariant networks (e3nn), which are no dependencies of onnx-ghn.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

Built = tuple[nn.Module, tuple[Tensor, ...]]
CLASSES = 10


def _image(size: int = 64) -> tuple[Tensor]:
    return (torch.rand(1, 3, size, size),)


def _video(frames: int = 8, size: int = 64) -> tuple[Tensor]:
    return (torch.rand(1, 3, frames, size, size),)


# -- torchvision ---------------------------------------------------------------------------------------


def alexnet() -> Built:
    """AlexNet with a small classifier."""
    from torchvision.models import AlexNet

    net = AlexNet(CLASSES)
    net.classifier = nn.Sequential(nn.Dropout(), nn.Linear(256 * 36, 64), nn.ReLU(), nn.Linear(64, CLASSES))
    return net, _image(224)  # for which its adaptive pooling divides; torch's first exporter writes no other


def vgg_bn() -> Built:
    """VGG with batch norms, a quarter as wide."""
    from torchvision.models.vgg import VGG, make_layers

    net = VGG(make_layers([16, "M", 32, "M", 64, 64, "M", 512, "M"], batch_norm=True), CLASSES)
    net.avgpool = nn.AdaptiveAvgPool2d(1)
    net.classifier = nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, CLASSES))
    return net, _image()


def vit() -> Built:
    """A vision transformer of two layers."""
    from torchvision.models import VisionTransformer

    return VisionTransformer(64, 16, 2, 4, 64, 128, num_classes=CLASSES), _image()


def maxvit() -> Built:
    """MaxViT of two stages."""
    from torchvision.models import MaxVit

    return MaxVit((64, 64), 16, 4, [16, 32], [1, 1], 16, 0.0, num_classes=CLASSES), _image()


def swin3d() -> Built:
    """Video Swin of two stages."""
    from torchvision.models.video.swin_transformer import SwinTransformer3d

    return SwinTransformer3d([2, 4, 4], 24, [2, 2], [2, 4], [4, 4, 4], num_classes=CLASSES), _video()


def _mvit(version: int) -> nn.Module:
    from torchvision.models.video.mvit import MSBlockConfig, MViT

    blocks = [
        MSBlockConfig(1, 32, 32 if version == 1 else 64, [], [3, 3, 3], [], [1, 4, 4]),
        MSBlockConfig(2, 32 if version == 1 else 64, 64, [3, 3, 3], [3, 3, 3], [1, 2, 2], [1, 2, 2]),
        MSBlockConfig(2, 64, 64, [3, 3, 3], [3, 3, 3], [1, 1, 1], [1, 2, 2]),
    ]
    newer = version == 2
    return MViT((64, 64), 8, blocks, newer, not newer, newer, newer, num_classes=CLASSES)


def mvit() -> Built:
    """MViT, first version."""
    return _mvit(1), _video()


def mvit_v2() -> Built:
    """MViT, second version, with relative positions."""
    return _mvit(2), _video()


def _video_resnet(conv: Any, stem: Any) -> nn.Module:
    from torchvision.models.video.resnet import BasicBlock, VideoResNet

    net = VideoResNet(BasicBlock, [conv] * 4, [1, 1, 1, 1], stem, num_classes=CLASSES)
    net.layer4, net.fc = nn.Identity(), nn.Linear(256, CLASSES)
    return net


def video_resnet() -> Built:
    """ResNet of three-dimensional convolutions, a block a stage, without the last."""
    from torchvision.models.video.resnet import BasicStem, Conv3DSimple

    return _video_resnet(Conv3DSimple, BasicStem), _video()


def r2plus1d() -> Built:
    """The same with kernels split into space and time."""
    from torchvision.models.video.resnet import Conv2Plus1D, R2Plus1dStem

    return _video_resnet(Conv2Plus1D, R2Plus1dStem), _video()


def s3d() -> Built:
    """S3D, with a small classifier."""
    from torchvision.models.video import s3d as network

    return network(num_classes=CLASSES), _video(16, 224)  # the smallest that its last pooling takes


# -- graphs --------------------------------------------------------------------------------------------

_NODES, _FEATURES = 6, 8
_EDGES = [[0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 0], [1, 0, 2, 1, 3, 2, 4, 3, 5, 4, 0, 5]]


def _ring() -> tuple[Tensor, Tensor]:
    """Features of six nodes, and the edges of a ring."""
    return torch.randn(_NODES, _FEATURES), torch.tensor(_EDGES)


def _on_a_ring(kind: str, **options: Any) -> Built:
    from torch_geometric.nn import models

    return getattr(models, kind)(_FEATURES, 16, 2, CLASSES, **options), _ring()


def gcn() -> Built:
    """Graph convolutions."""
    return _on_a_ring("GCN")


def gat() -> Built:
    """Graph attention, the second version."""
    return _on_a_ring("GAT", v2=True, heads=2)


def graph_sage() -> Built:
    """GraphSAGE."""
    return _on_a_ring("GraphSAGE")


def gin() -> Built:
    """Graph isomorphism networks, with batch norms."""
    return _on_a_ring("GIN", train_eps=True)


def pna() -> Built:
    """Several aggregators and scalers."""
    return _on_a_ring(
        "PNA",
        aggregators=["mean", "max", "std"],
        scalers=["identity", "amplification"],
        deg=torch.tensor([0, 0, 6]),
    )


def edge_cnn() -> Built:
    """Edge convolutions."""
    return _on_a_ring("EdgeCNN")


class _GraphTransformer(nn.Module):
    def __init__(self) -> None:
        from torch_geometric.nn import GraphNorm, TransformerConv

        super().__init__()
        self.first = TransformerConv(_FEATURES, 8, heads=2, beta=True)
        self.norm = GraphNorm(16)
        self.second = TransformerConv(16, CLASSES)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        return self.second(torch.relu(self.norm(self.first(x, edges))), edges)


def graph_transformer() -> Built:
    """Attention over edges, with gates and graph norms."""
    return _GraphTransformer(), _ring()


# -- spikes --------------------------------------------------------------------------------------------

_STEPS = 4


class _Spiking(nn.Module):
    """Two layers of neurons, unrolled over a few steps. `states` are those that a neuron begins with."""

    def __init__(self, first: nn.Module, second: nn.Module, starts: tuple[str, str]) -> None:
        super().__init__()
        self.wide, self.first = nn.Linear(_FEATURES, 16), first
        self.narrow, self.second = nn.Linear(16, CLASSES), second
        self.starts = starts

    def forward(self, x: Tensor) -> Tensor:
        states = [_start(self.first, self.starts[0]), _start(self.second, self.starts[1])]
        potentials = []
        for _ in range(_STEPS):
            spikes, *states[0] = self.first(self.wide(x), *states[0])
            _, *states[1] = self.second(self.narrow(spikes), *states[1])
            potentials.append(states[1][-1])
        return torch.stack(potentials)


def _start(neuron: Any, method: str) -> list[Tensor]:
    state = getattr(neuron, method)()
    return list(state) if isinstance(state, tuple) else [state]


def leaky_spikes() -> Built:
    """Leaky neurons with learned decay and threshold."""
    import snntorch

    neurons = [snntorch.Leaky(beta=torch.rand(n), learn_beta=True, learn_threshold=True) for n in (16, CLASSES)]
    return _Spiking(neurons[0], neurons[1], ("init_leaky", "init_leaky")), (torch.randn(1, _FEATURES),)


def synaptic_spikes() -> Built:
    """Neurons of the second order."""
    import snntorch

    neurons = [
        snntorch.Synaptic(torch.rand(n), torch.rand(n), learn_alpha=True, learn_beta=True) for n in (16, CLASSES)
    ]
    return _Spiking(neurons[0], neurons[1], ("init_synaptic", "init_synaptic")), (torch.randn(1, _FEATURES),)


def alpha_spikes() -> Built:
    """Alpha neurons, whose decays and thresholds are single numbers."""
    import snntorch

    neurons = [snntorch.Alpha(0.9, 0.8, learn_beta=True, learn_threshold=True) for _ in range(2)]
    return _Spiking(neurons[0], neurons[1], ("init_alpha", "init_alpha")), (torch.randn(1, _FEATURES),)


def recurrent_spikes() -> Built:
    """Neurons that feed back to one another."""
    import snntorch

    first = snntorch.RLeaky(beta=torch.rand(16), linear_features=16, learn_beta=True)
    second = snntorch.Leaky(beta=0.9)
    return _Spiking(first, second, ("init_rleaky", "init_leaky")), (torch.randn(1, _FEATURES),)


class _SpikingConvolutions(nn.Module):
    def __init__(self) -> None:
        import snntorch

        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.spikes = snntorch.Leaky(beta=0.5, learn_beta=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        membrane = self.spikes.init_leaky()
        outputs = []
        for _ in range(_STEPS):
            spikes, membrane = self.spikes(self.norm(self.stem(x)), membrane)
            outputs.append(self.head(spikes.mean((2, 3))))
        return torch.stack(outputs)


def spiking_convolutions() -> Built:
    """Convolution, batch norm, spikes."""
    return _SpikingConvolutions(), _image(16)


# -- equivariant ---------------------------------------------------------------------------------------

_IRREPS = "8x0e + 4x1o + 2x2e"


def _plain_e3nn() -> None:
    """e3nn compiles its code by TorchScript by default, which torch's exporters do not look into."""
    import e3nn

    e3nn.set_optimization_defaults(jit_script_fx=False, jit_mode="eager")


def equivariant_linear() -> Built:
    """Linear layers and a gate."""
    from e3nn import nn as layers
    from e3nn import o3

    _plain_e3nn()
    gate = layers.Gate("8x0e", [torch.tanh], "4x0e", [torch.sigmoid], "4x1o")
    net = nn.Sequential(
        o3.Linear(_IRREPS, gate.irreps_in), gate, layers.BatchNorm("8x0e + 4x1o"), o3.Linear("8x0e + 4x1o", "3x0e")
    )
    return net, (torch.randn(2, o3.Irreps(_IRREPS).dim),)


class _Products(nn.Module):
    def __init__(self) -> None:
        from e3nn import o3

        super().__init__()
        self.square = o3.FullyConnectedTensorProduct(_IRREPS, "1x0e + 1x1o + 1x2e", "4x0e + 4x1o")
        self.narrow = o3.Linear("4x0e + 4x1o", "3x0e + 1x1o")
        self.harmonics = o3.SphericalHarmonics([0, 1, 2], normalize=True)

    def forward(self, x: Tensor, directions: Tensor) -> Tensor:
        return self.narrow(self.square(x, self.harmonics(directions)))


def equivariant_products() -> Built:
    """A tensor product with spherical harmonics, whose weights are its own."""
    from e3nn import o3

    _plain_e3nn()
    return _Products(), (torch.randn(2, o3.Irreps(_IRREPS).dim), torch.randn(2, 3))


class _Convolution(nn.Module):
    def __init__(self) -> None:
        from e3nn import nn as layers
        from e3nn import o3

        super().__init__()
        self.product = o3.FullyConnectedTensorProduct(
            "4x0e + 2x1o", "1x0e + 1x1o", "4x0e + 2x1o", shared_weights=False, internal_weights=False
        )
        self.radial = layers.FullyConnectedNet([4, 16, self.product.weight_numel], torch.nn.functional.silu)
        self.harmonics = o3.SphericalHarmonics([0, 1], normalize=True)

    def forward(self, x: Tensor, edges: Tensor, directions: Tensor, lengths: Tensor) -> Tensor:
        messages = self.product(x[edges[0]], self.harmonics(directions), self.radial(lengths))
        return torch.zeros_like(x).index_add(0, edges[1], messages)


def equivariant_convolution() -> Built:
    """Messages along edges, whose products take their weights from a network of the distance."""
    from e3nn import o3

    _plain_e3nn()
    edges = torch.tensor(_EDGES)
    n = edges.shape[1]
    x = torch.randn(_NODES, o3.Irreps("4x0e + 2x1o").dim)
    return _Convolution(), (x, edges, torch.randn(n, 3), torch.rand(n, 4))
