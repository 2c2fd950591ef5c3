"""What the page holds: numbers against numpy and scipy, names that are hostile, sizes that stay small."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import scipy.stats
from colour_space import lab, luminance
from hypothesis import given, settings
from hypothesis import strategies as st
from predict_models import tiny_ghn
from report_models import HOSTILE, drawn_prediction, residual_graph

import onnx_ghn
from onnx_ghn.drawing.palette import LOOKS
from onnx_ghn.errors import ModelWriteError
from onnx_ghn.graph import Layout, Parameter, Primitive, Role
from onnx_ghn.prediction.fallback import Distribution, standard_distribution, standard_init
from onnx_ghn.report import measured, page_data, page_html, write_report
from onnx_ghn.report.distributions import N_BINS, spread_of
from onnx_ghn.report.theme import DARK, DARK_SURFACE
from onnx_ghn.report.writing import report_data

EXAMPLES = Path(__file__).parents[2] / "data/examples"
LEVELS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"


class Page(HTMLParser):
    """Elements of a page and the text of its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        self._inside = tag + (str(found.get("id", "")) and f"#{found.get('id')}" if found.get("id") else "")

    def handle_data(self, data: str) -> None:
        self.texts[self._inside] = self.texts.get(self._inside, "") + data

    @property
    def data(self) -> Any:
        return json.loads(self.texts["script#data"])


@pytest.mark.parametrize(
    ("role", "layout"),
    [
        (Role.weight, Layout((64, 32, 3, 3))),
        (Role.weight, Layout((3, 3, 32, 64)).transpose((3, 2, 0, 1))),
        (Role.weight, Layout((400, 300)).transpose((1, 0))),
        (Role.weight, Layout((5, 40, 30, 3, 3)).inflate()),
        (Role.embedding, Layout((500, 64))),
        (Role.position, Layout((1, 200, 64))),
        (Role.norm_scale, Layout((64,))),
        (Role.bias, Layout((64,))),
        (Role.norm_bias, Layout((64,))),
    ],
)
def test_the_reference_is_what_the_standard_initialisation_draws(role: Role, layout: Layout) -> None:
    parameter = Parameter("w", role, layout)
    drawn = standard_init(parameter, seed=0)
    reference = standard_distribution(parameter)
    assert drawn is not None
    assert reference is not None
    # Four standard errors of the mean and of the deviation of a normal sample.
    error = 4 * reference.std / np.sqrt(drawn.size)
    assert drawn.mean() == pytest.approx(reference.mean, abs=error + 1e-12)
    assert drawn.std() == pytest.approx(reference.std, abs=error / np.sqrt(2) + 1e-12)


def test_what_has_no_standard_has_no_reference() -> None:
    assert standard_distribution(Parameter("w", Role.other, Layout((4,)))) is None
    assert standard_distribution(Parameter("w", Role.statistic, Layout((4,)))) is None


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=200),
    std=st.floats(0.001, 100),
)
def test_a_spread_is_numpys(values: list[float], std: float) -> None:
    array = np.array(values, np.float32)
    found = spread_of(array, "w", Distribution("Kaiming", 0.0, std))
    assert found is not None
    wide = array.astype(np.float64)
    assert found.mean == pytest.approx(wide.mean(), rel=1e-6, abs=1e-9)
    assert found.std == pytest.approx(wide.std(), rel=1e-5, abs=1e-6)
    assert (found.minimum, found.maximum) == (wide.min(), wide.max())
    if not found.levels:
        assert array.size < 16 or wide.std() == pytest.approx(0, abs=1e-6)
        return
    edges = np.linspace(found.low, found.high, N_BINS + 1)
    inner = np.clip(np.searchsorted(edges, wide, side="right") - 1, 0, N_BINS - 1)
    counts = np.bincount(inner, minlength=N_BINS)
    assert found.peak == pytest.approx(counts.max() / counts.sum(), abs=2 / counts.sum())
    levels = np.array([LEVELS.index(level) for level in found.levels])
    assert levels.max() == 63
    assert ((levels > 0) == (counts > 0)).mean() > 0.9  # numpy's own rounding at the edges of bins
    assert found.high - found.low >= 8 * max(found.std, 0) * (1 - 1e-6)


