"""Gated graph network: every node hears its predecessors, then its successors (GHN-1, GHN-2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from onnx_ghn.ghn.levels import Sweep
from onnx_ghn.ghn.mlp import MLP
from onnx_ghn.ghn.threads import one_thread

__all__ = ["GatedGNN"]


class _TraverseContext(FunctionCtx):
    """What the forward pass of `_Traverse` leaves for the backward pass."""

    sweep: Sweep[Tensor]
    saved_tensors: tuple[Tensor, ...]


class _Traverse(torch.autograd.Function):
    """One sweep over the levels of a batch, with its gradient.

    A level costs a dozen small operations each way. Autograd would record each of them, and its cost is
    per operation; here the loop backward keeps only what is sequential, and the weights' gradients come
    from one product over all nodes at the end.

    C features, K messages a node, R = P * B rows in level-major order (see `Sweep`), U the hidden units of
    all K message networks together, V = K * C.
    """

    @staticmethod
    def forward(
        ctx: _TraverseContext | None,  # None where there is no backward pass
        x: Tensor,  # (R, C)
        sweep: Sweep[Tensor],
        w1: Tensor,  # (U, C)
        b1: Tensor,
        w2: Tensor,  # (V, U), block-diagonal
        b2: Tensor,
        w_in: Tensor,  # (3C, C) of the GRU, gates in the order reset, update, new
        w_hid: Tensor,
        b_in: Tensor,  # (3C,)
        b_hid: Tensor,
    ) -> Tensor:
        """(R, C) node states -> (R, C) after the sweep."""
        n_graphs, n_rows, c = sweep.n_graphs, x.shape[0], x.shape[1]
        k = w2.shape[0] // c
        hid = torch.addmm(b_hid, x, w_hid.t())  # (R, 3C): the part of the gates that no message changes
        gates = hid + b_in
        gates[:, 2 * c :] = b_in[2 * c :]
        new_hid = hid[:, 2 * c :].contiguous()  # (R, C)
        states, hidden = torch.empty_like(x), x.new_empty(n_rows, w1.shape[0])
        spoken, heard = x.new_empty(n_rows, k * c), torch.zeros_like(x)
        # Messages by graph, for the batched product; for one graph the same memory as `spoken`.
        single = n_graphs == 1
        by_graph = spoken.view(1, -1, c) if single else x.new_empty(n_graphs, sweep.n_slots * k, c)
        w1_t, w2_t, w_in_t = w1.t(), w2.t(), w_in.t()
        sizes = [(level.stop - level.start) * n_graphs for level in sweep.levels]
        # Views of every level at once: a slice a level would cost more than the arithmetic.
        squashed, (reset, update, new) = gates[:, : 2 * c], gates.chunk(3, 1)
        rows = (x, gates, squashed, reset, update, new, new_hid, states, hidden, spoken, heard)
        parts = zip(sweep.levels, *(t.split_with_sizes(sizes) for t in rows), strict=True)
        for level, x_l, gates_l, squashed_l, reset_l, update_l, new_l, new_hid_l, states_l, *rest in parts:
            hidden_l, spoken_l, heard_l = rest
            if level.weights is not None:
                said = by_graph[:, level.first * k : level.start * k]  # (B, K * heard slots, C)
                if single:
                    torch.mm(level.weights[0], said[0], out=heard_l)
                else:
                    torch.bmm(level.weights, said, out=heard_l.view(n_graphs, -1, c))
                gates_l.addmm_(heard_l, w_in_t)
            squashed_l.sigmoid_()
            new_l.addcmul_(reset_l, new_hid_l).tanh_()
            torch.lerp(new_l, x_l, update_l, out=states_l)  # (1 - z) n + z h
            torch.addmm(b1, states_l, w1_t, out=hidden_l).relu_()
            torch.addmm(b2, hidden_l, w2_t, out=spoken_l).relu_()
            if not single:
                by_graph[:, level.start * k : level.stop * k] = spoken_l.view(n_graphs, -1, c)
        if ctx is not None:
            ctx.sweep = sweep
            ctx.save_for_backward(x, gates, new_hid, states, hidden, spoken, heard, w1, w2, w_in, w_hid)
        return states

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: _TraverseContext, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(R, C) gradient of the states -> gradients of forward's arguments."""
        x, gates, new_hid, states, hidden, spoken, heard, w1, w2, w_in, w_hid = ctx.saved_tensors
        sweep = ctx.sweep
        n_graphs, c = sweep.n_graphs, x.shape[1]
        k = w2.shape[0] // c
        d_gates, d_hidden, d_spoken, d_x = (torch.empty_like(t) for t in (gates, hidden, spoken, x))
        grad = grad.contiguous()
        d_by_graph = x.new_zeros(n_graphs, sweep.n_slots * k, c)
        sizes = [(level.stop - level.start) * n_graphs for level in sweep.levels]
        rows = (x, gates, new_hid, hidden, spoken, grad, d_gates, d_hidden, d_spoken, d_x)
        split = [t.split_with_sizes(sizes) for t in rows]
        with one_thread(x.device):
            for level, *parts in reversed(list(zip(sweep.levels, *split, strict=True))):
                x_l, gates_l, new_hid_l, hidden_l, spoken_l, grad_l, *gradients = parts
                d_gates_l, d_hidden_l, d_spoken_l, d_x_l = gradients
                d_said = d_by_graph[:, level.start * k : level.stop * k].reshape(-1, k * c)
                torch.mul(d_said, spoken_l > 0, out=d_spoken_l)
                torch.mm(d_spoken_l, w2, out=d_hidden_l).mul_(hidden_l > 0)
                d_state = torch.addmm(grad_l, d_hidden_l, w1)
                reset, update, new = gates_l.chunk(3, 1)
                d_reset, d_update, d_new = d_gates_l.chunk(3, 1)
                torch.mul(d_state, update, out=d_x_l)
                d_new.copy_(d_state).mul_(1 - update).mul_(1 - new * new)
                d_update.copy_(d_state).mul_(x_l - new).mul_(update * (1 - update))
                d_reset.copy_(d_new).mul_(new_hid_l).mul_(reset * (1 - reset))
                if level.weights is not None:
                    d_heard = (d_gates_l @ w_in).view(n_graphs, -1, c)
                    d_said = d_by_graph[:, level.first * k : level.start * k]
                    d_said.baddbmm_(level.weights.transpose(1, 2), d_heard)
        d_hid = d_gates.clone()  # (R, 3C): the reset gate scales what the hidden state adds to `new`
        d_hid[:, 2 * c :] *= gates[:, :c]
        d_x.addmm_(d_hid, w_hid)
        return (
            d_x,
            None,
            d_hidden.t() @ states,
            d_hidden.sum(0),
            d_spoken.t() @ hidden,
            d_spoken.sum(0),
            d_gates.t() @ heard,
            d_hid.t() @ x,
            d_gates.sum(0),
            d_hid.sum(0),
        )


