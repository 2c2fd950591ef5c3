"""Transformers there and back: text, both ways, sound, image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors import safe_open

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

import onnx_ghn  # noqa: E402
from onnx_ghn.errors import CheckpointError, OptionError  # noqa: E402
from onnx_ghn.exporters import huggingface as exporter  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 50,
}
CONFIGS = {
    "bert": SMALL,
    "llama": {**SMALL, "num_key_value_heads": 1, "head_dim": 8},
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "vocab_size": 50},
    "vit": {**{k: v for k, v in SMALL.items() if k != "vocab_size"}, "image_size": 32, "patch_size": 16},
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_there_and_back(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **CONFIGS[kind])
    model = transformers.AutoModel.from_config(config).eval()
    implementation = model.config._attn_implementation
    report = exporter.export(model, tmp_path / "m.onnx")
    assert report.complete, report.unmatched
    assert model.config._attn_implementation == implementation
    prediction = onnx_ghn.predict(tmp_path / "m.onnx", tmp_path / "i.onnx", policy="all")
    assert prediction.coverage.share("predicted") > 0.97  # T5 has a bias of attention scores
    assert "msa" in {node.primitive.name for node in prediction.graph.nodes}
    other = transformers.AutoModel.from_config(config).eval()
    assert exporter.load(other, tmp_path / "i.onnx").complete

    from round_trip import run

    inputs = exporter.example_inputs(model)
    with torch.no_grad():
        expected = other(**inputs, return_dict=True)[0].numpy()
    given = [value.numpy() for value in inputs.values()]
    np.testing.assert_allclose(run(tmp_path / "i.onnx", *given), expected, rtol=1e-3, atol=1e-5)


def test_a_folder_takes_the_weights_of_tied_models(tmp_path: Path) -> None:
    """`from_pretrained` of transformers 4.57 leaves a tied table without values whose first name the file lacks."""
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 50}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1, 1)
    exporter.save_weights(model, tmp_path / "model.safetensors")
    other = transformers.GPT2LMHeadModel.from_pretrained(tmp_path)
    assert other.lm_head.weight is other.transformer.wte.weight
    expected = model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in other.state_dict().items())
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(expected)
        assert file.metadata() == {"format": "pt"}


def test_a_state_without_tensors_is_refused(tmp_path: Path) -> None:
    class Stateful(torch.nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"steps": 1}

    with pytest.raises(CheckpointError, match="_extra_state of the state_dict is dict"):
        exporter.save_weights(Stateful(2, 2), tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()


def test_other_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="PreTrainedModel"):
        exporter.export(torch.nn.Linear(2, 2), tmp_path / "m.onnx")


MIXTURE = {**SMALL, "num_key_value_heads": 1, "head_dim": 8, "num_experts_per_tok": 2}
MIXTURES = {
    "mixtral": {**MIXTURE, "num_local_experts": 4},
    "qwen3_moe": {**MIXTURE, "num_experts": 4, "moe_intermediate_size": 16},
    "olmoe": {**MIXTURE, "num_experts": 4},
}


@pytest.mark.parametrize("kind", MIXTURES)
def test_mixtures_of_experts_are_exported(kind: str, tmp_path: Path) -> None:
    """Their default is an operator that no exporter knows."""
    from round_trip import run

    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind, **MIXTURES[kind])).eval()
    implementation = model.config._experts_implementation
    assert exporter.export(model, tmp_path / "m.onnx").complete
    assert model.config._experts_implementation == implementation
    inputs = exporter.example_inputs(model)
    with torch.no_grad():
        expected = model(**inputs, use_cache=False, return_dict=True)[0].numpy()
    given = [value.numpy() for value in inputs.values()]
    np.testing.assert_allclose(run(tmp_path / "m.onnx", *given), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "mixtral", "bert"])
def test_what_memory_does_not_hold_is_refused_before_it_is_built(kind: str) -> None:
    from onnx_ghn.exporters.registry import resolve

    with pytest.raises(OptionError, match=rf"{kind}: [\d,]+ weights need .* of memory.*--config"):
        resolve(f"hf:{kind}", (), {"hidden_size": 32768, "num_hidden_layers": 64, "num_attention_heads": 32})


def test_options_of_torch_s_exporter_are_options_of_transformers(tmp_path: Path) -> None:
    model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model("bert", **CONFIGS["bert"])).eval()
    exporter.export(model, tmp_path / "m.onnx", exporter="torchscript", opset_version=17)
    assert {entry.version for entry in onnx.load(tmp_path / "m.onnx").opset_import if not entry.domain} == {17}
    with pytest.raises(OptionError, match="`expoter` is no option of this framework's exporter; did you mean"):
        exporter.export(model, tmp_path / "other.onnx", expoter="dynamo")
