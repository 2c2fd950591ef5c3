"""Which networks of a ranking are surely too slow, so that measuring them would be a waste of time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = ["Foresight", "calibrated_low_ms"]

_LEAST_KNOWN = 5  # networks behind the factor from predicted to measured latencies
_HOPELESS = 2.0  # times the limit: latencies above, foreseen by that factor, are not measured


def calibrated_low_ms(provider: str, threads: int) -> Callable[[str], float] | None:
    """How to foresee the least latency of a file on this machine, in milliseconds; None without a calibration.

    The lower end of the 90 % interval of `onnx_ghn.properties.predict_on_machine`.

    Args:
        provider: onnxruntime's name of it.
    """
    from onnx_ghn.properties import calibrated_threads, predict_on_machine

    if threads not in calibrated_threads(provider):
        return None

    def low_ms(path: str) -> float:
        low = predict_on_machine(path, batch=1, threads=threads, provider=provider).latency.low
        assert low is not None  # a calibration has intervals
        return low

    return low_ms


class Foresight:
    """Tells which networks are too slow before they are measured.

    By what this machine's calibration foresees, where there is one: those whose whole interval lies above the limit.
    Else by the predicted latencies of other machines: those that even the smallest factor from predicted to measured
    latencies puts far above it.

    Args:
        limit_ms: above which a network is too slow.
        predicted_ms: by index; of another machine.
        low_ms: the least latency of an index on this machine, where that is known.
    """

    def __init__(
        self, limit_ms: float, predicted_ms: Mapping[int, float], low_ms: Callable[[int], float] | None
    ) -> None:
        self._limit_ms, self._predicted_ms, self._low_ms = limit_ms, predicted_ms, low_ms
        self._factors: list[float] = []  # of measured over predicted latencies

    def is_too_slow(self, index: int) -> bool:
        """Whether a network is not worth being measured as long as there are others."""
        if self._low_ms is not None:
            return self._low_ms(index) > self._limit_ms
        least = min(self._factors) if len(self._factors) >= _LEAST_KNOWN else 0.0
        return self._predicted_ms.get(index, 0.0) * least > _HOPELESS * self._limit_ms

    def learn(self, index: int, measured_ms: float) -> None:
        """Take note of a latency that was measured."""
        if self._predicted_ms.get(index):
            self._factors.append(measured_ms / self._predicted_ms[index])
