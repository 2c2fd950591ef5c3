"""The example models of several frameworks, each as a donor of each."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from onnx_ghn.graph import Role
from onnx_ghn.graph.builder import graph_of, read_graph
from onnx_ghn.inheritance.donor import open_donor
from onnx_ghn.inheritance.inheriting import Inheritance, inherit
from onnx_ghn.onnx_io import inject, read_model, write_model
from onnx_ghn.passes import open_model

EXAMPLES = Path(__file__).resolve().parents[2] / "data" / "examples"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.onnx"))


def _filled(name: str, target: Path) -> Path:
    """An example, which holds no weights, with random ones."""
    opened = open_model(EXAMPLES / name)
    graph = graph_of(opened.model, opened.stored, "onnx")
    draw = np.random.default_rng(0)
    tensors = {}
    for parameter in graph.parameters:
        spread = 1 / max(1, int(np.prod(parameter.layout.canonical[1:]))) ** 0.5
        values = draw.standard_normal(parameter.shape) * spread
        if parameter.role in (Role.norm_scale, Role.statistic):
            values = draw.uniform(0.7, 1.3, parameter.shape)
        values = values.astype(opened.stored[parameter.name].dtype.numpy())
        tensors[parameter.name] = lambda values=values: values
    inject(opened.model, tensors, opened.stored)
    write_model(opened.model, target, force=True)
    return target


def _inherit(recipient: Path, donor: Path, output: Path) -> Inheritance:
    opened = open_model(recipient)
    graph, flat = read_graph(opened.model, opened.stored, "onnx")
    found = inherit(opened, flat, graph, [open_donor(donor)])
    for name, tensor in found.tensors.items():
        values = tensor.values()
        assert values.shape == tuple(opened.stored[name].shape)
        assert np.isfinite(values).all()
    inject(opened.model, {name: tensor.values for name, tensor in found.tensors.items()}, opened.stored)
    write_model(opened.model, output, force=True)
    return found


def _outputs(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    draw = np.random.default_rng(1)
    feed = {}
    for value in session.get_inputs():
        shape = [dim if isinstance(dim, int) else 1 for dim in value.shape]
        feed[value.name] = draw.standard_normal(shape).astype(np.float32)
    output: np.ndarray = session.run(None, feed)[0]
    return output


def test_two_exports_of_one_network_give_the_same_outputs(tmp_path: Path) -> None:
    """Torch's two exporters call and order tensors differently."""
    donor = _filled("resnet50_torchscript.onnx", tmp_path / "donor.onnx")
    found = _inherit(EXAMPLES / "resnet50_torch_dynamo.onnx", donor, tmp_path / "out.onnx")
    assert found.is_exact
    ours, theirs = _outputs(tmp_path / "out.onnx"), _outputs(donor)
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("recipient", NAMES)
def test_any_example_takes_weights_from_any_other(recipient: str, tmp_path: Path) -> None:
    """No pair fails, whatever there is to inherit; what is written can be read again."""
    others = itertools.cycle(NAMES[NAMES.index(recipient) :] + NAMES[: NAMES.index(recipient)])
    for donor in itertools.islice(others, 0, len(NAMES), 3):
        found = _inherit(EXAMPLES / recipient, _filled(donor, tmp_path / "donor.onnx"), tmp_path / "out.onnx")
        read_model(tmp_path / "out.onnx")
        if donor == recipient:
            assert found.is_exact
            assert {tensor.rule for tensor in found.tensors.values()} == {"copied"}
