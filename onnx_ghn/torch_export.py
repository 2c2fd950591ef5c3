"""Exports of torch modules to ONNX by either of torch's exporters, with batch norms and dropout left in place."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, cast

from onnx_ghn.errors import GraphError

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir
    import torch
    from torch import nn

__all__ = ["Exporter", "TorchExportOptions", "distinct_weights", "module_to_file", "module_to_onnx", "state_kept"]

Exporter = Literal["torchscript", "dynamo"]

_OPSET = {"torchscript": 17, "dynamo": 18}
_INSIDE_LIMIT = 3 << 29  # bytes of weights inside the file; more are written beside it, since protobuf ends at 2 GiB

DynamicAxes = Mapping[str, Mapping[int, str] | Sequence[int]]


class TorchExportOptions(TypedDict, total=False):
    """Options of `torch.onnx.export`, which documents them."""

    input_names: Sequence[str] | None
    output_names: Sequence[str] | None
    opset_version: int | None
    dynamic_axes: DynamicAxes | None
    dynamic_shapes: Mapping[str, object] | Sequence[object] | None
    export_params: bool
    keep_initializers_as_inputs: bool
    custom_opsets: Mapping[str, int] | None
    autograd_inlining: bool
    custom_translation_table: Mapping[Callable[..., object], Callable[..., object]] | None
    report: bool
    verify: bool
    profile: bool
    dump_exported_program: bool
    artifacts_dir: str | os.PathLike[str]


def module_to_onnx(
    module: nn.Module,
    example: tuple[object, ...],
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_axes: DynamicAxes | None = None,
) -> onnx.ModelProto:
    """Export a module by torch's first exporter, which keeps the names of parameters.

    The second exporter takes ten times as long and needs onnxscript. Afterwards the module is in its own modes again.

    Args:
        example: positional inputs of the module's forward pass.

    Raises:
        GraphError: torch cannot export the module.
    """
    import onnx

    data = io.BytesIO()
    options: TorchExportOptions = {"input_names": input_names, "output_names": output_names}
    options["dynamic_axes"] = dynamic_axes
    module_to_file(module, example, {}, data, "torchscript", **options)
    return onnx.load_from_string(data.getvalue())


@contextlib.contextmanager
def distinct_weights(module: nn.Module) -> Iterator[None]:
    """Fill a module with random weights, so that the exporter does not merge equal ones (all ones, all zeros).

    This is for exports whose names and shapes alone are of interest. Afterwards the module has its own weights again.
    """
    import torch

    own = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(own[name])


def module_to_file(
    module: nn.Module,
    example: tuple[object, ...],
    kwargs: Mapping[str, object],
    path: Path | io.BytesIO,
    exporter: Exporter,
    *,
    auxiliary: bool = False,
    folds: bool = False,
    **options: Unpack[TorchExportOptions],
) -> None:
    """Write a module as an ONNX file. Weights that are too large for one file are written beside it.

    Args:
        example: positional inputs of the module's forward pass.
        kwargs: keyword inputs of the module's forward pass.
        path: the file, or, for the first exporter, a buffer.
        folds: let the exporter compute with constants, as it does by default; batch norms are folded then.
        auxiliary: put the outermost module alone into training mode, so that it computes its auxiliary heads.
        options: further options of torch.onnx.export.

    Raises:
        GraphError: torch cannot export the module.
    """
    import torch

    given = {name: value for name, value in options.items() if value is not None}
    settings: dict[str, Any] = {"opset_version": _OPSET[exporter], **given}
    if exporter == "torchscript":
        settings.update(
            dynamo=False,
            # By default batch norms are folded into convolutions.
            training=torch.onnx.TrainingMode.EVAL if folds else torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=folds,
        )
    else:
        size_bytes = sum(parameter.nbytes for parameter in module.parameters())
        # The optimiser of this exporter folds batch norms, so it is switched off.
        settings.update(dynamo=True, optimize=folds, verbose=False, external_data=size_bytes > _INSIDE_LIMIT)
    _check_operators(module)
    _check_observers(module)
    # With gradients torch.export traces other layouts of attention, which its decompositions then cannot view.
    with state_kept(module), _plain_attention(), _quiet(), torch.no_grad():
        with contextlib.suppress(NotImplementedError):  # what torch.export made has one mode
            module.eval()
        module.training = auxiliary
        try:
            # The first exporter also writes to a buffer, which its types do not tell.
            file = cast("os.PathLike[str]", path)
            program = torch.onnx.export(module, example, file, kwargs=dict(kwargs) or None, **settings)
            if program is not None and "opset_version" not in given:
                needed = _opset_needed(program.model, _OPSET["dynamo"])
                if needed > _OPSET["dynamo"]:
                    settings["opset_version"] = needed
                    program = torch.onnx.export(module, example, file, kwargs=dict(kwargs) or None, **settings)
            if exporter == "dynamo" and not folds and program is not None:
                _name_apart(program, file, settings)
        except Exception as error:
            raise GraphError(f"{type(module).__name__}: torch cannot export it ({_first_line(error)})") from error


def _opset_needed(model: ir.Model, opset: int) -> int:
    """The first opset, this one or a later one, that has all operators of a model.

    Torch 2.14 writes a deformable convolution into an opset that has none (18) as it does into those that have (19).
    """
    import onnx

    needed = opset
    for op_type in {node.op_type for node in model.graph.all_nodes() if not node.domain}:
        while not onnx.defs.has(op_type, max_inclusive_version=needed) and needed < onnx.defs.onnx_opset_version():
            needed += 1
    return needed


def _name_apart(program: torch.onnx.ONNXProgram, path: os.PathLike[str], settings: Mapping[str, Any]) -> None:
    """Write a program again whose values share names with parameters or inputs.

    Torch 2.14 names what `x.exp()` gives "exp", and a parameter of the module as the module does, which may be "exp" or
    "x", too. Its optimiser, which is off here, ends with the pass that tells such names apart; without it no runtime
    loads the file, or reads a parameter where the input is meant.
    """
    from onnx_ir.passes.common import NameFixPass

    if NameFixPass()(program.model).modified:
        program.save(
            path,
            include_initializers=settings.get("export_params", True),
            keep_initializers_as_inputs=settings.get("keep_initializers_as_inputs", False),
            external_data=settings["external_data"],
        )


def _check_operators(module: nn.Module) -> None:
    """Raise GraphError for a layer that torch exports as something that no runtime runs."""
    import torch

    for name, part in module.named_modules():
        if isinstance(part, torch.nn.LSTM) and part.proj_size > 0:
            raise GraphError(
                f"{type(module).__name__}: layer {name!r} is an LSTM with proj_size {part.proj_size}, which no ONNX "
                "operator computes: torch drops the projection; use an LSTM without proj_size and a Linear behind it"
            )


def _check_observers(module: nn.Module) -> None:
    """Raise GraphError for a module that is prepared for a quantisation: what it observes changes while it is exported.

    Torch's second exporter (2.14) ends the whole process there.
    """
    from torch.ao.quantization import ObserverBase

    for name, part in module.named_modules():
        if isinstance(part, ObserverBase):
            raise GraphError(
                f"{type(module).__name__}: layer {name!r} observes values for a quantisation; "
                "initialize or export the module before it is prepared for it"
            )


def _first_line(error: BaseException) -> str:
    """The first line of the first cause, which torch wraps in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300]