def test_the_histogram_of_a_normal_tensor_is_the_normal_density() -> None:
    rng = np.random.default_rng(0)
    values = (0.1 * rng.standard_normal((1000, 300))).astype(np.float32)
    found = spread_of(values, "w", Distribution("Kaiming", 0.0, 0.1))
    assert found is not None
    shares = np.array([LEVELS.index(level) for level in found.levels]) / 63 * found.peak
    edges = np.linspace(found.low, found.high, N_BINS + 1)
    expected = np.diff(scipy.stats.norm.cdf(edges, scale=0.1))
    np.testing.assert_allclose(shares, expected, atol=0.006)
    assert spread_of(values, "w", Distribution("Kaiming", 0.0, 0.1)) == found  # the same sample each time


def test_what_is_not_finite_is_counted_and_left_out() -> None:
    values = np.array([1.0, np.nan, 3.0, np.inf], np.float32)
    found = spread_of(values, "w", None)
    assert found is not None
    assert (found.mean, found.std, found.n_odd) == (2.0, 1.0, 2)
    assert spread_of(np.full(4, np.nan, np.float32), "w", None) is None
    half = spread_of(np.full(40, 60000, np.float16), "w", None)  # whose sum no float16 holds
    assert half is not None
    assert (half.mean, half.std) == (60000.0, 0.0)


def test_the_data_is_the_predictions() -> None:
    path = EXAMPLES / "lstm_text.onnx"
    data = report_data(path, ghn=tiny_ghn())
    prediction = onnx_ghn.predict(path, ghn=tiny_ghn(), calibrate="none", correct_scales=False)
    graph = prediction.graph
    strings, nodes, columns = data["strings"], data["graph"]["nodes"], data["parameters"]
    assert data["name"] == "lstm_text.onnx"
    assert len(nodes["x"]) == len(graph)
    assert [strings[i] for i in nodes["name"]] == [node.name or node.primitive.name for node in graph.nodes]
    assert [data["graph"]["looks"][i]["primitive"] for i in nodes["look"]] == [n.primitive.name for n in graph.nodes]
    assert sorted((a, b) for a, b, *_ in data["graph"]["curves"]) == [tuple(edge) for edge in graph.edges.tolist()]
    for a, b, _, *points in data["graph"]["curves"]:  # each curve leads from its node to its node
        assert points[:2] == [nodes["x"][a], nodes["y"][a]]
        assert points[6:] == [nodes["x"][b], nodes["y"][b]]
    names = [strings[i] for i in columns["name"]]
    assert len(set(names)) == len(names)
    checked = 0
    for i, name in enumerate(names):
        if name not in prediction:
            continue
        checked += 1
        assert columns["mean"][i] == pytest.approx(float(prediction[name].mean(dtype=np.float64)), rel=1e-3, abs=1e-8)
        assert columns["std"][i] == pytest.approx(float(prediction[name].std(dtype=np.float64)), rel=1e-3, abs=1e-8)
        node = columns["node"][i]
        assert name in [graph.parameters[j].name for j in graph.nodes[node].parameters]
    assert checked == len(prediction)
    counts = {entry["outcome"]: entry for entry in data["coverage"]["outcomes"]}
    assert counts["predicted"]["tensors"] == prediction.coverage.count("predicted")
    assert sum(counts[o]["elements"] for o in ("predicted", "fallback", "kept")) == data["coverage"]["n_trainable"]


def test_the_same_model_gives_the_same_page(tmp_path: Path) -> None:
    path = EXAMPLES / "lstm_text.onnx"
    pages = [write_report(path, tmp_path / f"{i}.html", ghn=tiny_ghn()).read_bytes() for i in range(2)]
    assert pages[0] == pages[1]


def test_without_a_prediction_there_are_no_distributions() -> None:
    data = report_data(EXAMPLES / "lstm_text.onnx", predict=False)
    assert data["ghn"] is None
    assert set(data["parameters"]["mean"]) == {None}
    assert any(data["parameters"]["reference_std"])


def test_what_other_tools_do() -> None:
    """A row for each finding of `find_behaviours`, its names printable."""
    from onnx_ghn.compatibility.checking import find_behaviours

    path = EXAMPLES / "lstm_text.onnx"
    found = find_behaviours(path)
    rows = report_data(path, predict=False)["tools"]
    assert [(row["tool"], row["what"]) for row in rows] == [(f.behaviour.tool.name, f.behaviour.what) for f in found]
    assert {(row["tool"], row["effect"]) for row in rows} >= {("TVM", "refused"), ("onnx2torch", "refused")}
    assert all(row["nodes"] >= 1 and row["first"].isprintable() for row in rows)
    graph = residual_graph(1)
    assert page_data(graph, drawn_prediction(graph).coverage)["tools"] is None


