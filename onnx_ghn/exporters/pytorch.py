"""PyTorch: any nn.Module is exported by torch's first exporter or its second (torch.export)."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Unpack, cast

import numpy as np

from onnx_ghn.errors import CheckpointError, GraphError, OptionError
from onnx_ghn.exporters.bridge import check_options
from onnx_ghn.exporters.initializing import Initialization, initialize_live, split_keywords
from onnx_ghn.exporters.live import LiveModel
from onnx_ghn.exporters.loadable import check_loads
from onnx_ghn.exporters.module_forms import check_tensors, copy_weights, in_float32, inputs_in_float32, unwrapped
from onnx_ghn.exporters.module_inputs import n_tensors, n_tensors_read
from onnx_ghn.exporters.reports import ExportReport, LoadReport
from onnx_ghn.exporters.roundtrip import export_live, load_live
from onnx_ghn.exporters.weight_map import Array
from onnx_ghn.onnx_io import read_model
from onnx_ghn.onnx_io.inputs_read import inputs_read
from onnx_ghn.prediction.options import PredictKeywords, PredictOptions
from onnx_ghn.torch_export import TorchExportOptions

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch
    from torch import nn

    from onnx_ghn.ghn import GHN, ArrayGHN

__all__ = ["Initialization", "LiveModule", "ModuleOptions", "export", "initialize", "load", "save_weights"]

logger = logging.getLogger(__name__)

ExporterChoice = Literal["auto", "torchscript", "dynamo"]


class ModuleOptions(TorchExportOptions, total=False):
    """Options of an export, beside those of torch.onnx.export.

    Attributes:
        exporter: "torchscript" (the first exporter, which unrolls loops), "dynamo" (torch.export, which needs
            onnxscript) or "auto": the first exporter, and the second where the first fails.
        auxiliary: also export what only training computes, such as the auxiliary classifiers of GoogLeNet.
    """

    exporter: ExporterChoice
    auxiliary: bool


class LiveModule(LiveModel):
    """Adapts an nn.Module to `roundtrip.LiveModel`.

    Args:
        module: the module whose weights are read and set.
        example_inputs: inputs of its forward pass: a tensor, a tuple of positional inputs, or a dict of keyword inputs.
        exporter: see `ModuleOptions`.
        auxiliary: see `ModuleOptions`.
        wrapper: a module to export in the place of one whose forward pass needs an adapter.
        options: further options of torch.onnx.export.
    """

    framework = "torch"

    def __init__(
        self,
        module: nn.Module,
        example_inputs: object,
        *,
        exporter: ExporterChoice = "auto",
        auxiliary: bool = False,
        wrapper: nn.Module | None = None,
        **options: Unpack[TorchExportOptions],
    ) -> None:
        check_options(options, TorchExportOptions.__annotations__)
        import torch

        if exporter not in ("auto", "torchscript", "dynamo"):
            raise OptionError(f"`exporter` is {exporter!r}; it must be auto, torchscript or dynamo")
        if not isinstance(module, torch.nn.Module):
            raise OptionError(f"a {type(module).__name__} is no torch.nn.Module")
        if example_inputs is None:
            raise OptionError("a module cannot be exported without inputs for its forward pass: give `example_inputs`")
        self._module = module
        self._exported = unwrapped(module) if wrapper is None else wrapper
        self._args, self._kwargs = _inputs(example_inputs)
        self.takes_inputs = n_tensors(self._args, self._kwargs) > 0
        self._choice = exporter
        self._auxiliary = auxiliary
        self._folds = False
        self._options = options
        self._last_read: dict[str, Array] = {}
        self.exporter = f"torch {torch.__version__}"
        parameters = dict(module.named_parameters())
        state = module.state_dict(keep_vars=True)
        buffers = {name: b for name, b in module.named_buffers() if name in state and b.is_floating_point()}
        self._tensors: dict[str, torch.Tensor] = {**parameters, **buffers}
        check_tensors(self._tensors)

    def read(self) -> dict[str, Array]:
        """Copies of parameters and persistent buffers."""
        self._last_read = {name: np.array(_numpy(tensor)) for name, tensor in self._tensors.items()}
        return dict(self._last_read)

    def write(self, values: Mapping[str, Array]) -> None:
        """Set weights in place, so that optimisers that hold them stay valid."""
        import torch

        with torch.no_grad():
            for name, value in values.items():
                tensor = self._tensors[name]
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(value)).reshape(tensor.shape))

    def trainable(self) -> Set[str]:
        """Parameters that require a gradient."""
        import torch

        return {
            name
            for name, tensor in self._tensors.items()
            if isinstance(tensor, torch.nn.Parameter) and tensor.requires_grad
        }

    def convert(self, folder: Path) -> Path:
        """Convert the module by the chosen exporter. "auto" stays with the exporter that worked."""
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
                    folds=self._folds,
                    **self._options,
                )
                if self._choice == "auto":  # before the second exporter is given up
                    check_loads(path, f"torch's exporter {exporter}")
                self._check_inputs(path, exporter)
            except GraphError as error:
                if self._choice != "auto" or first is not None:
                    is_new = first is not None and str(first) != str(error)
                    raise GraphError(f"{first}; its second exporter: {error}" if is_new else str(error)) from error
                logger.info("%s; trying the second exporter", error)
                first = error
            else:
                self._choice = exporter
                self.exporter = f"{self.exporter.partition(' (')[0]} ({exporter})"
                return path
        raise AssertionError("unreachable")

    def _check_inputs(self, path: Path, exporter: str) -> None:
        """Raise GraphError for a file that depends on fewer tensors than the module does.

        A value that leaves torch on its way (numpy, a number of Python) is stored as it was for the example. The module
        is run only where the file leaves an input out, and with its own weights: the codes of an export are so small
        that differences vanish.
        """
        n_given = n_tensors(self._args, self._kwargs)
        n_in_file = len(inputs_read(read_model(path)))
        if n_in_file >= n_given:
            return
        present = {name: np.array(_numpy(tensor)) for name, tensor in self._tensors.items()}
        try:
            self.write(self._last_read)
            n_read = n_tensors_read(self._exported, self._args, self._kwargs)
        finally:
            self.write(present)
        if n_in_file < n_read:
            other = "dynamo" if exporter == "torchscript" else "torchscript"
            name = type(self._module).__name__
            raise GraphError(
                f"{name}: the file that torch's exporter {exporter} wrote depends on {n_in_file} "
                f"of the {n_read} inputs that the module reads, and holds what came of the others for the example; try "
                f"`exporter` {other}, or keep to torch's functions on the way from the inputs (no numpy, no .item())"
            )

    def elsewhere(self, model: ir.Model) -> Iterator[LiveModule]:
        """The module as torch.onnx.export writes it, by default or without folding, in the opset of a file."""
        is_newer = any(key.startswith("pkg.torch") for node in model.graph for key in node.metadata_props)
        ways: list[tuple[ExporterChoice, bool]] = [("torchscript", True), ("dynamo", False), ("dynamo", True)]
        for exporter, folds in ways[1:] + ways[:1] if is_newer else ways:
            other = copy.copy(self)
            other._choice, other._folds = exporter, folds
            other._options = {**self._options, "opset_version": model.opset_imports.get("")}
            yield other


def export(
    model: nn.Module,
    path: str | os.PathLike[str],
    example_inputs: object,
    *,
    force: bool = False,
    **options: Unpack[ModuleOptions],
) -> ExportReport:
    """Write a module as ONNX, with its batch norms and dropout in place and a map of its weights.

    Args:
        example_inputs: a tensor, a tuple of positional inputs, or a dict of keyword inputs.
        force: overwrite `path`.
        options: see `ModuleOptions`: exporter, auxiliary, input_names, dynamic_axes, opset_version, …

    Raises:
        GraphError: torch cannot export the module.
        ModelWriteError: the file exists, or cannot be written.
        OptionError: the module has no weights yet, or an option is unknown.
    """
    return export_live(LiveModule(model, example_inputs, **options), path, force=force)


def load(
    model: nn.Module,
    onnx_path: str | os.PathLike[str],
    example_inputs: object = None,
    **options: Unpack[ModuleOptions],
) -> LoadReport:
    """Set a module's weights to those of its ONNX file, in place.

    Args:
        example_inputs: as for `export`. Only a file that `export` did not write needs them.
        options: as for `export`. Only a file that `export` did not write needs them.

    Raises:
        CheckpointError: the file is of another model; the module is unchanged.
        ModelReadError: the file cannot be read.
    """
    return load_live(LiveModule(model, () if example_inputs is None else example_inputs, **options), onnx_path)


class InitializeKeywords(PredictKeywords, ModuleOptions, total=False):
    """The keyword arguments of `initialize`: those of `onnx_ghn.predict`, and those of an export."""


def initialize(
    module: nn.Module,
    example_inputs: object,
    options: PredictOptions | None = None,
    *,
    ghn: str | os.PathLike[str] | GHN | ArrayGHN | None = None,
    **keywords: Unpack[InitializeKeywords],
) -> Initialization:
    """Fill a module with predicted weights in place, by an export, a prediction and a load in memory.

    A module in half precision or float64 is filled by way of a copy in float32.

    Args:
        example_inputs: inputs of the module's forward pass: a tensor, a tuple, or a dict.
        options: how to predict; None takes the defaults.
        ghn: see `onnx_ghn.predict`.
        keywords: single fields of `PredictOptions` (include, exclude, fallback, post, post_strength, calibrate,
            unfold_batchnorm, seed), and those of `ModuleOptions`.

    Raises:
        OnnxGhnError: see `onnx_ghn.predict` and `export`. The module is then unchanged.
    """
    changes, export_options = split_keywords(keywords)
    check_options(export_options, ModuleOptions.__annotations__, predicting=True)
    options = PredictOptions.of(options, **changes)
    live = LiveModule(module, example_inputs, **cast(ModuleOptions, export_options))
    twin = in_float32(module)
    if twin is None:
        return initialize_live(live, options, ghn)
    before = {name: tensor.clone() for name, tensor in twin.state_dict().items() if hasattr(tensor, "clone")}
    live = LiveModule(twin, inputs_in_float32(example_inputs), **cast(ModuleOptions, export_options))
    initialization = initialize_live(live, options, ghn)
    copy_weights(twin, module, before)
    return initialization


def _inputs(example_inputs: object) -> tuple[tuple[object, ...], dict[str, object]]:
    """Positional and keyword inputs."""
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, tuple):
        return example_inputs, {}
    return (example_inputs,), {}


def _numpy(tensor: torch.Tensor) -> Array:
    import torch

    tensor = tensor.detach().cpu()
    # numpy has no bfloat16. The type of the array that stands in for it tells the caller.
    return tensor.view(torch.int16).numpy().view("V2") if tensor.dtype is torch.bfloat16 else tensor.numpy()


def save_weights(model: nn.Module, path: Path) -> None:
    """Save the state_dict as safetensors.

    A tied tensor is written under each of its names, as `load_state_dict` asks for all of them, and
    `from_pretrained` of transformers 4.57 leaves those that are absent without values. The format in the metadata is
    what transformers asks for.

    Raises:
        CheckpointError: the state_dict holds something else than tensors, which safetensors cannot.
    """
    import torch
    from safetensors.torch import save_file

    tensors, storages = {}, set()
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, torch.Tensor):
            raise CheckpointError(
                f"{name} of the state_dict is {type(tensor).__name__}, and safetensors holds tensors alone; load the "
                "ONNX file in Python by onnx_ghn.exporters.pytorch.load, and save the module by torch.save"
            )
        storage = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if storage in storages else tensor.contiguous()
        storages.add(storage)
    save_file(tensors, str(path), metadata={"format": "pt"})
