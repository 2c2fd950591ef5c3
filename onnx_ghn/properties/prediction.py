"""Properties of any ONNX model: read -> graph -> features -> regressions."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from onnx_ghn.json_types import Json
from onnx_ghn.properties.predictor import FAR, PROPERTIES, Property, PropertyPredictor

if TYPE_CHECKING:
    import onnx

__all__ = ["PropertyReport", "PropertyValue", "predict_properties"]


@dataclasses.dataclass(frozen=True)
class PropertyValue:
    """A predicted property, and the interval that nine of ten networks like the seen ones fall into."""

    property: Property
    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class PropertyReport:
    """What is predicted of a model.

    Attributes:
        values: by property; none where `unlike` says why.
        n_params, n_macs: trainable elements, and multiply-accumulates for a batch of one.
        percentile: percent of the seen networks that lie nearer to their neighbours than this one to them.
        outside: statistics that are beyond those of all seen networks.
        unlike: why it is not of the kind that the predictor has seen, classifiers of images; "" where it may be.
        report: of the predictor.
    """

    values: tuple[PropertyValue, ...]
    n_params: int
    n_macs: int
    percentile: float
    outside: tuple[str, ...]
    report: dict[str, Any]
    unlike: str = ""

    @property
    def far(self) -> bool:
        """The model is unlike anything that the predictor has seen: what it says is a guess."""
        return self.percentile >= FAR or bool(self.outside) or bool(self.unlike)

    def to_dict(self) -> Json:
        """For JSON."""
        return {
            "properties": {
                one.property.name: {"value": one.value, "low": one.low, "high": one.high, "unit": one.property.unit}
                for one in self.values
            },
            "n_params": self.n_params,
            "n_macs": self.n_macs,
            "percentile": self.percentile,
            "outside": list(self.outside),
            "far": self.far,
            "unlike": self.unlike,
        }


def predict_properties(
    source: str | os.PathLike[str] | onnx.ModelProto,
    predictor: str | os.PathLike[str] | PropertyPredictor | None = None,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    sizes: Mapping[str, int] | None = None,
    of_any_kind: bool = False,
) -> PropertyReport:
    """Properties of a model that nobody has trained or run.

    The predictor knows classifiers of images: of a model of another kind only what can be counted is told.

    Args:
        source: a file, or a model in memory.
        predictor: a folder, or a loaded one; the bundled one unless told.
        shapes, sizes: of inputs, and of symbols of their shapes, where the model leaves them free. The batch is one.
        of_any_kind: give figures for a model of another kind, too, however little they mean.

    Raises:
        ModelReadError, GraphError: a model that cannot be read, or whose shapes are unknown.
        CheckpointError: no such predictor.
    """
    from onnx_ghn.graph.builder import graph_of
    from onnx_ghn.passes import open_model
    from onnx_ghn.prediction.features import no_image_classifier
    from onnx_ghn.properties.features import n_decoded
    from onnx_ghn.properties.macs import model_macs
    from onnx_ghn.properties.storage import load_predictor

    if not isinstance(predictor, PropertyPredictor):
        predictor = load_predictor(predictor)
    opened = open_model(source)
    graph = graph_of(opened.model, opened.stored, predictor.ghn.config.graph_rules)
    unlike = no_image_classifier(opened.model)
    n_macs = model_macs(source, shapes=shapes, sizes=sizes)
    features = predictor.features([graph], [n_macs])
    values, intervals = predictor.predict(features), predictor.intervals(features)
    found = [
        PropertyValue(known, float(values[known.name][0]), *(float(end[0]) for end in intervals[known.name]))
        for known in PROPERTIES
        if known.name in values and (of_any_kind or not unlike)
    ]
    percentile = float(predictor.percentiles(features)[0])
    outside = tuple(predictor.outside(features)[0])
    return PropertyReport(tuple(found), n_decoded(graph), n_macs, percentile, outside, dict(predictor.report), unlike)
