"""PyTorch modules to ONNX and back: nothing lost, nothing changed, predicted weights where they belong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torchvision
from torch import distributed, nn
from torch.ao.quantization import ObserverBase

import onnx_ghn
from onnx_ghn.errors import CheckpointError, GraphError, ModelWriteError, OptionError
from onnx_ghn.exporters import pytorch
from onnx_ghn.inspection import inspect_model
from onnx_ghn.onnx_io import read_model, stored_tensors


class Small(nn.Module):
    """Convolution, batch norm, attention, LSTM, a tied head, a frozen layer, a buffer, and a head of training."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.frozen = nn.Conv2d(8, 8, 1).requires_grad_(False)
        self.attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.rnn = nn.LSTM(8, 6, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, 5)
        self.auxiliary = nn.Linear(8, 5)
        self.register_buffer("table", torch.rand(1, 16, 8))
        self.drop = nn.Dropout(0.5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(image)))
        x = self.frozen(x).flatten(2).transpose(1, 2) + self.table
        y = self.rnn(self.attention(x))[0]
        result = self.head(self.drop(y.mean(1)))
        return result + self.auxiliary(x.mean(1)) if self.training else result


IMAGE = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def small(seed: int = 0) -> Small:
    torch.manual_seed(seed)
    module = Small()
    module.norm.running_mean.uniform_(-1, 1)
    module.norm.running_var.uniform_(0.5, 2)
    return module


def run(path: Path, *inputs: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})[0]


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(module.state_dict())


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_modules_of_other_precision_are_filled_by_a_copy(dtype: torch.dtype) -> None:
    """They get what the module in float32 gets, rounded; what is left out keeps its last digit."""
    module, usual = small().to(dtype), small()
    usual.load_state_dict({name: tensor.float() for name, tensor in module.state_dict().items()})
    before = state(module)
    first = module.conv.weight
    pytorch.initialize(usual, IMAGE, policy="all", exclude=["lstm"], seed=1)
    pytorch.initialize(module, IMAGE.to(dtype), policy="all", exclude=["lstm"], seed=1)
    assert module.conv.weight is first
    for name, tensor in module.state_dict().items():
        assert tensor.dtype == before[name].dtype
        expected = before[name] if "lstm" in name else usual.state_dict()[name].to(tensor.dtype)
        torch.testing.assert_close(tensor, expected, rtol=0, atol=0)
    assert not torch.equal(first, before["conv.weight"])


def test_a_module_that_is_trained_in_parallel(tmp_path: Path) -> None:
    """Its wrapper is no part of the network, but its weights are."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    try:
        inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1))
        before = state(inner)
        initialization = pytorch.initialize(nn.parallel.DistributedDataParallel(inner), IMAGE, policy="all")
    finally:
        distributed.destroy_process_group()
    assert initialization.coverage.share("predicted") == 1
    assert not torch.equal(inner[0].weight, before["0.weight"])


def test_a_module_that_torch_export_made() -> None:
    program = torch.export.export(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1)).eval(), (IMAGE,))
    module = program.module()
    before = state(module)
    assert pytorch.initialize(module, IMAGE, policy="all").coverage.share("predicted") == 1
    assert not torch.equal(module.state_dict()["0.weight"], before["0.weight"])


@pytest.mark.parametrize("normalise", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_spectral_norms_are_those_of_the_new_weights(normalise: Callable[[nn.Module], nn.Module]) -> None:
    """In training mode a step of the power iteration would be made, and hide vectors of other weights."""
    torch.manual_seed(0)
    layer = normalise(nn.Conv2d(3, 16, 3))
    pytorch.initialize(layer, IMAGE, policy="all")
    layer.eval()(IMAGE)
    assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item() == pytest.approx(1, rel=1e-4)


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


def test_torch_prints_nothing_of_a_program_that_it_cannot_export(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nor after an export of the user's own, which leaves torch's log on; it is on again then."""
    native: Any = torch._C
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(7))
    was_enabled = native._jit_is_onnx_log_enabled()
    try:
        for enabled in (False, True):
            native._jit_set_onnx_log_enabled(enabled)
            with pytest.raises(GraphError, match="adaptive_avg_pool2d"):
                pytorch.export(module, tmp_path / "m.onnx", torch.rand(1, 3, 4, 4), exporter="torchscript")
            assert capfd.readouterr() == ("", "")
            assert native._jit_is_onnx_log_enabled() == enabled
    finally:
        native._jit_set_onnx_log_enabled(was_enabled)


