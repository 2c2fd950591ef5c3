"""A machine's calibration: what operators and sessions cost on it, and how well that predicts runs."""

from __future__ import annotations

import dataclasses

from onnx_ghn.json_types import Json
from onnx_ghn.properties.machine.costs import Costs
from onnx_ghn.properties.machine.identity import Identity
from onnx_ghn.properties.machine.memory import MemoryCosts

__all__ = ["FIGURES", "Calibration"]

#: Fields of a calibration that JSON holds as they are.
FIGURES = ("n_probes", "n_operators", "seconds", "measured", "low", "high", "mape")


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """What was measured on a machine.

    Attributes:
        identity: of which machine, provider and number of threads.
        costs: of operators.
        memory: of sessions; None where a provider's memory is not that of the process.
        n_probes, n_operators: that were measured.
        seconds: that it took.
        measured: date.
        low, high: what measured runs are over predicted ones: nine of ten probes that were left out lie between.
        mape: mean absolute error of such probes, over what was measured.
    """

    identity: Identity
    costs: Costs
    memory: MemoryCosts | None
    n_probes: int
    n_operators: int
    seconds: float
    measured: str
    low: float
    high: float
    mape: float

    def to_dict(self) -> Json:
        """What it is of, and how well it predicts; for JSON."""
        return {
            **self.identity.to_dict(),
            "label": self.identity.label,
            **{name: getattr(self, name) for name in FIGURES},
            "n_kinds": len(self.costs.kinds),
            "memory": self.memory is not None,
        }
