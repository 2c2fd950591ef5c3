"""A report as JUnit XML, which services of continuous integration show: one test case a point."""

from __future__ import annotations

import os
from xml.etree import ElementTree

from onnx_ghn.errors import printable
from onnx_ghn.profiling.report import Check, PointResult, ProfileReport

__all__ = ["junit_xml"]

_FIGURES = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "mean_ms", "std_ms", "items_per_s")


def junit_xml(report: ProfileReport) -> str:
    """The points of each model, then both in turn. What could not be measured is an error, what a point was held to
    and did not keep to a failure; the figures are the output of a case.
    """
    suite = ElementTree.Element("testsuite", name="onnx-ghn profile")
    for side, (model, points) in enumerate(report.sides):
        for point in points:
            case = _case(suite, model, point.point.label, _seconds(point))
            checks = [check for check in report.checks if check.point == point.point] if side == 0 else []
            _content(case, point.error, checks)
            if point.latency is not None:
                told = [f"{name} {getattr(point.latency, name):.6g}" for name in _FIGURES]
                told += [_text(check.told) for check in checks if check.passed]
                ElementTree.SubElement(case, "system-out").text = "\n".join(told)
    for ratio in report.ratios:
        _content(_case(suite, report.model, f"{ratio.point.label}, both in turn", 0.0), ratio.error, [])
    if report.interrupted:
        _content(_case(suite, report.model, "the whole sweep", 0.0), "interrupted: points are missing", [])
    for name, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
        suite.set(name, str(len(list(suite.iter(tag)))))
    suite.set("time", f"{sum(map(_seconds, (*report.points, *report.against_points))):.3f}")
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _case(suite: ElementTree.Element, model: str, label: str, seconds: float) -> ElementTree.Element:
    name = _text(os.path.basename(model))
    return ElementTree.SubElement(suite, "testcase", classname=name, name=_text(label), time=f"{seconds:.3f}")


def _content(case: ElementTree.Element, error: str | None, checks: list[Check]) -> None:
    if error is not None:
        ElementTree.SubElement(case, "error", message=_text(error))
    broken = [check.told for check in checks if not check.passed]
    if broken:  # in one, as readers of the format show one failure of a case
        ElementTree.SubElement(case, "failure", message=_text("; ".join(broken)))


def _seconds(point: PointResult) -> float:
    measured = point.latency.wall_s if point.latency is not None else 0.0
    return measured + (point.session_creation_ms or 0.0) / 1e3


def _text(text: str) -> str:
    """Without characters that XML has no way to write; names of files may hold them."""
    return printable(text)
