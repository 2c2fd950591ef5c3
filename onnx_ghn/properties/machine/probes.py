"""Random networks whose operators are measured: parts of image, token and sound networks, and rare operators."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from onnx_ghn.properties.machine.probe import ProbeBuilder
from onnx_ghn.properties.machine.probe_images import image_network, sound_network
from onnx_ghn.properties.machine.probe_operators import operator_network
from onnx_ghn.properties.machine.probe_tokens import token_network

__all__ = ["Probe", "memory_probe", "probe"]

_KINDS: dict[str, tuple[Callable[[ProbeBuilder, float], None], float]] = {
    "image": (image_network, 0.5),
    "tokens": (token_network, 0.22),
    "sound": (sound_network, 0.14),
    "operators": (operator_network, 0.14),
}
_MOST_MACS, _LEAST_MACS = 2e9, 1e7


@dataclasses.dataclass(frozen=True)
class Probe:
    """A network to measure."""

    number: int
    kind: str
    model: bytes
    feed: dict[str, npt.NDArray[np.float32]]


def probe(number: int) -> Probe:
    """The network of a number: the same one always. Any run of numbers has all kinds in their shares."""
    rng = random.Random(f"onnx-ghn probe {number}")
    kind = _kind_of(number)
    builder = ProbeBuilder(rng)
    most = _LEAST_MACS * (_MOST_MACS / _LEAST_MACS) ** rng.random()
    _KINDS[kind][0](builder, most)
    return Probe(number, kind, builder.model(), builder.feed())


def memory_probe(number: int) -> Probe:
    """A network with its weights in the file, of 0.3 to 100 million: the larger the number, the larger."""
    rng = random.Random(f"onnx-ghn memory probe {number}")
    kind = "image" if number % 2 else "tokens"
    while True:
        builder = ProbeBuilder(rng, stores_all=True)
        _KINDS[kind][0](builder, 3e8)
        if 2 ** (number % 6) * 0.5e6 < builder.n_weights < 2 ** (number % 6) * 1.6e6:
            return Probe(number, kind, builder.model(), builder.feed())


def _kind_of(number: int) -> str:
    """Kinds in turn, by the golden ratio, so that a calibration that is cut short has seen all of them."""
    place, total = (number * 0.6180339887498949) % 1.0, 0.0
    for kind, (_, share) in _KINDS.items():
        total += share
        if place < total:
            return kind
    return next(reversed(_KINDS))