class Biased(nn.Module):
    """Attention with a bias that is computed from a trainable table, as T5, Swin and ALiBi do it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))
        self.table = nn.Parameter(torch.rand(4) if kind == "slopes" else torch.rand(20, 4))
        self.register_buffer("positions", torch.randint(0, 20, (5, 5)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (layer(x).view(1, 5, 4, 4).transpose(1, 2) for layer in self.layers)
        if self.kind == "embedding":
            bias = nn.functional.embedding(self.positions, self.table).permute(2, 0, 1)[None]
        elif self.kind == "window":
            bias = self.table[self.positions.view(-1)].view(5, 5, 4).permute(2, 0, 1).contiguous()[None]
        else:
            bias = (self.table[:, None, None] * self.positions)[None]
        out = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return out.transpose(1, 2).contiguous().reshape(1, 5, 16)


@pytest.mark.parametrize("kind", ["embedding", "window", "slopes"])
def test_a_computed_attention_bias_is_exported(kind: str, tmp_path: Path) -> None:
    """torch.export with gradients traces a layout of attention that its decompositions cannot view."""
    torch.manual_seed(0)
    net, x = Biased(kind).eval(), torch.randn(1, 5, 16)
    report = pytorch.export(net, tmp_path / "m.onnx", x, exporter="dynamo")
    assert report.complete
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), net(x).detach().numpy(), rtol=1e-4, atol=1e-5)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo", "auto"])
def test_an_lstm_with_a_projection_is_refused(exporter: str, tmp_path: Path) -> None:
    module = nn.LSTM(6, 8, proj_size=3, batch_first=True)
    with pytest.raises(GraphError, match=r"LSTM with proj_size 3.*; use an LSTM without proj_size and a Linear"):
        pytorch.export(module, tmp_path / "m.onnx", torch.rand(1, 4, 6), exporter=exporter)
    assert not (tmp_path / "m.onnx").exists()


class Detour(nn.Module):
    """Values of an input leave torch on their way, or are never read.

    Args:
        way: of the second input.
    """

    def __init__(self, way: str) -> None:
        super().__init__()
        self.layer, self.way = nn.Linear(3, 3), way

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """(B, 3), (B, 3) -> (B, 3)."""
        if self.way == "numpy":
            y = torch.from_numpy(y.detach().numpy())
        elif self.way == "item":
            y = torch.full((1, 3), y.sum().item())
        elif self.way == "copy":
            y = torch.tensor(y.tolist())
        return self.layer(x) if self.way == "unread" else self.layer(x) + y


PAIR = torch.rand(2, 3), torch.rand(2, 3)


@pytest.mark.parametrize("way", ["numpy", "item", "copy"])
def test_an_export_that_stores_what_came_of_an_input_is_refused(way: str, tmp_path: Path) -> None:
    module = Detour(way)
    before = state(module)
    with pytest.raises(GraphError, match=r"torchscript wrote depends on 1 of the 2 inputs.*try `exporter` dynamo"):
        pytorch.export(module, tmp_path / "m.onnx", PAIR, exporter="torchscript")
    assert_same(state(module), before)
    assert not (tmp_path / "m.onnx").exists()


def test_the_second_exporter_is_taken_where_the_first_loses_an_input(tmp_path: Path) -> None:
    module, path = Detour("numpy"), tmp_path / "m.onnx"
    assert "dynamo" in pytorch.export(module, path, PAIR).exporter
    x, y = torch.rand(2, 3), torch.rand(2, 3)
    np.testing.assert_allclose(run(path, x, y), module(x, y).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_an_input_that_the_module_does_not_read_is_no_fault(tmp_path: Path) -> None:
    module, path = Detour("unread"), tmp_path / "m.onnx"
    assert "torchscript" in pytorch.export(module, path, PAIR).exporter
    notes = pytorch.export(module, path, PAIR, exporter="dynamo", force=True).notes
    assert notes == ("no output of the file depends on its input 'y'",)


def test_a_module_without_inputs_is_exported(tmp_path: Path) -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = nn.Parameter(torch.rand(4, 3))

        def forward(self) -> torch.Tensor:
            return self.rows.softmax(-1)

    assert pytorch.export(Table(), tmp_path / "m.onnx", ()).complete


class _TokenAhead(nn.Module):
    """Takes the first token apart, scales the others, and squeezes an axis whose size torch does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        token, others = torch.tensor_split(x.unsqueeze(1), indices=(1,), dim=2)
        return torch.cat((token, self.linear(others[:, :, ::2])), dim=2).squeeze(1)


