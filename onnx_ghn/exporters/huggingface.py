"""Hugging Face transformers: any PreTrainedModel, through the exporters of PyTorch."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_ghn.errors import OptionError
from onnx_ghn.exporters.missing import require
from onnx_ghn.exporters.pytorch import LiveModule
from onnx_ghn.exporters.reports import ExportReport, LoadReport
from onnx_ghn.exporters.roundtrip import export_live, load_live

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

__all__ = ["LiveTransformer", "example_inputs", "export", "load", "save_weights"]

_LENGTH = 8  # tokens of an example text
_SAMPLES = 16_000  # of an example sound: one second


class LiveTransformer(LiveModule):
    """A PreTrainedModel for `roundtrip`: outputs as a tuple, no cache, attention as plain products and Softmax.

    Args:
        inputs: by name, as its forward pass takes them; None makes some from the config.
        options: of `LiveModule`.
    """

    framework = "hf"

    def __init__(self, model: PreTrainedModel, inputs: Mapping[str, Any] | None = None, **options: Any) -> None:
        transformers = require("transformers", "hf")
        if not isinstance(model, transformers.PreTrainedModel):
            raise OptionError(f"a {type(model).__name__} is no transformers.PreTrainedModel; export it as PyTorch")
        given = example_inputs(model) if inputs is None else dict(inputs)
        super().__init__(model, tuple(given.values()), wrapper=_plain(model, tuple(given)), **options)
        self._options.setdefault("input_names", list(given))
        self._model = model
        self.exporter += f", transformers {transformers.__version__}"

    def convert(self, folder: Path) -> Path:
        """As PyTorch, with attention written out."""
        with _written_out(self._model):
            return super().convert(folder)


def export(
    model: PreTrainedModel,
    path: str | os.PathLike[str],
    example_inputs: Mapping[str, Any] | None = None,
    *,
    force: bool = False,
    **options: Any,
) -> ExportReport:
    """Write a transformer as ONNX, each of its weights traced.

    Args:
        example_inputs: by name; None makes some from the config.
        force: overwrite `path`.
        options: see `pytorch.LiveModule`.

    Raises:
        GraphError: torch cannot export it. ModelWriteError. OptionError: no inputs are known, or not installed.
    """
    return export_live(LiveTransformer(model, example_inputs, **options), path, force=force)


def load(
    model: PreTrainedModel,
    onnx_path: str | os.PathLike[str],
    example_inputs: Mapping[str, Any] | None = None,
    **options: Any,
) -> LoadReport:
    """Set a transformer's weights to those of an ONNX file of it, in place.

    Raises:
        CheckpointError: the file is of another model; this one is unchanged. ModelReadError.
    """
    return load_live(LiveTransformer(model, example_inputs, **options), onnx_path)


def save_weights(model: PreTrainedModel, path: Path) -> None:
    """As safetensors."""
    from onnx_ghn.exporters import pytorch

    pytorch.save_weights(model, path)


def example_inputs(model: PreTrainedModel) -> dict[str, Any]:
    """One example of each input that a model's config and forward pass ask for.

    Raises:
        OptionError: inputs of another kind.
    """
    import torch

    accepted = inspect.signature(model.forward).parameters
    config = model.config
    main = model.main_input_name
    inputs: dict[str, Any] = {}
    if main == "input_ids" or ("input_ids" in accepted and "pixel_values" in accepted):
        inputs["input_ids"] = torch.ones(1, _LENGTH, dtype=torch.long)
        if "attention_mask" in accepted:
            inputs["attention_mask"] = torch.ones(1, _LENGTH, dtype=torch.long)
    if main == "pixel_values" or "pixel_values" in accepted:
        inputs["pixel_values"] = torch.zeros(1, *_image_shape(config))
    if main == "input_values" and _of(config, "max_length", "num_mel_bins") and not hasattr(config, "conv_dim"):
        inputs["input_values"] = torch.zeros(1, config.max_length, config.num_mel_bins)  # spectrograms
    elif main == "input_values":
        inputs["input_values"] = torch.zeros(1, _SAMPLES)
    elif main == "input_features":
        frames = 2 * getattr(config, "max_source_positions", 1500)
        inputs["input_features"] = torch.zeros(1, config.num_mel_bins, frames)
    if not inputs:
        raise OptionError(f"{type(model).__name__} takes {main!r}: give example_inputs as a dict")
    if config.is_encoder_decoder and "decoder_input_ids" in accepted:
        inputs["decoder_input_ids"] = torch.ones(1, 4, dtype=torch.long)
    return inputs


def _of(config: Any, *names: str) -> bool:
    return all(hasattr(config, name) for name in names)


def _image_shape(config: Any) -> tuple[int, int, int]:
    vision = getattr(config, "vision_config", None) or config
    size = getattr(vision, "image_size", None) or 224
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return getattr(vision, "num_channels", 3), height, width


def _plain(model: PreTrainedModel, names: tuple[str, ...]) -> nn.Module:
    """The model as a module of positional tensors that gives a tuple of tensors."""
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
def _written_out(model: PreTrainedModel) -> Iterator[None]:
    """Fused attention has no Softmax that a graph could show, and the first exporter does not know its newest form."""
    kept = getattr(model.config, "_attn_implementation", None)
    if kept in (None, "eager"):
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(kept)
