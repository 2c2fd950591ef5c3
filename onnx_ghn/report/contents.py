"""All that the page shows, as one JSON object. It holds columns rather than records, so that 5,000 nodes stay small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from onnx_ghn._version import __version__
from onnx_ghn.drawing.palette import LOOKS, Look, look_of, outline
from onnx_ghn.drawing.scene import compose, label_of
from onnx_ghn.errors import printable
from onnx_ghn.graph import ComputationGraph, Parameter, Role
from onnx_ghn.json_types import Json, JsonView
from onnx_ghn.prediction.coverage import CoverageReport
from onnx_ghn.prediction.fallback import Distribution, standard_distribution
from onnx_ghn.prediction.plan import OUTCOMES
from onnx_ghn.report.distributions import spread_of
from onnx_ghn.report.measured import profile_data
from onnx_ghn.report.theme import DARK

if TYPE_CHECKING:
    from onnx_ghn.compatibility.checking import Finding
    from onnx_ghn.prediction.result import Prediction

__all__ = ["page_data"]

_EXAMPLES = 5  # parameters that are named for each reason
#: The columns of `parameters`. Texts are given by their numbers in `strings`.
_KEYS = ["node", "name", "shape", "size", "role", "outcome", "dtype", "reason", "reference"]
_KEYS += ["reference_mean", "reference_std", "mean", "std", "minimum", "maximum", "levels", "low", "high", "peak"]
_KEYS += ["n_odd"]
_SHAPES = ("square", "triangle", "diamond", "hexagon", "star", "house")


def page_data(
    graph: ComputationGraph,
    coverage: CoverageReport,
    prediction: Prediction | None = None,
    *,
    name: str = "",
    profile: JsonView | None = None,
    properties: Mapping[str, object] | None = None,
    findings: Sequence[Finding] | None = None,
    inherited: JsonView | None = None,
    seed: int = 0,
) -> Json:
    """Gather the contents of the page.

    Args:
        prediction: the prediction whose values are summarised; None leaves out distributions.
        name: the name of the model that people see.
        profile: `ProfileReport.to_dict()`.
        properties: rows and notes, as `predicted.properties_data` returns them.
        findings: what other tools are known to do to the model; None leaves the section empty.
        inherited: what comes from donors, as `inherited.inherited_data` returns it.
        seed: chooses the elements that histograms count.

    Returns:
        a JSON object with name, ghn, nodes and parameters as columns, edges as curves, coverage, profile and
        properties, inherited, tools. Names come from the file: they are printable, but may hold any characters.
    """
    strings = _Strings()
    return {
        "made_by": f"onnx-ghn {__version__}",
        "name": printable(name or graph.name),
        "ghn": None if prediction is None else printable(prediction.ghn_name),
        "graph": _graph(graph, strings),
        "parameters": _parameters(graph, coverage, prediction, strings, seed),
        "coverage": _coverage(coverage),
        "profile": None if profile is None else profile_data(profile),
        "properties": properties,
        "inherited": inherited,
        "tools": None if findings is None else [_finding(entry) for entry in findings],
        "strings": strings.texts,
    }


class _Strings:
    """Numbers texts, since most occur more than once."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        clean = printable(text)
        if clean not in self._numbers:
            self._numbers[clean] = len(self.texts)
            self.texts.append(clean)
        return self._numbers[clean]


def _graph(graph: ComputationGraph, strings: _Strings) -> dict[str, object]:
    scene = compose(graph, "", header=False)
    looks: dict[Look, int] = {}
    primitives = {}
    for node in graph.nodes:
        look = look_of(node)
        looks.setdefault(look, len(looks))
        primitives[look] = node.primitive
    families = list(LOOKS)
    curves = [
        [*curve.edge, -1 if curve.arrow is not None else looks[look_of(graph.nodes[curve.edge[0]])]]
        + [_tenth(value) for point in curve.points for value in point]
        for curve in scene.curves
    ]
    return {
        "width": _tenth(scene.width),
        "height": _tenth(scene.height),
        "n_edges": len(graph.edges),
        "outlines": {shape: [[round(x, 3), round(y, 3)] for x, y in outline(shape, 0, 0, 1)] for shape in _SHAPES},
        "looks": [
            {
                "label": look.label,
                "primitive": primitives[look].name,
                "shape": look.shape,
                "light": look.colour,
                "dark": DARK[primitives[look]],
                "order": families.index(primitives[look]),
            }
            for look in looks
        ],
        "nodes": {
            "x": [_tenth(mark.x) for mark in scene.marks],
            "y": [_tenth(mark.y) for mark in scene.marks],
            "r": [_tenth(mark.r) for mark in scene.marks],
            "look": [looks[look_of(node)] for node in graph.nodes],
            "name": [strings.number(node.name or node.primitive.name) for node in graph.nodes],
            "label": [strings.number(label_of(node)) for node in graph.nodes],
            "shape": [strings.number(_times(node.shape)) for node in graph.nodes],
        },
        "curves": curves,
        "faint": _tenth(min((curve.alpha for curve in scene.curves), default=1.0)),
    }


