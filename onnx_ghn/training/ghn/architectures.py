"""Architectures for each training step, drawn on the fly: step k sees the same ones on any machine, in any run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from torch import Tensor

from onnx_ghn.deepnets1m import Architecture, sample, sample_width, symbolic_graph
from onnx_ghn.deepnets1m.functional import run_network
from onnx_ghn.deepnets1m.genotypes import VIT
from onnx_ghn.deepnets1m.sampler import split_rules
from onnx_ghn.deepnets1m.symbolic import n_trainable
from onnx_ghn.errors import GraphError, OptionError
from onnx_ghn.graph.model import ComputationGraph
from onnx_ghn.training.ghn.settings import NetLimits

__all__ = ["ArchitectureStream", "Net", "TrainingNet"]

_DRAWS = 10_000  # before limits are said to fit no network
_MAX_NODES = 2200  # of a meta-batch, as published: keeps memory bounded without preferring small nets much


class Net(Protocol):
    """What a step trains on."""

    @property
    def graph(self) -> ComputationGraph:
        """That the GHN reads."""

    def logits(self, tensors: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """(B, 3, H, W) images, in the type to compute in -> (B, num_classes) logits in float32.

        Args:
            tensors: by parameter name, of canonical shape.
        """


@dataclasses.dataclass(frozen=True)
class TrainingNet:
    """An architecture at its drawn width, and its graph."""

    architecture: Architecture
    graph: ComputationGraph
    large_images: bool = False

    def logits(self, tensors: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """See `Net`."""
        return run_network(self.architecture, tensors, images, large_images=self.large_images, dropout=True)


@dataclasses.dataclass(frozen=True)
class _OfClasses:
    """A network whose classes are the last rows of its classification layer."""

    net: Net
    first_class: int

    @property
    def graph(self) -> ComputationGraph:
        """See `Net`."""
        return self.net.graph

    def logits(self, tensors: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """See `Net`."""
        return self.net.logits(tensors, images)[:, self.first_class :]


class ArchitectureStream:
    """Nets by step, from the seed alone: nothing to save, nothing to replay after an interruption.

    Args:
        split: whose published rules apply.
        num_classes: of the classifiers.
        seed: of every draw.
        limits: which nets are drawn.
        large_images: the networks' ImageNet form.
        image_size: pixels a side, of the families' networks.
        first_class: as many rows of the classification layers come before those of the classes, which are of other
            data sets; no network's logits have them.

    Raises:
        OptionError: networks of families for large images.
    """

    def __init__(
        self,
        split: str,
        num_classes: int,
        seed: int,
        limits: NetLimits | None = None,
        *,
        large_images: bool = False,
        image_size: int = 32,
        first_class: int = 0,
    ) -> None:
        self.rules = split_rules(split)
        self.first_class = first_class
        self.num_classes = first_class + num_classes
        self.seed = seed
        self.limits = limits or NetLimits()
        self.large_images = large_images
        if self.limits.families:
            if large_images:
                raise OptionError("`families`: those networks are in the form for small images")
            from onnx_ghn.training.ghn.family_nets import FamilyPool

            self._families = FamilyPool(self.num_classes, image_size, seed)

    def meta_batch(self, step: int, size: int) -> list[Net]:
        """The nets of a step. A meta-batch of too many nodes for memory is drawn again, as published."""
        for attempt in range(64):
            rng = np.random.default_rng([self.seed, step, attempt])
            nets = [self._draw(rng) for _ in range(size)]
            if sum(len(net.graph) for net in nets) <= max(_MAX_NODES, 280 * size):
                break
        return [_OfClasses(net, self.first_class) for net in nets] if self.first_class else nets

    def _draw(self, rng: np.random.Generator) -> Net:
        limits = self.limits
        if limits.families and rng.random() < limits.families:
            return self._families[int(rng.integers(self._families.size))]
        if limits.transformers and rng.random() < limits.transformers:
            architecture = _plain_transformer(rng)
            graph = symbolic_graph(architecture, self.num_classes, large_images=self.large_images)
            return TrainingNet(architecture, graph, self.large_images)
        for _ in range(_DRAWS):
            if net := self._try_draw(rng):
                return net
        raise OptionError(
            f"`max_cells` {limits.max_cells:,}, `max_params` {limits.max_params:,}: none of {_DRAWS:,} networks drawn "
            f"of {self.rules.name} is that small (none has fewer than {self.rules.min_cells} cells): allow larger ones"
        )

    def _try_draw(self, rng: np.random.Generator) -> TrainingNet | None:
        """A network of DeepNets-1M, or None where it is disconnected or beyond the limits."""
        limits = self.limits
        architecture = sample(self.rules.name, rng)
        if architecture is None or architecture.n_cells > limits.max_cells:
            return None
        if limits.any_size and not architecture.glob_avg:
            return None
        try:
            n_default = n_trainable(symbolic_graph(architecture, 10))
            if n_default > self.rules.max_params:
                return None
            if limits.channels is None:
                architecture = sample_width(architecture, n_default, rng)
            else:
                architecture = architecture.replace(C=limits.channels)
            graph = symbolic_graph(architecture, self.num_classes, large_images=self.large_images)
        except GraphError:  # disconnected: the published generator leaves those out too
            return None
        if n_trainable(graph) > limits.max_params:
            return None
        return TrainingNet(architecture, graph, self.large_images)


def _plain_transformer(rng: np.random.Generator) -> Architecture:
    """The predefined ViT, smaller: 3 to 9 cells instead of 12, 32 to 112 channels instead of 128."""
    return Architecture(
        VIT,
        n_cells=int(rng.integers(3, 10)),
        C=16 * int(rng.integers(2, 8)),
        preproc=False,
        C_mult=1,
        fc_layers=int(rng.integers(1, 3)),
        fc_dim=64 * int(rng.integers(1, 5)),
    )
