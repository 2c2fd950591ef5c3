"""A machine whose operators cost what formulas say: what is fitted to it can be held to them."""

from __future__ import annotations

import math
import random

from onnx_ghn.properties.machine.measured import Measured
from onnx_ghn.properties.machine.memory import PARTS

RUN_US, TRACED_US = 11.0, 2.5


def cost_us(kind: str, sizes: tuple[float, ...]) -> float:
    """Microseconds of an operator."""
    if kind == "matrix by stored matrix":
        return 1.5 + 2 ** sizes[-1] / 4e4
    if kind == "Relu":
        return 0.8 + 2 ** sizes[0] / 6e3
    return 0.5


def three(m: float, n: float, k: float) -> tuple[float, ...]:
    """Sizes of a product: rows, columns, what is summed, one of a batch, not transposed, and their product."""
    return m, n, k, 0.0, 0.0, 0.0, m + n + k


def network(number: int, n_nodes: int = 25) -> Measured:
    """A network of random operators as it would be measured."""
    rng = random.Random(number)
    nodes = []
    for _ in range(n_nodes):
        kind = rng.choice(("matrix by stored matrix", "Relu", "view"))
        sizes: tuple[float, ...] = ()
        if kind == "Relu":
            sizes = (rng.uniform(4, 20),)
        elif kind != "view":
            sizes = three(*(rng.uniform(3, 9) for _ in range(3)))
        nodes.append((kind, sizes, cost_us(kind, sizes) + TRACED_US))
    run_us = RUN_US + sum(us - TRACED_US for _, _, us in nodes)
    return Measured(number, "tokens", run_us, 2**24, tuple(nodes))


def untraced_us(measured: Measured) -> float:
    """By the formulas."""
    return RUN_US + math.fsum(cost_us(kind, sizes) for kind, sizes, _ in measured.nodes)


def lines(n_probes: int = 60) -> list[dict[str, object]]:
    """What a log of the synthetic machine holds; each session takes 10 MB and three bytes for a byte that lives."""
    found: list[dict[str, object]] = [{"probe": network(i).to_dict(), "seconds": 0.5} for i in range(n_probes)]
    for number in range(8):
        parts = dict.fromkeys(PARTS, 0.0) | {"session": 2.0**20, "live": 1e6 * number**2}
        memory = {"parts": parts, "baseline_bytes": 100e6, "peak_bytes": 100e6 + 10 * 2**20 + 3 * parts["live"]}
        found.append({"memory": memory, "seconds": 0.5})
    return found
