"""Donors in `predict`: what is inherited, what a report and a file say of it, and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from predict_models import Net, tiny_ghn

import onnx_ghn
from onnx_ghn.errors import OptionError
from onnx_ghn.onnx_io import read_model, stored_tensors
from onnx_ghn.prediction.origins import INHERITED


def _network(width: int, classes: int = 4, seed: int = 0) -> onnx.ModelProto:
    net = Net()
    net.rng = np.random.default_rng(seed)
    x = net.input(2, 3, 8, 8)
    for i, (n_in, n_out) in enumerate(((3, width), (width, width))):
        x = net.op("Relu", net.bn(net.conv(x, n_in, n_out, f"conv{i}"), n_out, f"bn{i}"), out=f"relu{i}")
    x = net.op("Flatten", net.op("GlobalAveragePool", x, out="mean"), out="flat")
    x = net.op("Gemm", x, net.random("head.w", classes, width), net.random("head.b", classes), out="y", transB=1)
    return net.model(x)


@pytest.fixture
def donor(tmp_path: Path) -> Path:
    onnx.save(_network(8), tmp_path / "donor.onnx")
    return tmp_path / "donor.onnx"


def test_all_is_inherited_from_an_equal_network(donor: Path, tmp_path: Path) -> None:
    output = tmp_path / "init.onnx"
    prediction = onnx_ghn.predict(_network(8, seed=1), output, ghn=tiny_ghn(), donors=[donor])
    theirs, ours = (stored_tensors(read_model(path)) for path in (donor, output))
    for name, stored in theirs.items():
        np.testing.assert_array_equal(ours[name].numpy(), stored.numpy())
    assert prediction.coverage.share("inherited") == 1
    assert any("are kept" in note for note in prediction.coverage.notes)


def test_the_file_and_the_report_say_where_weights_come_from(donor: Path, tmp_path: Path) -> None:
    output = tmp_path / "init.onnx"
    prediction = onnx_ghn.predict(_network(16, seed=1), output, ghn=tiny_ghn(), donors=[donor])
    digest = hashlib.sha256(donor.read_bytes()).hexdigest()
    record = json.loads({p.key: p.value for p in onnx.load(output).metadata_props}[INHERITED])
    assert record["donors"] == [{"name": "donor.onnx", "sha256": digest}]
    assert record["tensors"]["conv1.w"][:2] == [0, "conv1.w"]
    rows = {row["name"]: row for row in prediction.coverage.to_dict()["parameters"]}
    assert rows["conv1.w"]["outcome"] == "inherited"
    assert rows["conv1.w"]["origin"]["sha256"] == digest
    assert rows["bn0.mean"]["outcome"] == "statistic"
    assert rows["bn0.mean"]["origin"]["tensor"] == "bn0.mean"
    assert prediction.coverage.n_elements("inherited") == prediction.coverage.n_trainable
    onnx.checker.check_model(onnx.load(output))


def test_what_no_donor_has_gets_the_prediction(donor: Path) -> None:
    model = _network(8, classes=7, seed=1)
    with_donor = onnx_ghn.predict(model, ghn=tiny_ghn(), donors=[donor], policy="all", calibrate="none")
    alone = onnx_ghn.predict(model, ghn=tiny_ghn(), policy="all", calibrate="none", correct_scales=False)
    outcomes = {entry.parameter.name: entry.outcome for entry in with_donor.coverage.entries}
    assert outcomes["head.w"] == "predicted"
    np.testing.assert_array_equal(with_donor["head.w"], alone["head.w"])


def test_a_blend_lies_between_the_donor_and_the_prediction(donor: Path) -> None:
    model = _network(8, seed=1)
    ghn = tiny_ghn()
    blended = onnx_ghn.predict(model, ghn=ghn, donors=[donor], blend=0.25)
    alone = onnx_ghn.predict(model, ghn=ghn, policy="all", calibrate="none", correct_scales=False, tell_apart=False)
    theirs = stored_tensors(read_model(donor))["conv1.w"].numpy()
    np.testing.assert_allclose(blended["conv1.w"], 0.75 * theirs + 0.25 * alone["conv1.w"], rtol=1e-5, atol=1e-6)


def test_several_donors_each_give_what_they_have(donor: Path, tmp_path: Path) -> None:
    """The donor that is most like the recipient comes first; another one gives the head of seven classes."""
    onnx.save(_network(6, classes=7, seed=2), tmp_path / "other.onnx")
    prediction = onnx_ghn.predict(
        _network(8, classes=7, seed=1), ghn=tiny_ghn(), donors=[donor, tmp_path / "other.onnx"]
    )
    origins = {entry.parameter.name: entry.origin.donor for entry in prediction.coverage.entries if entry.origin}
    assert set(origins.values()) >= {"other.onnx"}
    assert origins["head.w"] == "other.onnx"


def test_patterns_leave_tensors_out(donor: Path) -> None:
    model = _network(8, seed=1)
    prediction = onnx_ghn.predict(model, ghn=tiny_ghn(), donors=[donor], exclude=["head"])
    assert prediction["head.w"].tolist() == stored_tensors(read_model(model))["head.w"].numpy().tolist()


def test_inspection_foretells_what_is_inherited(donor: Path) -> None:
    from onnx_ghn.inspection import inspect_model

    model = _network(12, seed=1)
    told = inspect_model(model, donors=[donor], policy="all").coverage.to_dict()["parameters"]
    done = onnx_ghn.predict(model, ghn=tiny_ghn(), donors=[donor], policy="all").coverage.to_dict()["parameters"]
    assert told == done


@pytest.mark.parametrize("what", ["fresh", "shapes"])
def test_a_donor_that_nobody_trained_is_refused(what: str, tmp_path: Path) -> None:
    model = _network(8)
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if what == "shapes" or ".scale" in tensor.name or ".shift" in tensor.name:
            fill = np.full_like(array, 1.0 if ".scale" in tensor.name else 0.0)
            tensor.CopyFrom(onnx.numpy_helper.from_array(fill, tensor.name))
    onnx.save(model, tmp_path / "fresh.onnx")
    with pytest.raises(OptionError, match="untrained" if what == "fresh" else "holds no weights"):
        onnx_ghn.predict(_network(8), ghn=tiny_ghn(), donors=[tmp_path / "fresh.onnx"])


def test_a_blend_without_donors_has_no_meaning() -> None:
    with pytest.raises(OptionError, match=r"`blend` 0\.5 has no meaning without `donors`"):
        onnx_ghn.predict(_network(8), ghn=tiny_ghn(), blend=0.5)


def test_the_output_is_no_donor(donor: Path) -> None:
    with pytest.raises(onnx_ghn.OnnxGhnError, match=r"donor\.onnx"):
        onnx_ghn.predict(_network(8), donor, ghn=tiny_ghn(), donors=[donor], force=True)


def test_the_distance_of_outputs_is_measured_where_no_rule_is_exact(donor: Path) -> None:
    half = onnx_ghn.predict(_network(4, seed=1), ghn=tiny_ghn(), donors=[donor])
    (note,) = [note for note in half.coverage.notes if note.startswith("outputs lie")]
    assert float(note.split()[2]) > 1e-3
    grown = onnx_ghn.predict(_network(24, seed=1), ghn=tiny_ghn(), donors=[donor])
    (note,) = [note for note in grown.coverage.notes if "are kept" in note]
    assert float(note.partition("outputs lie ")[2].split()[0]) < 1e-5


def test_a_measurement_stands_above_the_rules(donor: Path) -> None:
    from onnx_ghn.prediction.inheriting import inheritance_notes
    from onnx_ghn.prediction.kept_outputs import Apart
    from onnx_ghn.prediction.options import PredictOptions

    found = onnx_ghn.predict(_network(8, seed=1), ghn=tiny_ghn(), donors=[donor]).inheritance
    (note,) = inheritance_notes(found, PredictOptions(donors=(str(donor),)), Apart(0.5, 2.0))
    assert "are not kept" in note
    assert "0.5" in note


def test_the_alignment_is_drawn(donor: Path, tmp_path: Path) -> None:
    from xml.etree import ElementTree

    from onnx_ghn.prediction.explaining import draw_alignment

    found = onnx_ghn.predict(_network(12, seed=1), ghn=tiny_ghn(), donors=[donor]).inheritance
    assert found is not None
    root = ElementTree.parse(draw_alignment(found, tmp_path / "alignment.svg")).getroot()
    tag = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{tag}path")) == len(found.structure.blocks)
    assert len(root.findall(f"{tag}g")) == 2 * len(found.structure.blocks)
    with pytest.raises(OptionError, match=r"\.svg"):
        draw_alignment(found, tmp_path / "alignment.png")
