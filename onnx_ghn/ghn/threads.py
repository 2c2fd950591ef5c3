"""One thread for work too small to share."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

__all__ = ["one_thread"]

# Some 20 ms on one core; less is not worth the risk of waiting for a core that is busy with something else.
_WORTH_SHARING_FLOP = 5e8

_lock = threading.Lock()
_inside = 0  # how many calls are inside; the first lowers the number of threads, the last restores it
_before = 1


@contextlib.contextmanager
def one_thread(device: torch.device, work_flop: float = 0) -> Iterator[None]:
    """Run torch's CPU operations on one thread inside, and on as many as before afterwards.

    Handing a microsecond of work to a second thread costs more than the work, and on a busy machine the
    wait for that thread costs most (DenseNet-121's message passing on two cores, one of them busy: 60 ms on
    two threads, 19 ms on one; decoding its weights 300 ms and 15 ms).

    Args:
        device: where the operations run; on a GPU nothing changes.
        work_flop: estimate of the work inside; above half a gigaflop the number of threads stays.
    """
    global _inside, _before
    if device.type != "cpu" or work_flop > _WORTH_SHARING_FLOP:
        yield
        return
    with _lock:
        if not _inside:
            _before = torch.get_num_threads()
            if _before > 1:
                torch.set_num_threads(1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside and _before > 1:
                torch.set_num_threads(_before)
