"""A report as JUnit XML, which services of continuous integration show: one test case a point."""

from __future__ import annotations

import os
from xml.etree import ElementTree

from onnx_ghn.errors import printable
from onnx_ghn.profiling.report import Check, Latency, PointResult, ProfileReport, Ratio
from onnx_ghn.profiling.settings import Point

__all__ = ["junit_xml"]

_FIGURES = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "mean_ms", "std_ms", "items_per_s")
_OF_RATIOS = ("ratio", "low", "high", "model_p50_ms", "against_p50_ms", "n_pairs")


def junit_xml(report: ProfileReport) -> str:
    """The points of each model, then those at which both ran in turn, a case each.

    What could not be measured is an error, what a point was held to and did not keep to a failure; the figures, and
    what was kept to, are the output of a case.
    """
    suite = ElementTree.Element("testsuite", name="onnx-ghn profile")
    for side, (model, points) in enumerate(report.sides):
        for point in points:
            case = _case(suite, model, point.point.label, _seconds(point))
            checks = _checks(report, point.point, in_turn=False) if side == 0 else []
            figures = [] if point.latency is None else _listed(point.latency, _FIGURES)
            _content(case, point.error, checks, figures)
    for ratio in report.ratios:
        case = _case(suite, report.model, f"{ratio.point.label}, both in turn", ratio.wall_s or 0.0)
        figures = [] if ratio.error is not None else _listed(ratio, _OF_RATIOS)
        _content(case, ratio.error, _checks(report, ratio.point, in_turn=True), figures)
    if report.interrupted:
        _content(_case(suite, report.model, "the whole sweep", 0.0), "interrupted: points are missing", [], [])
    for name, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
        suite.set(name, str(len(list(suite.iter(tag)))))
    in_turn = sum(ratio.wall_s or 0.0 for ratio in report.ratios)
    suite.set("time", f"{sum(map(_seconds, (*report.points, *report.against_points)), in_turn):.3f}")
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _case(suite: ElementTree.Element, model: str, label: str, seconds: float) -> ElementTree.Element:
    name = _text(os.path.basename(model))
    return ElementTree.SubElement(suite, "testcase", classname=name, name=_text(label), time=f"{seconds:.3f}")


def _checks(report: ProfileReport, point: Point, *, in_turn: bool) -> list[Check]:
    return [check for check in report.checks if check.point == point and (check.source == "turn") == in_turn]


def _listed(found: Latency | Ratio, names: tuple[str, ...]) -> list[str]:
    values = {name: getattr(found, name) for name in names}
    return [f"{name} {value:.6g}" for name, value in values.items() if value is not None]


def _content(case: ElementTree.Element, error: str | None, checks: list[Check], figures: list[str]) -> None:
    if error is not None:
        ElementTree.SubElement(case, "error", message=_text(error))
    broken = [check.told for check in checks if not check.passed]
    if broken:  # in one, as readers of the format show one failure of a case
        ElementTree.SubElement(case, "failure", message=_text("; ".join(broken)))
    if told := figures + [_text(check.told) for check in checks if check.passed]:
        ElementTree.SubElement(case, "system-out").text = "\n".join(told)


def _seconds(point: PointResult) -> float:
    measured = point.latency.wall_s if point.latency is not None else 0.0
    return measured + (point.session_creation_ms or 0.0) / 1e3


def _text(text: str) -> str:
    """Without characters that XML has no way to write; names of files may hold them."""
    return printable(text)
