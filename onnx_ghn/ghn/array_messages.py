"""Message passing of a GHN on arrays: what `gatedgnn` and `graphormer` do for tensors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from onnx_ghn.ghn.array_layers import Floats, Weights, gelu, layer_norm, linear, matrix, relu, sigmoid
from onnx_ghn.ghn.config import GHNConfig
from onnx_ghn.ghn.levels import Sweep, planned_sweep
from onnx_ghn.ghn.sizes import FIRST_EDGE_EMBEDDING, MAX_DEGREE, MAX_DISTANCE, MAX_INPUT_DISTANCE
from onnx_ghn.graph.model import ComputationGraph

__all__ = ["attended", "gated"]

_SCORES = 1 << 20  # numbers of the attention that are in memory at once


def gated(weights: Weights, config: GHNConfig, x: Floats, graph: ComputationGraph) -> Floats:
    """(N, C) -> (N, C): forward along the edges, then backward, as `GatedGNN` does it."""
    networks = ["gnn.mlp", "gnn.mlp_ve"] if config.ve else ["gnn.mlp"]
    first, second = ([matrix(weights, f"{net}.fc.{place}") for net in networks] for place in (0, 2))
    messages = (
        np.concatenate(first),
        np.concatenate([weights[f"{net}.fc.0.bias"] for net in networks]),
        _block_diagonal(second),
        np.concatenate([weights[f"{net}.fc.2.bias"] for net in networks]),
    )
    distances = [graph.distances(config.cutoff)]
    for backward in (False, True):
        sweep = planned_sweep([graph], distances, backward=backward, virtual=config.ve)
        padded = np.zeros((sweep.n_slots, x.shape[1]), np.float32)
        padded[sweep.rows] = x
        x = _swept(weights, padded, sweep, messages)[sweep.rows]
    return x


def _block_diagonal(blocks: list[Floats]) -> Floats:
    out = np.zeros((sum(len(block) for block in blocks), sum(block.shape[1] for block in blocks)), np.float32)
    row = column = 0
    for block in blocks:
        out[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return out


def _swept(
    weights: Weights, x: Floats, sweep: Sweep[npt.NDArray[np.float32]], messages: tuple[Floats, Floats, Floats, Floats]
) -> Floats:
    """(R, C) -> (R, C) states after one sweep of one graph; K messages a node, U hidden units of them.

    Args:
        messages: (U, C) and (U,), (K * C, U) and (K * C,).
    """
    w1, b1, w2, b2 = messages
    c, k = x.shape[1], len(w2) // x.shape[1]
    w_in, b_in = weights["gnn.gru.weight_ih"], weights["gnn.gru.bias_ih"]  # gates: reset, update, new
    hid = x @ weights["gnn.gru.weight_hh"].T + weights["gnn.gru.bias_hh"]  # (R, 3C): what no message changes
    gates = hid + b_in
    gates[:, 2 * c :] = b_in[2 * c :]
    states, spoken = np.empty_like(x), np.empty((len(x) * k, c), np.float32)
    for level in sweep.levels:
        rows = slice(level.start, level.stop)
        gates_l = gates[rows]
        if level.weights is not None:
            gates_l += level.weights[0] @ spoken[level.first * k : level.start * k] @ w_in.T
        squashed = sigmoid(gates_l[:, : 2 * c])
        reset, update = squashed[:, :c], squashed[:, c:]
        new = np.tanh(gates_l[:, 2 * c :] + reset * hid[rows, 2 * c :])
        states[rows] = new + update * (x[rows] - new)
        said = relu(relu(states[rows] @ w1.T + b1) @ w2.T + b2)
        spoken[level.start * k : level.stop * k] = said.reshape(-1, c)
    return states


def attended(weights: Weights, config: GHNConfig, x: Floats, graph: ComputationGraph) -> Floats:
    """(N, C) -> (N, C): the layers of `Graphormer`."""
    distances = np.minimum(graph.distances(config.cutoff), MAX_DISTANCE)  # (N, N)
    x = x + _structure(weights, distances)
    longest = int(distances.max(initial=0))
    bias = _bias_table(weights, longest)  # (h, 2 * longest + 1)
    for number in range(config.layers):
        layer = f"gnn.{number}"
        x = x + _attention(weights, f"{layer}.attn", layer_norm(weights, f"{layer}.ln1", x), distances, bias)
        inner = gelu(linear(weights, f"{layer}.ff.net.0", layer_norm(weights, f"{layer}.ln2", x)))
        x = x + linear(weights, f"{layer}.ff.net.3", inner)
    return x


def _structure(weights: Weights, distances: npt.NDArray[np.int32]) -> Floats:
    """(N, N) -> (N, C): in-degree, out-degree and distance from node 0, embedded."""
    one_hop = distances == 1
    into, out_of = (np.minimum(one_hop.sum(axis), MAX_DEGREE) for axis in (0, 1))
    from_input = np.minimum(distances[0], MAX_INPUT_DISTANCE)
    embedded: Floats = (
        weights["gnn.0.centrality_embed_in.weight"][into]
        + weights["gnn.0.centrality_embed_out.weight"][out_of]
        + weights["gnn.0.input_dist_embed.weight"][from_input]
    )
    return embedded


def _bias_table(weights: Weights, longest: int) -> Floats:
    """(h, M): what each of the M = 2 * longest + 1 pairs of distances adds to attention.

    A graph has no cycles, so of the two distances of a pair of nodes at least one is 0.
    """
    signed = np.arange(-longest, longest + 1)
    pairs = np.maximum(np.stack((signed, -signed), axis=1), 0) + FIRST_EDGE_EMBEDDING  # (M, 2)
    embedded = weights["gnn.0.attn.edge_embed.embed.weight"][pairs].reshape(len(pairs), -1)  # (M, 2C)
    hidden = relu(linear(weights, "gnn.0.attn.proj_e.0", embedded))
    return np.ascontiguousarray(linear(weights, "gnn.0.attn.proj_e.2", hidden).T)


def _attention(weights: Weights, name: str, x: Floats, distances: npt.NDArray[np.int32], bias: Floats) -> Floats:
    """(N, C) -> (N, C): all nodes attend to all, some rows of the scores at a time."""
    n, heads, longest = len(x), len(bias), bias.shape[1] // 2
    q, k, v = linear(weights, f"{name}.to_qkv", x).reshape(n, 3, heads, -1).transpose(1, 2, 0, 3)  # (h, N, c) each
    q = q * np.float32(q.shape[-1] ** -0.5)
    keys, values = np.ascontiguousarray(k.transpose(0, 2, 1)), np.ascontiguousarray(v)
    out = np.empty((n, heads, q.shape[-1]), np.float32)
    step = max(1, _SCORES // (n * heads))
    for start in range(0, n, step):
        rows = slice(start, start + step)
        pair = distances[rows] - distances[:, rows].T + longest  # (R, N)
        scores = q[:, rows] @ keys  # (h, R, N)
        scores += bias[:, pair]
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        weighted = scores @ values  # (h, R, c)
        weighted /= scores.sum(axis=-1, keepdims=True)
        out[rows] = weighted.transpose(1, 0, 2)
    return linear(weights, f"{name}.to_out.0", out.reshape(n, -1))