def test_names_stay_data() -> None:
    """A file's names end no element, are no template, start no element of their own."""
    graph = residual_graph(1, prefix=HOSTILE)
    text = page_html(page_data(graph, (p := drawn_prediction(graph)).coverage, p, name=HOSTILE))
    page = Page(text)
    plain = Page(page_html(page_data(graph, p.coverage, p, name="net")))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert "img" not in [tag for tag, _ in page.tags]
    shown = page.data["name"]
    assert shown.isprintable()
    assert shown == HOSTILE.replace("\u202e", "\\u202e").replace("\x00", "\\x00")
    assert any(name.startswith(shown) for name in page.data["strings"])


def test_the_policy_allows_this_script_and_this_style_alone() -> None:
    graph = residual_graph(1)
    text = page_html(page_data(graph, drawn_prediction(graph).coverage))
    page = Page(text)
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    blocks = {tag: re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in ("script", "style")}
    for tag, found in blocks.items():
        assert len(found) == 1
        digest = base64.b64encode(hashlib.sha256(found[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    # Nothing that names another place: no address but those of XML's own vocabulary.
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval)\b", text)


def test_five_thousand_nodes_stay_below_three_megabytes() -> None:
    graph = residual_graph(999)
    assert len(graph) == 5000
    prediction = drawn_prediction(graph)
    text = page_html(page_data(graph, prediction.coverage, prediction, name="big"))
    assert 500_000 < len(text.encode()) < 3_000_000


def test_a_profile_is_summed_by_kind() -> None:
    operator = {"fused": "", "macs": 10, "output_shape": [1, 4], "std_ms": 0.1}
    operators = [
        {**operator, "name": "a", "op_type": "Conv", "mean_ms": 1.5},
        {**operator, "name": "b", "op_type": "Conv", "mean_ms": 2.5},
        {**operator, "name": "c", "op_type": "Gemm", "mean_ms": 3.0, "macs": None, "output_shape": None},
        {**operator, "name": "d", "op_type": "Shape", "mean_ms": None},
    ]
    latency: dict[str, Any] = dict.fromkeys(measured.LATENCY, 1.0)
    latency |= {"items_per_s": 4.0, "first_run_ms": 9.0, "samples_ms": list(range(5000))}
    where = {"provider": "CPUExecutionProvider", "batch": 4, "threads": 2, "streams": 1}
    point = {
        **where,
        "error": None,
        "inputs": [{"name": "x", "shape": [4, 3]}],
        "notes": ["busy"],
        "session_creation_ms": 1.0,
        "latency": latency,
        "memory": {"peak_bytes": 123},
        "operators": {"operators": operators, "operators_ms": 7.0, "run_ms": 7.5, "macs": 20},
    }
    failed = {**where, "error": "out of \x1b[31m memory"}
    report = {
        "size_bytes": 5,
        "parameters": 6,
        "system": {"processor": "P", "cores": 2, "x": 1},
        "points": [point, failed],
    }
    data = measured.profile_data(report)
    assert data["points"][0]["label"] == "CPU, batch 4, 2 threads"
    kinds = data["points"][0]["operators"]["kinds"]
    assert [(kind["kind"], kind["count"], kind["mean_ms"], kind["macs"]) for kind in kinds] == [
        ("Conv", 2, 4.0, 20),
        ("Gemm", 1, 3.0, 0),
    ]
    assert [entry["name"] for entry in data["points"][0]["operators"]["slowest"]] == ["c", "b", "a"]
    assert len(data["points"][0]["latency"]["samples_ms"]) <= 600
    assert data["points"][1]["error"].isprintable()


def test_a_real_profile_goes_into_the_page(tmp_path: Path) -> None:
    from onnx_ghn.profiling.settings import Settings

    path = EXAMPLES / "lstm_text.onnx"
    profile = onnx_ghn.profile(path, threads=(1,), settings=Settings(iterations=3, warmup=0, operators=False))
    page = write_report(path, tmp_path / "r.html", predict=False, profile=profile)
    point = Page(page.read_text(encoding="utf-8")).data["profile"]["points"][0]
    assert point["error"] is None
    assert point["latency"]["n_runs"] == 3
    samples = profile.points[0].latency.samples_ms  # type: ignore[union-attr]
    assert point["latency"]["p50_ms"] == pytest.approx(float(np.median(samples)))


def test_dark_colours_are_seen_and_told_apart() -> None:
    assert set(DARK) == set(LOOKS) == set(Primitive)
    for primitive, colour in DARK.items():
        # WCAG 2.2, success criterion 1.4.11: graphics need 3 : 1.
        assert (luminance(colour) + 0.05) / (luminance(DARK_SURFACE) + 0.05) >= 3, primitive
    for (a, one), (b, other) in itertools.combinations(DARK.items(), 2):
        assert np.linalg.norm(lab(one) - lab(other)) > 15, (a, b)


def test_a_page_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "r.html"
    target.write_text("mine")
    with pytest.raises(ModelWriteError, match="`force`"):
        write_report(EXAMPLES / "lstm_text.onnx", target, predict=False)
    assert target.read_text() == "mine"
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(onnx_ghn.OnnxGhnError):
        write_report(broken, tmp_path / "b.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.onnx", "r.html"]


def test_a_model_of_one_node(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.zeros((4, 4), np.float32), "w")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    data = report_data(tmp_path / "m.onnx", ghn=tiny_ghn())
    assert data["graph"]["width"] > 0
    assert page_html(data)


def test_predicted_properties_become_rows() -> None:
    from onnx_ghn.properties import PropertyReport
    from onnx_ghn.properties.prediction import PropertyValue
    from onnx_ghn.properties.predictor import PROPERTIES
    from onnx_ghn.report.predicted import properties_data

    values = tuple(PropertyValue(known, 4.0 + i, 3.0 + i, 5.0 + i) for i, known in enumerate(PROPERTIES))
    near = properties_data(PropertyReport(values, 1, 2, 10.0, (), {"measured": {"threshold": 15}}))
    assert [row["name"] for row in near["rows"]] == ["accuracy", "noisy accuracy", "latency", "convergence"]
    assert [row["value"] for row in near["rows"]] == [4.0, 5.0, 6.0, 7.0]
    assert "15 %" in near["rows"][3]["meaning"]
    assert near["notes"] == []
    far = properties_data(PropertyReport(values, 1, 2, 99.0, ("depth",), {}))
    assert "far from" in far["notes"][0]
    assert "depth" in far["notes"][0]


def test_predictions_for_this_machine_become_rows() -> None:
    from onnx_ghn.properties.machine.identity import Identity
    from onnx_ghn.properties.machine.prediction import MachineReport, MachineValue
    from onnx_ghn.report.predicted import machine_data

    identity = Identity("P", 2, "1.30.0", "CPUExecutionProvider", 2)
    values = MachineValue(4.0, 3.0, 5.0), MachineValue(2e8, 1.5e8, 3e8)
    report = MachineReport(*values, identity, identity, "2026-01-01", 300, 0.1, {"x": (1, 3)}, 7, (), False)
    found = machine_data(report)
    assert [(row["name"], row["value"], row["low"], row["high"], row["unit"]) for row in found["rows"]] == [
        ("latency here, 2 threads", 4.0, 3.0, 5.0, "ms"),
        ("peak memory here, 2 threads", 200.0, 150.0, 300.0, "MB"),
    ]
    assert "count as small ones" in found["notes"][0]


def test_the_page_says_why_nothing_is_predicted_for_this_machine(tmp_path: Path, monkeypatch) -> None:
    """A damaged calibration is no reason to write no page."""
    from onnx_ghn.properties.machine.identity import identity_here
    from onnx_ghn.properties.machine.places import calibrations_folder
    from onnx_ghn.report.predicted import bundled_properties

    monkeypatch.setenv("ONNX_GHN_CACHE", str(tmp_path))
    folder = calibrations_folder() / identity_here("CPUExecutionProvider", 1).folder_name
    folder.mkdir(parents=True)
    (folder / "calibration.safetensors").write_bytes(b"damaged")
    found = bundled_properties(EXAMPLES / "resnet18_cifar10.onnx")
    assert found is not None
    assert "accuracy" in [row["name"] for row in found["rows"]]
    assert any("not a readable calibration" in note for note in found["notes"])
