"""The graph hypernetwork: graphs in, predicted tensors out."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onnx_ghn.arguments import path_given
from onnx_ghn.errors import GraphError
from onnx_ghn.ghn.config import GHNConfig
from onnx_ghn.ghn.decoders import ConvDecoder, DecoderBlocks, MLPDecoder, decoder_of
from onnx_ghn.ghn.dirac import DiracHead
from onnx_ghn.ghn.gatedgnn import GatedGNN
from onnx_ghn.ghn.graphormer import Graphormer
from onnx_ghn.ghn.hub import SCHEME, Address, upload
from onnx_ghn.ghn.lookup import LookupTable
from onnx_ghn.ghn.memory import check_attention, memory_told
from onnx_ghn.ghn.mlp import MLP, layer_at
from onnx_ghn.ghn.module_files import load_module, save_with_card
from onnx_ghn.ghn.shape_encoder import ShapeEncoder
from onnx_ghn.ghn.sizes import LARGE, MAX_DISTANCE, N_PRIMITIVES
from onnx_ghn.ghn.sweeps import sweep_of
from onnx_ghn.ghn.targets import Target, grouped_targets, targets_of
from onnx_ghn.ghn.tensor_tiling import fit_kernel, position_rows, tile
from onnx_ghn.ghn.threads import one_thread
from onnx_ghn.ghn.tiling import Block, position_grid
from onnx_ghn.graph.model import ComputationGraph
from onnx_ghn.scratch import scratch_folder

__all__ = ["GHN"]


class GHN(nn.Module):
    """A graph hypernetwork: GHN-1, GHN-2, MLP (facebookresearch/ppuda) or GHN-3 (SamsungSAILMontreal/ghn3).

    Tensor names are those of the published checkpoints. A prediction depends on the graph and the weights
    alone: no random numbers, no state. Calling it (`forward`) is differentiable, for training; `blocks`
    is for prediction.

    Args:
        config: hyperparameters. The weights start as torch initialises layers; `new_ghn` gives the published
            initialisation.
    """

    def __init__(self, config: GHNConfig) -> None:
        super().__init__()
        self.config = config
        self.policy_file: Path | None = None  # beside the weights, where they were read from a file
        hid, channels = config.hid, max(config.max_shape[:2])
        # The published name of this table is `embed`, which here is a method: so it is registered by hand.
        self._modules["embed"] = LookupTable(N_PRIMITIVES, hid)
        self.shape_enc = ShapeEncoder(hid, config.num_classes, config.max_shape[3])
        self.gnn: GatedGNN | Graphormer | MLP
        if config.hypernet == "gatedgnn":
            self.gnn = GatedGNN(hid, config.ve)
        elif config.hypernet == "graphormer":
            self.gnn = Graphormer(hid, config.heads, config.layers)
        else:
            self.gnn = MLP(hid, (hid, hid))
        if config.layernorm:
            self.ln = nn.LayerNorm(hid)
        self.decoder: ConvDecoder | MLPDecoder = decoder_of(config)
        if config.dirac:
            self.dirac = DiracHead(hid, config.max_shape[1])
        self.decoder_1d = MLP(hid, (2 * hid, 2 * channels), last_relu=False)
        self.bias_class = nn.Sequential(nn.ReLU(), nn.Linear(channels, config.num_classes))

    @classmethod
    def from_pretrained(
        cls, source: str | os.PathLike[str], *, revision: str | None = None, device: str | torch.device = "cpu"
    ) -> Self:
        """A GHN of a folder, or of a repository of the Hugging Face hub, in evaluation mode.

        Args:
            source: a folder; owner/name; or what `load_ghn` takes.
            revision: of the repository: a branch, a tag or a commit.
            device: of the weights.

        Raises:
            CheckpointError: absent, damaged, not a GHN, or tensors that its config does not have.
            OptionError: a device that is not there, or a hub without its extra.
        """
        text = path_given("source", source)
        if not text.startswith(SCHEME) and text.count("/") == 1 and not Path(text).exists():
            text = SCHEME + text
        if revision is not None:
            owner, name = Address.of(text).repository.split("/")
            text = f"{SCHEME}{owner}/{name}@{quote(revision, safe='')}"
        return load_module(cls, text, device)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Path:
        """Write the weights, the config, the policy that it was read with, and a model card where there is none.

        Raises:
            CheckpointError: the folder cannot be written.
        """
        return save_with_card(self, folder)

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload a graph hypernetwork",
    ) -> str:
        """Write what `save_pretrained` writes into a repository of the Hugging Face hub.

        Args:
            repository: owner/name; it is made where there is none.
            private: whether a new repository is; None leaves it to the owner's settings.
            revision: the branch to write to.

        Returns:
            the address of the commit.

        Raises:
            CheckpointError: no such owner, no right to write, or no connection.
            OptionError: a hub without its extra.
        """
        with scratch_folder() as folder:
            files = self.save_pretrained(folder / "ghn")
            return upload(files, repository, private=private, revision=revision, message=commit_message)

    def __repr__(self) -> str:
        config = self.config
        n_weights = sum(p.numel() for p in self.parameters())
        return f"GHN({config.name or 'unnamed'}: {config.hypernet}, hid {config.hid}, {n_weights:,} weights)"

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return layer_at(self.bias_class, 1, nn.Linear).weight.device

    @property
    def _primitive_table(self) -> nn.Embedding:
        table = self._modules["embed"]
        assert isinstance(table, nn.Embedding)
        return table

    def embed(self, graphs: Sequence[ComputationGraph]) -> list[Tensor]:
        """Node embeddings after message passing (and layer norm): an (N, hid) tensor a graph.

        Raises:
            GraphError: a graph without nodes.
        """
        if not graphs:
            return []
        for graph in graphs:
            if not len(graph):
                raise GraphError(f"graph {graph.name!r} has no nodes")
        device = self.device
        primitives = torch.from_numpy(np.concatenate([graph.primitives for graph in graphs])).to(device)
        shapes = self.shape_enc.indices([node.shape for graph in graphs for node in graph.nodes])
        # (N, hid)
        x = self._primitive_table(primitives) + self.shape_enc(torch.from_numpy(shapes).to(device))
        # Float32 also under mixed precision: sums over hundreds of nodes overflow, for little to win.
        with torch.autocast(device.type, enabled=False):
            x = self._pass_messages(x, graphs)
            if self.config.layernorm:
                x = self.ln(x)
        return list(x.split_with_sizes([len(graph) for graph in graphs]))

    @torch.inference_mode()
    def embeddings(self, graphs: Sequence[ComputationGraph]) -> list[npt.NDArray[np.float32]]:
        """What `embed` gives, as arrays."""
        return [nodes.float().cpu().numpy() for nodes in self.embed(graphs)]

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """Its tensors by their published names."""
        return {name: tensor.detach().float().cpu().contiguous().numpy() for name, tensor in self.state_dict().items()}

    def _pass_messages(self, x: Tensor, graphs: Sequence[ComputationGraph]) -> Tensor:
        """(N, hid) -> (N, hid) for the nodes of all graphs."""
        gnn, config = self.gnn, self.config
        updated: Tensor
        if isinstance(gnn, MLP):
            updated = gnn(x)
            return updated
        if isinstance(gnn, Graphormer):
            largest = max(graphs, key=len)
            by_rows = len(largest) > LARGE and not torch.is_grad_enabled()
            check_attention(largest, config.heads, by_rows=by_rows)
        distances = [graph.distances(config.cutoff) for graph in graphs]
        if isinstance(gnn, GatedGNN):
            forward, backward = (
                sweep_of(graphs, distances, backward=backward, virtual=config.ve, device=x.device)
                for backward in (False, True)
            )
            updated = gnn(x, (forward, backward))
            return updated
        sizes = [len(graph) for graph in graphs]
        parts = list(x.split_with_sizes(sizes))
        for bucket in _buckets(sizes):
            attended = self._attend(gnn, [parts[i] for i in bucket], [distances[i] for i in bucket])
            for i, part in zip(bucket, attended, strict=True):
                parts[i] = part
        return torch.cat(parts)

    def _attend(
        self, gnn: Graphormer, parts: Sequence[Tensor], distances: Sequence[npt.NDArray[np.int32]]
    ) -> Sequence[Tensor]:
        """(N, hid) nodes of each graph -> the same after the graphormer."""
        config, device = self.config, parts[0].device
        sizes = [len(part) for part in parts]
        longest = max(sizes)
        # The narrowest type that holds them; the largest graphs have nothing else of all pairs in memory.
        dense = np.zeros((len(sizes), longest, longest), dtype=np.int16 if longest > LARGE else np.int64)
        for one, distance in zip(dense, distances, strict=True):
            place = one[: len(distance), : len(distance)]
            np.minimum(distance, MAX_DISTANCE, out=place, casting="same_kind" if longest <= LARGE else "unsafe")
        edges = torch.from_numpy(dense).to(device)
        # Linear layers of 12 hid² weights, and attention's two products.
        work_flop = len(sizes) * longest * config.layers * config.hid * (24.0 * config.hid + 4 * longest)
        with one_thread(device, work_flop):
            if min(sizes) == longest:
                whole: Tensor = gnn(torch.stack(list(parts)), edges)
                return whole.unbind(0)
            padded = nn.utils.rnn.pad_sequence(list(parts), batch_first=True)  # (B, N, hid)
            mask = torch.arange(longest, device=device) < torch.tensor(sizes, device=device)[:, None]
            updated: Tensor = gnn(padded, edges, mask)[mask]
            return updated.split_with_sizes(sizes)

    def forward(self, graphs: Sequence[ComputationGraph]) -> list[dict[int, Tensor]]:
        """Predict for a batch of graphs, differentiably.

        Returns:
            For each graph, parameter index -> tensor of canonical shape (maybe a view of a larger one), for
            the parameters that a node decodes.
        """
        embeddings = self.embed(graphs)
        targets = [t for b, graph in enumerate(graphs) for t in targets_of(graph, self.config, b)]
        predicted: list[dict[int, Tensor]] = [{} for _ in graphs]
        for group, values in self._decode(embeddings, targets):
            for target, block in zip(group, values, strict=True):
                tensor = tile(block, target.tiled).reshape(target.shape)
                predicted[target.graph][target.parameter] = tensor
        return predicted

    @torch.inference_mode()
    def blocks(self, graph: ComputationGraph) -> dict[int, Block]:
        """Predict for one graph with small memory: parameter index -> `Block`.

        A block is at most as large as max_shape (or its tensor); its `array()` gives the tensor, so a model
        larger than memory can be written tensor by tensor.
        """
        predicted: dict[int, Block] = {}
        with memory_told(len(graph)):
            for group, values in self._decode(self.embed([graph]), list(targets_of(graph, self.config))):
                for target, block in zip(group, values.float().cpu().numpy(), strict=True):
                    needed = block[tuple(slice(size) for size in target.tiled)]
                    predicted[target.parameter] = Block(needed, target.tiled, target.shape)
        return predicted

    def _decode(self, embeddings: Sequence[Tensor], targets: Sequence[Target]) -> Iterator[tuple[list[Target], Tensor]]:
        """Groups of targets that one product decodes, and their normalised values, stacked."""
        offsets = np.cumsum([0, *map(len, embeddings)])
        x = torch.cat(list(embeddings)) if len(embeddings) > 1 else embeddings[0] if embeddings else None
        groups = grouped_targets(targets)
        blocks = self._blocks([group[0] for group in groups])
        for group in groups:
            assert x is not None
            rows = torch.from_numpy(np.array([offsets[t.graph] + t.node for t in group])).to(x.device)
            # Nearly all of it in the last layer: 8 hid inputs for every value of a block.
            work_flop = 16.0 * self.config.hid * len(group) * math.prod(group[0].decode)
            with torch.autocast(x.device.type, enabled=False), one_thread(x.device, work_flop):
                values = self._decode_group(x[rows].float(), group, blocks)
            yield group, values

    def _blocks(self, targets: Sequence[Target]) -> DecoderBlocks | None:
        if not torch.is_grad_enabled():
            return None
        sizes = []
        for target in targets:
            if target.kind == "class_weight":
                sizes.append((self.config.max_shape[0], target.decode[1], 1, 1))
            elif target.kind in ("weight", "position"):
                sizes.append((target.decode[0], target.decode[1], target.decode[2], target.decode[3]))
        return self.decoder.blocks(sizes) if sizes else None

    def _decode_group(self, x: Tensor, group: list[Target], blocks: DecoderBlocks | None) -> Tensor:
        """(n, hid) embeddings of n targets of one kind and size -> (n, ...) blocks."""
        target = group[0]
        if target.kind in ("scale", "shift", "class_shift"):
            return self._decode_vectors(x, group)
        if target.kind == "class_weight":
            classes, in_ = target.decode
            values = self.decoder.class_weight(x, in_, blocks)[:, :classes]  # (n, classes, in)
        else:
            out, in_, kh, kw = target.decode
            values = fit_kernel(self.decoder(x, out, in_, (kh, kw), blocks), target.kernel)
        factors = torch.tensor([t.factor for t in group], device=x.device, dtype=values.dtype)
        values = values * factors.view(-1, *[1] * (values.dim() - 1))
        if self.config.dirac and target.kind == "weight":
            values = self._add_identity(values, x, group)
        if target.positions is not None:
            # (n, out, in) or (n, out, in, 1, 1) -> (n, out, in, 1), or (n, out, 1, in) where channels come last
            values = values.reshape(values.shape[:3]).unsqueeze(1 + target.positions)
        if target.kind == "position":
            side, leading = position_grid(target.shape[1])
            # (n, 1, D, s, s). Without interpolation a grid above max_shape is tiled here, before it is cut.
            grid = tile(values, (*values.shape[:3], side, side))
            values = torch.stack([position_rows(one, target.shape[1], leading) for one in grid])
        return values

    def _add_identity(self, values: Tensor, x: Tensor, group: list[Target]) -> Tensor:
        """(n, out, in, kh, kw) weights of embeddings (n, hid) -> the same with the decoded identity part."""
        out, in_, kh, kw = values.shape[1:]
        identity: Tensor = self.dirac(x, out, in_, [t.repeats for t in group], grouped=group[0].grouped)
        return values + F.pad(identity[..., None, None], ((kw // 2), (kw - 1 - kw // 2), (kh // 2), (kh - 1 - kh // 2)))

    def _decode_vectors(self, x: Tensor, group: list[Target]) -> Tensor:
        """(n, hid) -> (n, size): row 0 of the 1-D decoder is a scale, row 1 a shift."""
        kind = group[0].kind
        values: Tensor = self.decoder_1d(x).unflatten(1, (2, -1))[:, 0 if kind == "scale" else 1]  # (n, channels)
        if kind == "class_shift":
            values = self.bias_class(values)  # (n, num_classes)
        longest = max(math.prod(t.tiled) for t in group)
        values = values[:, :longest]
        if not self.config.weight_norm:
            return values
        if kind == "scale":
            return 2 * torch.sigmoid(0.5 * values)
        return torch.tanh(0.2 * values)


def _buckets(sizes: Sequence[int]) -> list[list[int]]:
    """Graphs to pad together: none has less than three quarters of the nodes of its bucket's largest."""
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    buckets: list[list[int]] = []
    for i in order:
        if buckets and sizes[i] >= 0.75 * sizes[buckets[-1][0]]:
            buckets[-1].append(i)
        else:
            buckets.append([i])
    return buckets
