"""Processes that train together: each takes a share of the nets of a step, gradients are summed.

Started by torchrun, which sets RANK, WORLD_SIZE and LOCAL_RANK; alone otherwise. NCCL on GPUs; Gloo on CPU, and where
more processes than GPUs share them.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from onnx_ghn.workers import end_with

__all__ = ["Group", "join_group"]

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Group:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1

    def share(self, items: Sequence[T], costs: Sequence[float]) -> list[T]:
        """This process's part of a step's nets, of about the same cost as the others': the dearest are dealt first,
        each to the process that has least so far.
        """
        totals = [0.0] * self.size
        mine = []
        for i in sorted(range(len(items)), key=lambda i: -costs[i]):
            rank = totals.index(min(totals))
            totals[rank] += costs[i]
            if rank == self.rank:
                mine.append(items[i])
        return mine

    def reduce(self, parameters: Sequence[nn.Parameter], figures: Sequence[float]) -> list[float]:
        """Sum gradients (in place) and figures over all processes, in one message."""
        if self.size == 1:
            return list(figures)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        tail = torch.tensor(list(figures), dtype=torch.float32, device=grads[0].device)
        flat = torch.cat([*(grad.reshape(-1) for grad in grads), tail])
        dist.all_reduce(flat)
        start = 0
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = flat[start : start + grad.numel()].view_as(grad).clone()
            start += grad.numel()
        summed: Tensor = flat[start:]
        return [float(value) for value in summed]


def join_group() -> Group:
    """The group that torchrun set up, or this process alone. Chooses the GPU of this process, where there is one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Group()
    if dist.is_torchelastic_launched():
        # torchrun, killed, leaves workers that would train and write on beside the next run's.
        end_with(os.getppid())
    n_gpus = torch.cuda.device_count()
    if n_gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % n_gpus)
    dist.init_process_group(_backend(n_gpus, int(os.environ.get("LOCAL_WORLD_SIZE", size))))
    return Group(dist.get_rank(), size)


def _backend(n_gpus: int, n_processes: int) -> str:
    """Of this machine's processes. NCCL refuses two on one GPU: they pay off for small networks, whose kernels are
    shorter than Python takes to start them.
    """
    return "cpu:gloo,cuda:nccl" if n_processes <= n_gpus else "gloo"