def _parameters(
    graph: ComputationGraph,
    coverage: CoverageReport,
    prediction: Prediction | None,
    strings: _Strings,
    seed: int,
) -> dict[str, list[object]]:
    """Columns of the tensors that a node decodes, and of those that no GHN predicts, without running statistics."""
    node_of = {index: number for number, node in enumerate(graph.nodes) for index in node.parameters}
    index_of = {parameter.name: index for index, parameter in enumerate(graph.parameters)}
    columns: dict[str, list[object]] = {key: [] for key in _KEYS}
    for entry in coverage.entries:
        parameter = entry.parameter
        node = node_of.get(index_of.get(parameter.name, -1), -1)
        if (
            parameter.role is Role.statistic
            or parameter.uncertain
            or (node < 0 and entry.outcome in ("predicted", "frozen"))
        ):
            continue
        reference = standard_distribution(parameter)
        texts = {
            "name": parameter.name,
            "shape": _times(parameter.shape),
            "role": parameter.role.value,
            "outcome": entry.outcome,
            "dtype": parameter.dtype,
            "reason": entry.reason,
            "reference": "" if reference is None else reference.name,
        }
        row: dict[str, object] = dict.fromkeys(_KEYS)
        row |= {"node": node, "size": parameter.size}
        row |= {key: strings.number(text) for key, text in texts.items()}
        row |= _spread(parameter, reference, prediction, seed)
        for key in _KEYS:
            columns[key].append(row[key])
    return columns


def _spread(
    parameter: Parameter, reference: Distribution | None, prediction: Prediction | None, seed: int
) -> dict[str, object]:
    """The columns that say how a parameter's reference and predicted values are spread."""
    row: dict[str, object] = {"levels": "", "n_odd": 0}
    if reference is not None:
        row |= {"reference_mean": _digits(reference.mean), "reference_std": _digits(reference.std)}
    if prediction is None or parameter.name not in prediction:
        return row
    spread = spread_of(prediction[parameter.name], parameter.name, reference, seed)
    if spread is None:
        return row | {"n_odd": parameter.size}
    numbers = ("mean", "std", "minimum", "maximum", "low", "high", "peak")
    row |= {key: _digits(getattr(spread, key)) for key in numbers}
    return row | {"levels": spread.levels, "n_odd": spread.n_odd}


def _coverage(coverage: CoverageReport) -> dict[str, object]:
    reasons = [
        {
            "reason": printable(reason),
            "outcome": entries[0].outcome,
            "tensors": len(entries),
            "elements": sum(entry.parameter.size for entry in entries),
            "examples": [printable(entry.parameter.name) for entry in entries[:_EXAMPLES]],
        }
        for reason, entries in coverage.reasons().items()
    ]
    return {
        "n_trainable": coverage.n_trainable,
        "outcomes": [
            {"outcome": outcome, "tensors": coverage.count(outcome), "elements": coverage.n_elements(outcome)}
            for outcome in OUTCOMES
        ],
        "reasons": reasons,
        "notes": [printable(note) for note in (coverage.sentence, *coverage.notes)],
    }


def _finding(finding: Finding) -> dict[str, object]:
    tool = finding.behaviour.tool
    return {
        "tool": tool.name,
        "version": tool.version,
        "effect": finding.behaviour.effect,
        "what": finding.behaviour.what,
        "nodes": len(finding.nodes),
        "first": printable(finding.nodes[0]),
    }


def _times(shape: tuple[int, ...] | None) -> str:
    return "" if shape is None else " × ".join(map(str, shape))


def _tenth(value: float) -> float:
    rounded = round(value, 1)
    return int(rounded) if rounded == int(rounded) else rounded


def _digits(value: float) -> float:
    """Round to four significant digits, which are more than anybody sees."""
    return float(f"{value:.4g}")
