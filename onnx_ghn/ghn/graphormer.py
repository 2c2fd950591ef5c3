"""Transformer layers over graph nodes, attention biased by distances (GHN-3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onnx_ghn.ghn.lookup import LookupTable
from onnx_ghn.ghn.mlp import layer_at
from onnx_ghn.ghn.sizes import FIRST_EDGE_EMBEDDING, LARGE, MAX_DEGREE, MAX_INPUT_DISTANCE, N_EDGE_EMBEDDINGS

__all__ = ["Graphormer", "GraphormerLayer"]

_BIAS_SIZE = 1 << 23  # numbers of a large graph's attention bias that are in memory at once


class _EdgeEmbedding(nn.Module):
    """One embedding for each distance; a module of its own for the published tensor name."""

    def __init__(self, hid: int) -> None:
        super().__init__()
        self.embed = LookupTable(N_EDGE_EMBEDDINGS, hid)


class _BiasByRows:
    """The bias of attention from distances and the table that they choose from, made some rows at a time."""

    def __init__(self, distances: Tensor, table: Tensor, longest: int) -> None:
        self._distances = distances  # (B, N, N)
        self._table = table  # (M, h)
        self._longest = longest

    def rows(self, start: int, stop: int) -> Tensor:
        """(B, h, stop - start, N)."""
        there, back = self._distances[:, start:stop], self._distances[:, :, start:stop].transpose(1, 2)
        which = there - back + self._longest  # (B, R, N)
        if which.dtype == torch.int16:
            which = which.int()
        return F.embedding(which, self._table).permute(0, 3, 1, 2)  # (B, R, N, h) -> (B, h, R, N)

    def spans(self) -> list[tuple[int, int]]:
        """Rows from one to another, so many that they take some tens of megabytes."""
        n = self._distances.shape[1]
        step = max(1, _BIAS_SIZE // (n * self._table.shape[1]))
        return [(start, min(n, start + step)) for start in range(0, n, step)]


class _Attention(nn.Module):
    """Multi-head self-attention; the first layer's also turns distances into the bias that all layers add."""

    def __init__(self, hid: int, heads: int, with_edges: bool) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(hid, 3 * hid, bias=False)
        self.to_out = nn.Sequential(nn.Linear(hid, hid))
        if with_edges:
            self.edge_embed = _EdgeEmbedding(hid)
            self.proj_e = nn.Sequential(nn.Linear(2 * hid, hid), nn.ReLU(), nn.Linear(hid, heads))

    def edge_bias(self, distances: Tensor) -> Tensor:
        """(B, N, N) distances -> (B, h, N, N) bias: proj_e(embed(i to j), embed(j to i)).

        A graph has no cycles, so of the two distances of a pair at least one is 0: (m, 0) or (0, m). The
        projection therefore sees 2 * max + 1 different pairs, not N², and is gathered.
        """
        return self.edge_bias_by_rows(distances).rows(0, distances.shape[1])

    def edge_bias_by_rows(self, distances: Tensor) -> _BiasByRows:
        """What `edge_bias` gives, of which a part at a time is in memory."""
        longest = int(distances.max()) if distances.numel() else 0
        signed = torch.arange(-longest, longest + 1, device=distances.device)
        pairs = torch.stack((signed, -signed), dim=1).clamp(min=0) + FIRST_EDGE_EMBEDDING  # (M, 2)
        table = self.proj_e(self.edge_embed.embed(pairs).flatten(1))  # (M, 2C) -> (M, h)
        return _BiasByRows(distances, table, longest)

    def forward(self, x: Tensor, bias: Tensor | _BiasByRows) -> Tensor:
        """(B, N, C) and (B, h, N, N) -> (B, N, C)."""
        b, n, c = x.shape
        q, k, v = self.to_qkv(x).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        if isinstance(bias, _BiasByRows):
            parts = [
                F.scaled_dot_product_attention(q[:, :, start:stop], k, v, attn_mask=bias.rows(start, stop))
                for start, stop in bias.spans()
            ]
            out = torch.cat(parts, dim=2)  # (B, h, N, c)
        elif torch.is_grad_enabled():
            # A bias that has a gradient keeps PyTorch from its fused kernels, and what it takes then guards against
            # rows without any key, which is half of the time; here each row has at least its own node.
            out = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1) + bias).softmax(dim=-1) @ v
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)  # (B, h, N, c)
        projected: Tensor = self.to_out(out.transpose(1, 2).reshape(b, n, c))
        return projected


