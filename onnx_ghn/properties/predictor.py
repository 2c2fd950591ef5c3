"""A fitted predictor: one regression a property, the GHN that embeds graphs, and what it has been fitted on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_ghn.errors import CheckpointError
from onnx_ghn.graph.model import ComputationGraph
from onnx_ghn.properties.features import STATISTICS, Floats, graph_embeddings, graph_statistics
from onnx_ghn.properties.regression import Regression

if TYPE_CHECKING:
    from onnx_ghn.ghn import ArrayGHN

__all__ = ["FAR", "PROPERTIES", "Property", "PropertyPredictor"]

_NEIGHBOURS = 5
_PLAIN = {"log_params": "parameters", "log_macs": "multiply-accumulates", "log_depth": "depth", "log_nodes": "nodes"}
FAR = 95.0  # percent of what the predictor was fitted on that lies nearer to its neighbours


@dataclasses.dataclass(frozen=True)
class Property:
    """What is predicted."""

    name: str
    unit: str
    larger_is_better: bool
    log: bool  # networks differ by factors in it
    meaning: str


PROPERTIES = (
    Property("accuracy", "%", True, False, "top-1 on validation images after a brief training"),
    Property("noisy_accuracy", "%", True, False, "the same with Gaussian noise on the images"),
    Property("latency_ms", "ms", False, True, "of one image on one thread of a CPU"),
    Property(
        "convergence_steps", "steps", False, True, "of training until {threshold:g} % of a batch are answered right"
    ),
)


@dataclasses.dataclass(frozen=True, eq=False)
class PropertyPredictor:
    """Properties from features.

    Attributes:
        ghn: whose embeddings are features; only what embeds of it is stored, so that it cannot decode.
        regressions: by name of the property.
        seen: (n, d) features of the networks that it was fitted on, for `distances`.
        report: how the ground truth was measured and how well the predictor does; JSON.
    """

    ghn: ArrayGHN
    regressions: Mapping[str, Regression]
    seen: Floats
    report: Mapping[str, Any]

    def __post_init__(self) -> None:
        names = {known.name for known in PROPERTIES}
        unknown = sorted(set(self.regressions) - names)
        if unknown or not self.regressions:
            raise CheckpointError(
                f"a predictor of {', '.join(unknown) or 'nothing'}; known are {', '.join(sorted(names))}"
            )
        if self.seen.ndim != 2 or self.seen.shape[1] != self.n_features or len(self.seen) <= _NEIGHBOURS:
            raise CheckpointError(
                f"features of seen networks are {self.seen.shape}, must be more than {_NEIGHBOURS} × {self.n_features}"
            )
        for name, regression in self.regressions.items():
            if max(regression.columns, default=0) >= self.n_features:
                raise CheckpointError(
                    f"the regression of {name} takes feature {max(regression.columns)} of {self.n_features}"
                )

    @property
    def n_features(self) -> int:
        """Embedding, then statistics."""
        return self.ghn.config.hid + len(STATISTICS)

    def features(self, graphs: Sequence[ComputationGraph], n_macs: Sequence[int]) -> Floats:
        """(n, features) of graphs. Raises GraphError: a graph without nodes."""
        statistics = [graph_statistics(graph, count) for graph, count in zip(graphs, n_macs, strict=True)]
        return np.hstack([graph_embeddings(self.ghn, graphs), np.array(statistics)])

    def predict(self, features: Floats) -> dict[str, Floats]:
        """(n, features) -> (n,) values by property."""
        return {name: self._bounded(name, one.predict(features)) for name, one in self.regressions.items()}

    def intervals(self, features: Floats) -> dict[str, tuple[Floats, Floats]]:
        """(n, features) -> lower and upper ends by property, which hold nine of ten networks like the seen ones."""
        found = {}
        for name, one in self.regressions.items():
            low, high = one.interval(features)
            found[name] = self._bounded(name, low), self._bounded(name, high)
        return found

    def percentiles(self, features: Floats) -> Floats:
        """(n, features) -> (n,) percent of the seen networks that lie nearer to their neighbours than these to theirs.

        Distance: the mean to the five nearest seen networks, features scaled by their spread among these.
        """
        spread = self.seen.std(axis=0)
        # What never varied tells most when it does: one unit of it counts as one.
        scale = np.where(spread > 1e-9, spread, 1.0)
        seen = self.seen / scale
        own = np.sort(_distances(seen, seen), axis=1)[:, 1 : _NEIGHBOURS + 1].mean(axis=1)  # without itself
        new = np.sort(_distances(features / scale, seen), axis=1)[:, :_NEIGHBOURS].mean(axis=1)
        nearer: Floats = (own[None, :] < new[:, None]).mean(axis=1)
        return 100 * nearer

    def outside(self, features: Floats) -> list[list[str]]:
        """(n, features) -> for each, which of its statistics lie outside the range of the seen networks."""
        first = self.ghn.config.hid
        low, high = (self.seen[:, first:].min(axis=0), self.seen[:, first:].max(axis=0))
        beyond = (features[:, first:] < low - 1e-9) | (features[:, first:] > high + 1e-9)
        names = [_PLAIN.get(name, name.removeprefix("log_") + " nodes") for name in STATISTICS]
        return [[name for name, far in zip(names, row, strict=True) if far] for row in beyond.tolist()]

    @staticmethod
    def _bounded(name: str, values: Floats) -> Floats:
        return values.clip(0, 100) if name.endswith("accuracy") else values


def _distances(a: Floats, b: Floats) -> Floats:
    """(n, d), (m, d) -> (n, m) Euclidean distances."""
    # Row by row: all differences at once would be n × m × d numbers.
    return np.stack([np.linalg.norm(b - row, axis=1) for row in a]) if len(a) else np.empty((0, len(b)))
