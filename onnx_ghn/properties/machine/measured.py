"""What was measured of a probe."""

from __future__ import annotations

import dataclasses

from onnx_ghn.json_types import Json

__all__ = ["Measured"]


@dataclasses.dataclass(frozen=True)
class Measured:
    """A probe.

    Attributes:
        number, kind: of the probe.
        run_us: of a run that is neither traced nor disturbed.
        streamed_bytes: weights that a run reads.
        nodes: kind, sizes and microseconds of each operator, in the order in which they run.
    """

    number: int
    kind: str
    run_us: float
    streamed_bytes: int
    nodes: tuple[tuple[str, tuple[float, ...], float], ...]

    def to_dict(self) -> Json:
        """For JSON."""
        return {
            **{name: getattr(self, name) for name in ("number", "kind", "run_us", "streamed_bytes")},
            "nodes": [[kind, [round(size, 3) for size in sizes], round(us, 3)] for kind, sizes, us in self.nodes],
        }

    @staticmethod
    def from_dict(told: Json) -> Measured:
        """Of what `to_dict` gave. Raises KeyError, TypeError, ValueError: it is something else."""
        nodes = tuple((str(kind), tuple(map(float, sizes)), float(us)) for kind, sizes, us in told["nodes"])
        return Measured(
            int(told["number"]), str(told["kind"]), float(told["run_us"]), int(told["streamed_bytes"]), nodes
        )
