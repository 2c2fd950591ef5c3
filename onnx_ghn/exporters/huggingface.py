"""Hugging Face transformers: any PreTrainedModel is exported by the exporters of PyTorch."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from onnx_ghn.errors import OptionError
from onnx_ghn.exporters.bridge import Bridge
from onnx_ghn.exporters.pytorch import LiveModule, ModuleOptions, save_weights
from onnx_ghn.installing import require

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel

__all__ = ["LiveTransformer", "example_inputs", "export", "initialize", "load", "save_weights"]

_LENGTH = 8  # tokens of an example text
_SAMPLES = 16_000  # samples of an example sound, which is one second long


class LiveTransformer(LiveModule):
    """Adapts a PreTrainedModel to `roundtrip.LiveModel`.

    The exported model returns a tuple, keeps no cache, and computes attention as plain products and a Softmax.

    Args:
        inputs: the inputs of its forward pass by name; None makes some from the config.
        options: see `pytorch.ModuleOptions`.
    """

    framework = "hf"

    def __init__(
        self,
        model: PreTrainedModel,
        inputs: Mapping[str, torch.Tensor] | None = None,
        **options: Unpack[ModuleOptions],
    ) -> None:
        transformers = require("transformers", "hf")
        if not isinstance(model, transformers.PreTrainedModel):
            raise OptionError(f"a {type(model).__name__} is no transformers.PreTrainedModel; use the PyTorch exporter")
        examples = example_inputs(model) if inputs is None else dict(inputs)
        super().__init__(model, tuple(examples.values()), wrapper=_plain(model, tuple(examples)), **options)
        self._options.setdefault("input_names", list(examples))
        self._model = model
        self.exporter += f", transformers {transformers.__version__}"

    def convert(self, folder: Path) -> Path:
        """Convert the model as a PyTorch module, with attention as plain operators."""
        with _eager_attention(self._model), _batched_experts(self._model):
            return super().convert(folder)


_bridge = Bridge(LiveTransformer, ModuleOptions.__annotations__)
export, load, initialize = _bridge.export, _bridge.load, _bridge.initialize


def example_inputs(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Make one example of each input that a model's config and forward pass ask for.

    Raises:
        OptionError: the model takes inputs of another kind.
    """
    import torch

    accepted = inspect.signature(model.forward).parameters
    config = model.config
    main = model.main_input_name
    inputs: dict[str, torch.Tensor] = {}
    if main == "input_ids" or ("input_ids" in accepted and "pixel_values" in accepted):
        inputs["input_ids"] = torch.ones(1, _LENGTH, dtype=torch.long)
        if "attention_mask" in accepted:
            inputs["attention_mask"] = torch.ones(1, _LENGTH, dtype=torch.long)
    if main == "pixel_values" or "pixel_values" in accepted:
        inputs["pixel_values"] = torch.zeros(1, *_image_shape(config))
    if main == "input_values" and _has(config, "max_length", "num_mel_bins") and not hasattr(config, "conv_dim"):
        inputs["input_values"] = torch.zeros(1, config.max_length, config.num_mel_bins)  # spectrograms
    elif main == "input_values":
        inputs["input_values"] = torch.zeros(1, _SAMPLES)
    elif main == "input_features":
        frames = 2 * getattr(config, "max_source_positions", 1500)
        inputs["input_features"] = torch.zeros(1, config.num_mel_bins, frames)
    if not inputs:
        raise OptionError(f"{type(model).__name__} takes {main!r}: give `example_inputs` as a dict")
    if config.is_encoder_decoder and "decoder_input_ids" in accepted:
        inputs["decoder_input_ids"] = torch.ones(1, 4, dtype=torch.long)
    return inputs


def _has(config: PretrainedConfig, *names: str) -> bool:
    return all(hasattr(config, name) for name in names)


def _image_shape(config: PretrainedConfig) -> tuple[int, int, int]:
    vision = getattr(config, "vision_config", None) or config
    size = getattr(vision, "image_size", None) or 224
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return getattr(vision, "num_channels", 3), height, width


def _plain(model: PreTrainedModel, names: tuple[str, ...]) -> nn.Module:
    """The model as a module that takes positional tensors and returns a tuple of tensors."""
    import torch

    cached = "use_cache" in inspect.signature(model.forward).parameters

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            options = {"use_cache": False} if cached else {}
            outputs = self.model(**dict(zip(names, inputs, strict=True)), **options, return_dict=True)
            return tuple(value for value in outputs.values() if isinstance(value, torch.Tensor))

    Plain.__name__ = type(model).__name__
    return Plain()


@contextlib.contextmanager
def _eager_attention(model: PreTrainedModel) -> Iterator[None]:
    """Let a model compute attention as plain products and a Softmax for the time of the context.

    A graph of fused attention shows no Softmax, and torch's first exporter does not know its newest form.
    """
    implementation = getattr(model.config, "_attn_implementation", None)
    if implementation in (None, "eager"):
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(implementation)


@contextlib.contextmanager
def _batched_experts(model: PreTrainedModel) -> Iterator[None]:
    """Let a mixture of experts be computed as batched products for the time of the context.

    Its default is an operator that no exporter knows, and a loop over experts depends on the data.
    """
    implementation = getattr(model.config, "_experts_implementation", None)
    if not hasattr(model, "set_experts_implementation") or implementation in (None, "batched_mm"):
        yield
        return
    model.set_experts_implementation("batched_mm")
    try:
        yield
    finally:
        model.set_experts_implementation(implementation)
