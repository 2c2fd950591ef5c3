"""What torch and numpy raise when there is no memory left, as an error of one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from onnx_ghn.errors import GraphError

__all__ = ["memory_told"]

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
