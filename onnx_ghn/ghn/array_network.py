"""A GHN that predicts without torch: the forward pass of `GHN` for one graph, on arrays.

The rules (which tensor is decoded from which node, sizes, factors, tiling) are those that `GHN` uses; the arithmetic is
written a second time, since a framework of a gigabyte is much for seven matrix products. Tests hold both equal.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.errors import GraphError
from onnx_ghn.ghn.array_decoders import decoded, decoded_classes, identity
from onnx_ghn.ghn.array_layers import Floats, layer_norm, linear, mlp, relu, sigmoid
from onnx_ghn.ghn.array_messages import attended, gated
from onnx_ghn.ghn.lazy_blocks import LazyBlocks
from onnx_ghn.ghn.memory import check_attention, memory_told
from onnx_ghn.ghn.resizing import fit_kernel, position_rows
from onnx_ghn.ghn.shape_indices import ShapeIndices
from onnx_ghn.ghn.stored import StoredGHN, read_ghn
from onnx_ghn.ghn.targets import Target, grouped_targets, targets_of
from onnx_ghn.ghn.tiling import Block, position_grid, tile_array
from onnx_ghn.graph.model import ComputationGraph

if TYPE_CHECKING:
    from onnx_ghn.ghn.network import GHN

__all__ = ["ArrayGHN", "load_array_ghn"]


def load_array_ghn(source: str | os.PathLike[str] | None = None) -> ArrayGHN:
    """A GHN for prediction alone; see `stored.read_ghn` for the source and the errors."""
    return ArrayGHN(read_ghn(source))


class ArrayGHN:
    """A GHN for prediction alone, on arrays. What it gives depends on the graph and the weights.

    Args:
        stored: as it was read; what is only decoded by may be absent where nothing is decoded.
    """

    def __init__(self, stored: StoredGHN) -> None:
        self.config = stored.config
        self.policy_file = stored.policy_file
        self._weights = stored.tensors
        self._indices = ShapeIndices(stored.config.num_classes, stored.config.max_shape[3])

    @classmethod
    def of(cls, ghn: GHN) -> ArrayGHN:
        """What a module holds now."""
        return cls(StoredGHN(ghn.config, ghn.arrays(), ghn.policy_file))

    def __repr__(self) -> str:
        config = self.config
        n_weights = sum(tensor.size for tensor in self._weights.values())
        return f"ArrayGHN({config.name or 'unnamed'}: {config.hypernet}, hid {config.hid}, {n_weights:,} weights)"

    def arrays(self) -> Mapping[str, Floats]:
        """Its tensors by their published names."""
        return self._weights

    def embeddings(self, graphs: Sequence[ComputationGraph]) -> list[Floats]:
        """Node embeddings after message passing (and layer norm): an (N, hid) array a graph.

        Raises:
            GraphError: a graph without nodes, or with more than fit into memory.
        """
        return [self._embed(graph) for graph in graphs]

    def _embed(self, graph: ComputationGraph) -> Floats:
        _check_nodes(graph)
        weights, config = self._weights, self.config
        shapes = self._indices.of([node.shape for node in graph.nodes])  # (N, 4)
        parts = [
            weights["shape_enc.embed_channel.weight"][shapes[:, :2]],  # (N, 2, hid / 4)
            weights["shape_enc.embed_spatial.weight"][shapes[:, 2:]],
        ]
        x = weights["embed.weight"][graph.primitives] + np.concatenate(parts, axis=1).reshape(len(graph), -1)
        if config.hypernet == "mlp":
            x = mlp(weights, "gnn", x, last_relu=True)
        elif config.hypernet == "gatedgnn":
            x = gated(weights, config, x, graph)
        else:
            check_attention(graph, config.heads, by_rows=True)
            x = attended(weights, config, x, graph)
        return layer_norm(weights, "ln", x) if config.layernorm else x

    def blocks(self, graph: ComputationGraph) -> Mapping[int, Block]:
        """Predict for one graph with small memory: parameter index -> `Block`. See `GHN.blocks`.

        The graph passes through the GHN when the first block is asked for, and each group of tensors of one size is
        decoded when one of it is.

        Raises:
            GraphError: a graph without nodes. A look-up raises it where the graph needs more memory than there is.
        """
        _check_nodes(graph)
        embeddings: list[Floats] = []  # (N, hid), once it is known

        def decode(group: list[Target]) -> Floats:
            with memory_told(len(graph)):
                if not embeddings:
                    embeddings.append(self._embed(graph))
                rows = embeddings[0][[target.node for target in group]]
                if group[0].kind in ("scale", "shift", "class_shift"):
                    return self._vectors(rows, group)
                return self._tensors(rows, group)

        return LazyBlocks(grouped_targets(targets_of(graph, self.config)), decode)

    def _tensors(self, x: Floats, group: list[Target]) -> Floats:
        """(n, hid) embeddings of n targets of one kind and size -> (n, ...) blocks."""
        target, weights, config = group[0], self._weights, self.config
        if target.kind == "class_weight":
            classes, in_ = target.decode
            values = decoded_classes(weights, config, x, in_)[:, :classes]  # (n, classes, in)
        else:
            out, in_, kh, kw = target.decode
            values = fit_kernel(decoded(weights, config, x, out, in_, (kh, kw)), target.kernel)
        factors = np.array([t.factor for t in group], np.float32)
        values = values * factors.reshape(-1, *[1] * (values.ndim - 1))
        if config.dirac and target.kind == "weight":
            out, in_, kh, kw = values.shape[1:]
            ones = identity(weights, config, x, out, in_, [t.repeats for t in group], grouped=target.grouped)
            values[..., kh // 2, kw // 2] += ones
        if target.positions is not None:
            # (n, out, in) or (n, out, in, 1, 1) -> (n, out, in, 1), or (n, out, 1, in) where channels come last
            values = np.expand_dims(values.reshape(values.shape[:3]), 1 + target.positions)
        if target.kind == "position":
            side, leading = position_grid(target.shape[1])
            # (n, 1, D, s, s). Without interpolation a grid above max_shape is tiled here, before it is cut.
            grid = tile_array(values, (*values.shape[:3], side, side))
            values = np.stack([position_rows(one, target.shape[1], leading) for one in grid])
        return values

    def _vectors(self, x: Floats, group: list[Target]) -> Floats:
        """(n, hid) -> (n, size): row 0 of the 1-D decoder is a scale, row 1 a shift."""
        kind, weights = group[0].kind, self._weights
        both = mlp(weights, "decoder_1d", x, last_relu=False)
        values = both.reshape(len(x), 2, -1)[:, 0 if kind == "scale" else 1]  # (n, channels)
        if kind == "class_shift":
            values = linear(weights, "bias_class.1", relu(values.copy()))  # (n, num_classes)
        values = values[:, : max(math.prod(t.tiled) for t in group)]
        if not self.config.weight_norm:
            return values
        if kind == "scale":
            return np.float32(2) * sigmoid(np.float32(0.5) * values)
        return np.asarray(np.tanh(np.float32(0.2) * values), np.float32)


def _check_nodes(graph: ComputationGraph) -> None:
    """Raises GraphError: a graph without nodes."""
    if not len(graph):
        raise GraphError(f"graph {graph.name!r} has no nodes")
