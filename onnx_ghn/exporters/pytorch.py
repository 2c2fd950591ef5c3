"""PyTorch: any nn.Module, by torch's first exporter or its second (torch.export)."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import GraphError, OptionError
from onnx_ghn.exporters.reports import ExportReport, LoadReport
from onnx_ghn.exporters.roundtrip import export_live, load_live, to_model

if TYPE_CHECKING:
    import torch
    from torch import nn

    from onnx_ghn.ghn import GHN
    from onnx_ghn.prediction.coverage import CoverageReport

__all__ = ["Initialization", "LiveModule", "export", "initialize", "load", "save_weights"]

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]
Choice = Literal["auto", "torchscript", "dynamo"]


class LiveModule:
    """An nn.Module for `roundtrip`.

    Args:
        module: whose weights are read and set.
        example_inputs: of its forward pass: a tensor, a tuple of positional ones, or a dict by name.
        exporter: "torchscript" (the first; keeps loops unrolled), "dynamo" (torch.export; needs onnxscript), or
            "auto": the first, and where it fails the second.
        auxiliary: export what only training computes, too (GoogLeNet's auxiliary classifiers).
        wrapper: what to export in the module's place, where its forward pass needs an adapter.
        options: further ones of torch.onnx.export (input_names, dynamic_axes, dynamic_shapes, opset_version, …).
    """

    framework = "torch"
    numbered = False

    def __init__(
        self,
        module: nn.Module,
        example_inputs: Any,
        *,
        exporter: Choice = "auto",
        auxiliary: bool = False,
        wrapper: nn.Module | None = None,
        **options: Any,
    ) -> None:
        import torch

        if exporter not in ("auto", "torchscript", "dynamo"):
            raise OptionError(f"exporter {exporter!r} must be auto, torchscript or dynamo")
        if not isinstance(module, torch.nn.Module):
            raise OptionError(f"a {type(module).__name__} is no torch.nn.Module")
        self._module = module
        self._exported = module if wrapper is None else wrapper
        self._args, self._kwargs = _inputs(example_inputs)
        self._choice = exporter
        self._auxiliary = auxiliary
        self._options = options
        self.exporter = f"torch {torch.__version__}"
        parameters = dict(module.named_parameters())
        state = module.state_dict(keep_vars=True)
        buffers = {name: b for name, b in module.named_buffers() if name in state and b.is_floating_point()}
        self._tensors: dict[str, torch.Tensor] = {**parameters, **buffers}
        if any(isinstance(tensor, torch.nn.parameter.UninitializedTensorMixin) for tensor in self._tensors.values()):
            raise OptionError("the module has lazy layers without weights yet: call it once on an input")
        if any(tensor.is_meta for tensor in self._tensors.values()):
            raise OptionError(
                "the module is on the meta device: it has no weights to set; use module.to_empty(device='cpu')"
            )

    def read(self) -> dict[str, Array]:
        """Copies of parameters and persistent buffers."""
        return {name: np.array(_numpy(tensor)) for name, tensor in self._tensors.items()}

    def write(self, values: Mapping[str, Array]) -> None:
        """Set them in place: optimisers that hold them go on."""
        import torch

        with torch.no_grad():
            for name, value in values.items():
                tensor = self._tensors[name]
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(value)).reshape(tensor.shape))

    def trainable(self) -> Set[str]:
        """Parameters that require a gradient."""
        import torch

        return {n for n, t in self._tensors.items() if isinstance(t, torch.nn.Parameter) and t.requires_grad}

    def convert(self, folder: Path) -> Path:
        """By the exporter that was asked for; "auto" stays with the one that worked."""
        from onnx_ghn.torch_export import module_to_file

        first: GraphError | None = None
        for exporter in ("torchscript", "dynamo") if self._choice == "auto" else (self._choice,):
            path = folder / f"{exporter}.onnx"
            try:
                module_to_file(
                    self._exported,
                    self._args,
                    self._kwargs,
                    path,
                    exporter,
                    auxiliary=self._auxiliary,
                    **self._options,
                )
            except GraphError as error:
                if self._choice != "auto" or first is not None:
                    raise GraphError(f"{first}; its second exporter: {error}" if first else str(error)) from error
                logger.info("%s; trying the second exporter", error)
                first = error
            else:
                self._choice = exporter
                self.exporter = f"{self.exporter.partition(' (')[0]} ({exporter})"
                return path
        raise AssertionError("unreachable")


def export(
    model: nn.Module, path: str | os.PathLike[str], example_inputs: Any, *, force: bool = False, **options: Any
) -> ExportReport:
    """Write a module as ONNX, its batch norms and dropout kept and each of its weights traced.

    Args:
        example_inputs: a tensor, a tuple of positional inputs, or a dict of keyword inputs.
        force: overwrite `path`.
        options: see `LiveModule`: exporter, auxiliary, input_names, dynamic_axes, opset_version, …

    Raises:
        GraphError: torch cannot export it. ModelWriteError. OptionError.
    """
    return export_live(LiveModule(model, example_inputs, **options), path, force=force)


def load(model: nn.Module, onnx_path: str | os.PathLike[str], example_inputs: Any = None, **options: Any) -> LoadReport:
    """Set a module's weights to those of an ONNX file of it, in place.

    Args:
        example_inputs, options: as of `export`, for a file that it did not write, which is compared with one it would.

    Raises:
        CheckpointError: the file is of another model; the module is unchanged. ModelReadError.
    """
    return load_live(LiveModule(model, () if example_inputs is None else example_inputs, **options), onnx_path)


@dataclasses.dataclass(frozen=True)
class Initialization:
    """What `initialize` did: the coverage of the prediction, and the weights that kept their values."""

    coverage: CoverageReport
    load: LoadReport
    ghn_name: str

    def __repr__(self) -> str:
        kept = f", {len(self.load.left)} weights kept" if self.load.left else ""
        return f"Initialization(by {self.ghn_name}: {self.coverage!r}{kept})"


def initialize(
    module: nn.Module,
    example_inputs: Any,
    *,
    ghn: str | os.PathLike[str] | GHN | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    fallback: Literal["standard", "keep"] = "standard",
    post: str = "none",
    calibrate: str | os.PathLike[str] = "noise",
    seed: int = 0,
    **options: Any,
) -> Initialization:
    """Fill a module with predicted weights, in place: export, prediction and load in memory.

    Args:
        example_inputs: of the module's forward pass: a tensor, a tuple, or a dict.
        ghn, include, exclude, fallback, post, calibrate, seed: see `onnx_ghn.predict`.
        options: see `LiveModule`.

    Raises:
        OnnxGhnError: see `onnx_ghn.predict` and `export`. The module is then unchanged.
    """
    from onnx_ghn.prediction.predicting import predict

    live = LiveModule(module, example_inputs, **options)
    with to_model(live) as exported:
        prediction = predict(
            exported.model,
            ghn=ghn,
            include=include,
            exclude=exclude,
            fallback=fallback,
            post=post,
            calibrate=calibrate,
            seed=seed,
        )
        report = load_live(live, prediction.model)
    return Initialization(prediction.coverage, report, prediction.ghn_name)


def _inputs(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """As positional and keyword inputs."""
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, tuple):
        return example_inputs, {}
    return (example_inputs,), {}


def _numpy(tensor: torch.Tensor) -> Array:
    import torch

    tensor = tensor.detach().cpu()
    # numpy has no bfloat16: the caller learns of it from the type that it gets instead.
    return tensor.view(torch.int16).numpy().view("V2") if tensor.dtype is torch.bfloat16 else tensor.numpy()


def save_weights(model: nn.Module, path: Path) -> None:
    """The state_dict as safetensors; tensors that are shared are written once."""
    from safetensors.torch import save_model

    save_model(model, str(path))