class _FeedForward(nn.Module):
    """Two linear layers with GELU between; the identity at 2 keeps the published tensor names."""

    def __init__(self, hid: int, inner: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(hid, inner), nn.GELU(), nn.Identity(), nn.Linear(inner, hid))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


class GraphormerLayer(nn.Module):
    """A pre-norm transformer layer; the first of a stack also embeds the graph's structure.

    Args:
        hid: C, features of a node.
        heads: attention heads.
        first: whether it is the first of the stack.
    """

    def __init__(self, hid: int, heads: int, first: bool) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(hid)
        self.attn = _Attention(hid, heads, with_edges=first)
        self.ln2 = nn.LayerNorm(hid)
        self.ff = _FeedForward(hid, 4 * hid)
        if first:
            self.centrality_embed_in = LookupTable(MAX_DEGREE + 1, hid)
            self.centrality_embed_out = LookupTable(MAX_DEGREE + 1, hid)
            self.input_dist_embed = LookupTable(MAX_INPUT_DISTANCE + 1, hid)

    def structure(self, distances: Tensor) -> Tensor:
        """(B, N, N) distances -> (B, N, C): in-degree, out-degree and distance from node 0, embedded."""
        one_hop = distances == 1
        into = one_hop.sum(1).clamp(max=MAX_DEGREE)  # (B, N)
        out_of = one_hop.sum(2).clamp(max=MAX_DEGREE)
        from_input = distances[:, 0].long().clamp(max=MAX_INPUT_DISTANCE)
        embedded: Tensor = (
            self.centrality_embed_in(into) + self.centrality_embed_out(out_of) + self.input_dist_embed(from_input)
        )
        return embedded

    def forward(self, x: Tensor, bias: Tensor | _BiasByRows) -> Tensor:
        """(B, N, C) nodes and (B, h, N, N) attention bias -> (B, N, C)."""
        x = x + self.attn(self.ln1(x), bias)
        out: Tensor = x + self.ff(self.ln2(x))
        return out


class Graphormer(nn.ModuleList):
    """The layers of GHN-3 (Knyazev et al. 2023, section 3.2; SamsungSAILMontreal/ghn3, ghn3/graphormer.py).

    Args:
        hid: C, features of a node.
        heads: attention heads; hid is a multiple of it.
        layers: at least one.
    """

    def __init__(self, hid: int, heads: int, layers: int) -> None:
        super().__init__([GraphormerLayer(hid, heads, first=i == 0) for i in range(layers)])

    def forward(self, x: Tensor, distances: Tensor, mask: Tensor | None = None) -> Tensor:
        """Update the embeddings of a padded batch.

        Args:
            x: (B, N, C) embeddings.
            distances: (B, N, N) shortest-path lengths, 0 for no edge, at most `sizes.MAX_DISTANCE`.
            mask: (B, N), True for real nodes; None where no graph is padded.

        Returns:
            (B, N, C); rows of padding mean nothing.
        """
        first = layer_at(self, 0, GraphormerLayer)
        x = x + first.structure(distances)
        if mask is None and distances.shape[1] > LARGE and not torch.is_grad_enabled():
            by_rows = first.attn.edge_bias_by_rows(distances)
            for layer in self:
                x = layer(x, by_rows)
            return x
        bias = first.attn.edge_bias(distances)
        if mask is not None:
            bias = bias.masked_fill(~mask[:, None, None, :], float("-inf"))
        bias = bias.contiguous()
        for layer in self:
            x = layer(x, bias)
        return x
