"""Memory that a GHN needs, and what torch and numpy raise when there is none left, as an error of one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from onnx_ghn.errors import GraphError
from onnx_ghn.graph.model import ComputationGraph
from onnx_ghn.limits import gib, memory_bytes

__all__ = ["check_attention", "memory_told"]

# torch's allocators have no class of their own for the CPU: "DefaultCPUAllocator: can't allocate memory: you tried to
# allocate …", "CUDA out of memory. …".
_SIGNS = ("can't allocate memory", "not enough memory", "out of memory")


@contextlib.contextmanager
def memory_told(n_nodes: int) -> Iterator[None]:
    """Context that works on graphs of so many nodes. Raises GraphError: the memory does not do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in _SIGNS):
            raise
        raise GraphError(
            f"a graph of {n_nodes:,} nodes needs more memory than there is: close other programs, raise the limits of "
            "this process, or take a machine with more"
        ) from error


def check_attention(graph: ComputationGraph, heads: int, *, by_rows: bool) -> None:
    """Raises GraphError: attention between all nodes of a graph exceeds this machine's memory.

    Args:
        by_rows: whether some rows of it are made at a time.
    """
    # Distances; and for each head, where it is not made by rows, the bias, the product, its softmax and copies.
    needed_bytes = len(graph) ** 2 * (12 if by_rows else 16 + 16 * heads)
    if needed_bytes > memory_bytes():
        raise GraphError(
            f"graph {graph.name!r} has {len(graph):,} nodes, whose attention needs {gib(needed_bytes)}, and "
            f"there are {gib(memory_bytes())}: take a machine with more memory, or a gated GHN"
        )