@contextlib.contextmanager
def state_kept(module: nn.Module) -> Iterator[None]:
    """Give a module its modes and buffers back afterwards: its forward pass may count, or average what it sees."""
    import torch

    modes = [(part, part.training) for part in module.modules()]
    buffers = [
        (part, name, buffer, buffer.clone())
        for part in module.modules()
        for name, buffer in part.named_buffers(recurse=False)
        if type(buffer.detach()) is torch.Tensor and not buffer.is_meta and not buffer.is_quantized
    ]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
        for part, name, buffer, values in buffers:
            if isinstance(part._buffers, dict):  # a forward pass may also put another tensor in its place
                part._buffers[name] = buffer
            if not torch.equal(buffer, values):
                with torch.no_grad():
                    buffer.copy_(values)


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Let torch compute encoder layers by single operators: no exporter knows the fused one."""
    import torch

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporters' warnings about themselves, and the programs that they log when they fail."""
    import torch

    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    native: Any = torch._C
    # Torch 2.14 and 2.15 turn on for every export what prints a failed program, from Python and from within, and never
    # turn it off.
    enable = getattr(native, "_jit_set_onnx_log_enabled", None)
    was_enabled = enable is not None and native._jit_is_onnx_log_enabled()
    if enable is not None:
        enable(False)
        native._jit_set_onnx_log_enabled = lambda enabled: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if enable is not None:
            native._jit_set_onnx_log_enabled = enable
            enable(was_enabled)
        logging.disable(level)
