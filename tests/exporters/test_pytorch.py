"""PyTorch modules to ONNX and back: nothing lost, nothing changed, predicted weights where they belong."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torchvision
from torch import nn
from torch.ao.quantization import ObserverBase
from torch_modules import IMAGE, assert_same, run, small, state

import onnx_ghn
from onnx_ghn.errors import CheckpointError, GraphError, ModelWriteError, OptionError
from onnx_ghn.exporters import pytorch
from onnx_ghn.onnx_io import read_model, stored_tensors


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_there_and_back(tmp_path: Path, exporter: str) -> None:
    module = small()
    before, modes = state(module), [part.training for part in module.modules()]
    path, filled = tmp_path / "model.onnx", tmp_path / "init.onnx"
    report = pytorch.export(module, path, IMAGE, exporter=exporter)
    assert_same(state(module), before)
    assert [part.training for part in module.modules()] == modes
    assert {note.name for note in report.unmatched} == {"auxiliary.weight", "auxiliary.bias"}
    assert "does not read it" in report.unmatched[0].cause
    assert 0.9 < report.share < 1
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert "BatchNormalization" in operators
    module.eval()
    expected = module(IMAGE).detach().numpy()
    np.testing.assert_allclose(run(path, IMAGE), expected, rtol=1e-4, atol=1e-5)

    prediction = onnx_ghn.predict(path, filled, calibrate="noise", policy="all")
    frozen = {entry.parameter.name for entry in prediction.coverage.entries if entry.outcome == "frozen"}
    assert {"frozen.weight", "frozen.bias", "table"} <= frozen
    assert prediction.coverage.share("predicted") == 1
    assert prediction.coverage.n_trainable == sum(
        p.numel() for n, p in module.named_parameters() if p.requires_grad and not n.startswith("auxiliary")
    )
    loaded = pytorch.load(module, filled)
    assert {note.name for note in loaded.unmatched} == {"auxiliary.weight", "auxiliary.bias"}
    np.testing.assert_allclose(run(filled, IMAGE), module(IMAGE).detach().numpy(), rtol=1e-3, atol=1e-5)
    for name in ("frozen.weight", "frozen.bias", "table", "auxiliary.weight"):
        torch.testing.assert_close(module.state_dict()[name], before[name], rtol=0, atol=0)
    for name in ("conv.weight", "norm.running_var", "rnn.weight_hh_l0", "attention.self_attn.in_proj_weight"):
        assert not torch.equal(module.state_dict()[name], before[name])


def test_auxiliary_heads_on_request(tmp_path: Path) -> None:
    report = pytorch.export(small(), tmp_path / "m.onnx", IMAGE, auxiliary=True)
    assert report.complete
    assert report.share == 1


def test_initialize_is_predict_and_load(tmp_path: Path) -> None:
    one, other = small(), small()
    result = onnx_ghn.initialize(one, IMAGE, calibrate="none", correct_scales=False, policy="all")
    pytorch.export(other, tmp_path / "m.onnx", IMAGE)
    prediction = onnx_ghn.predict(
        tmp_path / "m.onnx", tmp_path / "i.onnx", calibrate="none", correct_scales=False, policy="all"
    )
    pytorch.load(other, tmp_path / "i.onnx")
    assert_same(state(one), state(other))
    assert result.coverage.to_dict() == prediction.coverage.to_dict()
    assert one.training  # its mode is as it was


def test_initialize_takes_the_options_of_predict_and_of_an_export() -> None:
    from onnx_ghn.prediction.options import PredictOptions

    by_keywords, by_options = small(), small()
    keywords = {
        "calibrate": "none",
        "post": "noise",
        "post_strength": 0.2,
        "unfold_batchnorm": True,
        "exclude": ["conv"],
    }
    kept = by_keywords.conv.weight.detach().clone()
    onnx_ghn.initialize(by_keywords, IMAGE, exporter="torchscript", **keywords, policy="all")
    onnx_ghn.initialize(by_options, IMAGE, PredictOptions(**keywords), exporter="torchscript", policy="all")
    assert_same(state(by_keywords), state(by_options))
    assert torch.equal(by_keywords.conv.weight, kept)
    with pytest.raises(OptionError, match="exporter"):
        onnx_ghn.initialize(by_options, IMAGE, exporter="onnx", policy="all")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_file_of_another_exporter_loads(tmp_path: Path) -> None:
    """torch.onnx.export by hand, with every parameter of a fresh batch norm merged and folding on."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()
    torch.onnx.export(module, (IMAGE,), str(tmp_path / "m.onnx"), dynamo=False)
    other = copy.deepcopy(module)
    nn.init.zeros_(other[0].weight)
    assert pytorch.load(other, tmp_path / "m.onnx", IMAGE).complete
    assert_same(state(other), state(module))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_file_of_the_second_exporter_without_folding_loads(tmp_path: Path) -> None:
    """It gives a convolution without bias one of zeros, which it computes: no export of ours looks like that."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()).eval()
    torch.onnx.export(module, (IMAGE,), str(tmp_path / "m.onnx"), dynamo=True, optimize=False, verbose=False)
    other = copy.deepcopy(module)
    nn.init.zeros_(other[0].weight)
    assert pytorch.load(other, tmp_path / "m.onnx", IMAGE).complete
    assert_same(state(other), state(module))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_folded_batch_norms_are_refused_by_name(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()).eval()
    torch.onnx.export(module, (IMAGE,), str(tmp_path / "m.onnx"), dynamo=False)
    with pytest.raises(CheckpointError, match="export it again"):
        pytorch.load(module, tmp_path / "m.onnx", IMAGE)


class Watching(ObserverBase):
    """Observes nothing, but says that it does."""

    def __init__(self) -> None:
        super().__init__(torch.float32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def calculate_qparams(self, **kwargs: object) -> None:
        raise NotImplementedError


class Tagged(torch.Tensor):
    """Stands for the shards and the quantised weights of other libraries."""


def tagged() -> nn.Module:
    module = nn.Linear(2, 2)
    module.weight = nn.Parameter(torch.rand(2, 2).as_subclass(Tagged))
    return module


def expanded() -> nn.Module:
    module = nn.Linear(2, 2)
    module.weight = nn.Parameter(torch.rand(2, 1).expand(2, 2))
    return module


def test_weights_that_are_computed_are_said(tmp_path: Path) -> None:
    """A parametrised weight is not in the file; what it is computed from is."""
    torch.manual_seed(0)
    module = nn.utils.parametrizations.weight_norm(nn.Linear(6, 4))
    x = torch.rand(2, 6)
    report = pytorch.export(module, tmp_path / "m.onnx", x)
    assert report.complete
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), module(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_shared_vectors_stay_shared(tmp_path: Path) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(4)
            self.shift = nn.Parameter(torch.zeros(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.norm(x) + self.shift) * self.shift

    pytorch.export(Shared(), tmp_path / "m.onnx", torch.rand(2, 4))
    stored = stored_tensors(read_model(tmp_path / "m.onnx"))
    prediction = onnx_ghn.predict(tmp_path / "m.onnx", tmp_path / "i.onnx", policy="all")
    assert set(stored_tensors(prediction.model)) == set(stored)
    assert pytorch.load(Shared(), tmp_path / "i.onnx").complete


def test_keyword_inputs_and_large_constants(tmp_path: Path) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(7, 4)

        def forward(self, ids: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
            x = self.embedding(ids)
            return x if scale is None else x * scale

    inputs = {"ids": torch.tensor([[1, 2]]), "scale": torch.tensor(2.0)}
    for exporter in ("torchscript", "dynamo"):
        path = tmp_path / f"{exporter}.onnx"
        assert pytorch.export(Named(), path, inputs, exporter=exporter).complete


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    module = small()
    before = state(module)
    path = tmp_path / "m.onnx"
    with pytest.raises(GraphError, match="torch cannot export it"):
        pytorch.export(module, path, torch.rand(2, 4, 4, 4), exporter="torchscript")
    assert_same(state(module), before)
    assert not path.exists()
    with pytest.raises(OptionError, match="exporter"):
        pytorch.export(module, path, IMAGE, exporter="other")
    with pytest.raises(GraphError, match=r"float16.*float32 first"):
        pytorch.export(small().half(), path, IMAGE.half())
    with pytest.raises(GraphError, match="float32 first"):
        pytorch.export(small().bfloat16(), path, IMAGE.bfloat16())
    waves = nn.ParameterList([nn.Parameter(torch.ones(3, dtype=torch.complex64))])
    with pytest.raises(GraphError, match=r"'0' is complex64.*real and imaginary parts in two float32 weights"):
        pytorch.export(waves, path, torch.rand(3))
    with pytest.raises(OptionError, match="meta"):
        pytorch.export(nn.Linear(2, 2, device="meta"), path, torch.rand(1, 2))
    with pytest.raises(OptionError, match=r"'weight' is expanded.*clone"):
        pytorch.initialize(expanded(), torch.rand(1, 2))
    with pytest.raises(GraphError, match="layer '0' observes values for a quantisation"):
        pytorch.initialize(nn.Sequential(Watching(), nn.Linear(2, 2)), torch.rand(1, 2))
    with pytest.raises(OptionError, match=r"'weight' is a .*Tagged.*sharded or quantised"):
        pytorch.initialize(tagged(), torch.rand(1, 2))
    with pytest.raises(OptionError, match="lazy"):
        pytorch.export(nn.LazyLinear(2), path, torch.rand(1, 2))
    pytorch.export(module, path, IMAGE)
    with pytest.raises(ModelWriteError, match="exists"):
        pytorch.export(module, path, IMAGE)
    other = torchvision.models.resnet18()
    with pytest.raises(CheckpointError, match="another model"):
        pytorch.load(other, path)
    bigger = small()
    bigger.head = nn.Linear(12, 6)
    kept = state(bigger)
    with pytest.raises(CheckpointError, match=r"head.weight.*\[5, 12\]"):
        pytorch.load(bigger, path)
    assert_same(state(bigger), kept)