def test_branches_whose_sizes_torch_guesses_wrongly_run(tmp_path: Path) -> None:
    module, path = _TokenAhead(), tmp_path / "model.onnx"
    x = torch.rand(1, 9, 8, generator=torch.Generator().manual_seed(0))
    pytorch.export(module, path, x, exporter="torchscript")
    assert any(node.op_type == "If" for node in onnx.load(path).graph.node)
    assert run(path, x) == pytest.approx(module(x).detach().numpy(), abs=1e-6)


class _Namesakes(nn.Module):
    """Parameters called as an operator's result and as the input are."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Parameter(torch.randn(2, 4))
        self.x = nn.Parameter(torch.randn(2, 4))
        self.register_buffer("sign", torch.randn(4))
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).sign() * self.sign + self.linear * x - self.x


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_parameters_that_are_called_as_values_are(exporter: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, path = _Namesakes(), tmp_path / "model.onnx"
    x = torch.randn(2, 4)
    pytorch.export(module, path, x, exporter=exporter)
    assert run(path, x) == pytest.approx(module(x).detach().numpy(), abs=1e-6)
    assert inspect_model(path).coverage.n_trainable == sum(parameter.numel() for parameter in module.parameters())
    onnx_ghn.predict(path, tmp_path / "filled.onnx", policy="all", calibrate="none")
    sign = module.sign.clone()
    pytorch.load(module, tmp_path / "filled.onnx")
    assert torch.equal(module.sign, sign)
    assert run(tmp_path / "filled.onnx", x) == pytest.approx(module(x).detach().numpy(), abs=1e-5)


class _Listed(nn.Module):
    """Reads its parameters and a buffer through a list and a dict, which torch.export takes for constants."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4))
        self.frozen = nn.Parameter(torch.randn(4), requires_grad=False)
        self.register_buffer("offset", torch.randn(4))
        self.factors, self.others = [self.first, self.second], {"offset": self.offset, "frozen": self.frozen}
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for factor in self.factors:
            x = torch.tanh(x * factor)
        return self.layer(x + self.others["offset"]) * self.others["frozen"]


def test_parameters_in_a_list_are_parameters(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, path, x = _Listed(), tmp_path / "model.onnx", torch.randn(2, 4)
    pytorch.export(module, path, x, exporter="dynamo")
    assert sum(tensor.name.startswith("lifted_tensor") for tensor in onnx.load(path).graph.initializer) == 4
    assert inspect_model(path).coverage.n_trainable == 4 + 4 + 16 + 4
    before = {name: value.clone() for name, value in module.state_dict().items()}
    pytorch.initialize(module, x, policy="all", calibrate="none", exporter="dynamo")
    kept = {name for name, value in module.state_dict().items() if torch.equal(value, before[name])}
    assert kept == {"frozen", "offset"}


class _Deformed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Conv2d(3, 18, 3, padding=1)
        self.layer = torchvision.ops.DeformConv2d(3, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x, self.offset(x))


def test_an_operator_of_a_later_opset_gets_that_opset(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, path, x = _Deformed(), tmp_path / "model.onnx", torch.rand(1, 3, 8, 8)
    pytorch.export(module, path, x, exporter="dynamo")
    assert onnx.load(path).opset_import[0].version == 19
    assert run(path, x) == pytest.approx(module(x).detach().numpy(), abs=1e-5)
    pytorch.export(nn.Linear(3, 4), path, torch.rand(1, 3), exporter="dynamo", force=True)
    assert onnx.load(path).opset_import[0].version == 18
