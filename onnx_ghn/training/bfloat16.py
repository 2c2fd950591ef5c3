"""Whether bfloat16 is worth computing in: a processor without instructions for it emulates them."""

from __future__ import annotations

import functools
import logging
import time

import torch

__all__ = ["slowdown", "warn_where_slower"]

logger = logging.getLogger(__name__)

_SIDE = 128
_TRIALS = 5
_WORTH_TELLING = 4.0  # emulated it is a hundred times slower and more; small products by instructions differ by less


def slowdown(device: torch.device) -> float:
    """How many times as long a product of two 128 × 128 matrices takes in bfloat16 as in float32, by the best of five.

    One thread computes them: several would wait for each other wherever other work keeps a core busy.

    Args:
        device: only a CPU is measured; others count as 1.
    """
    if device.type != "cpu":
        return 1.0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _seconds(torch.bfloat16) / _seconds(torch.float32)
    finally:
        torch.set_num_threads(threads)


@functools.cache
def warn_where_slower(device: torch.device) -> None:
    """Warn where `amp` makes a run slower instead of faster, once in a process.

    Args:
        device: that the run computes on.
    """
    times = slowdown(device)
    if times >= _WORTH_TELLING:
        logger.warning(
            "this processor has no instructions for bfloat16: a product of matrices takes %.0f times as long as in "
            "float32; the run is faster without amp",
            times,
        )


def _seconds(dtype: torch.dtype) -> float:
    matrix = torch.ones(_SIDE, _SIDE, dtype=dtype)
    product = matrix @ matrix  # what the first one sets up is not counted
    best = float("inf")
    for _ in range(_TRIALS):
        began = time.thread_time()
        torch.mm(matrix, matrix, out=product)
        best = min(best, time.thread_time() - began)
    return best