class GatedGNN(nn.Module):
    """Message passing of GHN-1 (Zhang et al. 2019, eq. 3) and GHN-2 (Knyazev et al. 2021, eq. 4).

    A node adds up mlp(h) of its 1-hop neighbours and, with virtual edges, mlp_ve(h) / distance of all
    that lie within the cutoff (1-hop neighbours again among them), and a GRU cell updates its state. A node
    that hears nothing is updated with a message of 0. First along the edges, then against them, each once.

    Args:
        hid: C, features of a node.
        ve: whether there are virtual edges.
    """

    def __init__(self, hid: int, ve: bool) -> None:
        super().__init__()
        self.mlp = MLP(hid, (hid // 2 if ve else hid, hid))
        if ve:
            self.mlp_ve = MLP(hid, (hid // 2, hid))
        self.ve = ve
        self.gru = nn.GRUCell(hid, hid)

    def forward(self, x: Tensor, sweeps: tuple[Sweep[Tensor], Sweep[Tensor]]) -> Tensor:
        """Update the states of a batch of graphs.

        Args:
            x: (N, C) states of all nodes.
            sweeps: forward and backward traversal.

        Returns:
            (N, C).
        """
        networks = [self.mlp, self.mlp_ve] if self.ve else [self.mlp]
        first, second = [net.linear(0) for net in networks], [net.linear(1) for net in networks]
        weights = (
            torch.cat([layer.weight for layer in first]),
            torch.cat([layer.bias for layer in first]),
            torch.block_diag(*[layer.weight for layer in second]),  # type: ignore[no-untyped-call]
            torch.cat([layer.bias for layer in second]),
            self.gru.weight_ih,
            self.gru.weight_hh,
            self.gru.bias_ih,
            self.gru.bias_hh,
        )
        with one_thread(x.device):
            for sweep in sweeps:
                padded = x.new_zeros(sweep.n_graphs * sweep.n_slots, x.shape[1]).index_copy(0, sweep.rows, x)
                if torch.is_grad_enabled():
                    padded = _Traverse.apply(padded, sweep, *weights)
                else:
                    padded = _Traverse.forward(None, padded, sweep, *weights)
                x = padded[sweep.rows]
        return x
