"""ResNet-50 and BERT as modules of torch and as ONNX files, with random weights: nothing is downloaded."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_ghn.profiling.conversions import convert

if TYPE_CHECKING:
    import torch

__all__ = ["MODELS", "Size", "inputs_of", "module_of", "write_onnx"]

MODELS = ("resnet50", "bert")
_WORDS = 30522  # of BERT's vocabulary


@dataclasses.dataclass(frozen=True)
class Size:
    """The published sizes; a dry run has smaller ones."""

    pixels: int = 224
    tokens: int = 128
    layers: int = 12
    width: int = 768


def module_of(name: str, size: Size) -> torch.nn.Module:
    """A network in evaluation mode, the same for the same size."""
    import torch

    torch.manual_seed(0)
    if name == "resnet50":
        import torchvision

        return torchvision.models.resnet50().eval()
    import transformers

    config = transformers.BertConfig(
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.width // 64,
        intermediate_size=4 * size.width,
        vocab_size=_WORDS,
    )
    return _hidden_states(transformers.BertModel(config))


def _hidden_states(bert: torch.nn.Module) -> torch.nn.Module:
    """BERT that gives the last hidden states alone, as a tensor, (batch, tokens, width)."""
    import torch

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.bert(input_ids=ids, attention_mask=mask).last_hidden_state

    return Encoder().eval()


def inputs_of(name: str, size: Size, batch: int) -> dict[str, torch.Tensor]:
    """Random images, (batch, 3, pixels, pixels), or random tokens and a mask of ones, (batch, tokens) each."""
    import torch

    generator = torch.Generator().manual_seed(0)
    if name == "resnet50":
        return {"images": torch.randn(batch, 3, size.pixels, size.pixels, generator=generator)}
    ids = torch.randint(_WORDS, (batch, size.tokens), generator=generator)
    return {"ids": ids, "mask": torch.ones_like(ids)}


def write_onnx(name: str, size: Size, path: Path) -> None:
    """Write the network for any batch, and beside it the same in float16 by onnxruntime's converter."""
    import onnx

    from onnx_ghn.torch_export import module_to_onnx

    given = inputs_of(name, size, 2)
    axes = {key: {0: "batch"} for key in (*given, "output")}
    module = module_of(name, size)
    model = module_to_onnx(
        module, tuple(given.values()), input_names=[*given], output_names=["output"], dynamic_axes=axes
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".fp16.onnx")
    onnx.save(model, path)
    convert(str(path), "fp16", str(half), [])
