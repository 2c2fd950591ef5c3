"""torch modules as ONNX models with their batch norms and dropout kept, by either of torch's exporters."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from onnx_ghn.errors import GraphError

if TYPE_CHECKING:
    import onnx
    from torch import nn

__all__ = ["Exporter", "distinct_weights", "module_to_file", "module_to_onnx"]

Exporter = Literal["torchscript", "dynamo"]

_OPSET = {"torchscript": 17, "dynamo": 18}
_INSIDE_LIMIT = 3 << 29  # bytes of weights: more goes beside the file, since protobuf ends at 2 GiB


def module_to_onnx(
    module: nn.Module,
    example: tuple[Any, ...],
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_axes: Mapping[str, Mapping[int, str]] | None = None,
) -> onnx.ModelProto:
    """Export by torch's first exporter, which keeps parameter names; the module's modes are afterwards as they were.

    The second exporter takes ten times as long and needs onnxscript.

    Args:
        example: positional inputs.

    Raises:
        GraphError: torch cannot export the module.
    """
    import onnx

    data = io.BytesIO()
    names = {"input_names": input_names, "output_names": output_names, "dynamic_axes": dynamic_axes}
    _export(module, example, {}, data, "torchscript", names, auxiliary=False)
    return onnx.load_from_string(data.getvalue())


@contextlib.contextmanager
def distinct_weights(module: nn.Module) -> Iterator[None]:
    """Random numbers for weights, so that the exporter does not merge those that are equal (all ones, all zeros).

    For exports of which only names and shapes are wanted. The module has its own weights again afterwards.
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
    example: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    path: Path,
    exporter: Exporter,
    *,
    auxiliary: bool = False,
    **names: Any,
) -> None:
    """Write a module as an ONNX file, with weights beside it where they are too many for one.

    Args:
        example, kwargs: inputs of the module's forward pass.
        auxiliary: tell the outermost module, and it alone, that it trains: it then computes its auxiliary heads.
        names: further options of torch.onnx.export.

    Raises:
        GraphError: torch cannot export the module.
    """
    _export(module, example, kwargs, path, exporter, names, auxiliary)


def _export(
    module: nn.Module,
    example: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    target: Path | io.BytesIO,
    exporter: Exporter,
    names: Mapping[str, Any],
    auxiliary: bool,
) -> None:
    import torch

    options: dict[str, Any] = {"opset_version": _OPSET[exporter], **{k: v for k, v in names.items() if v is not None}}
    if exporter == "torchscript":
        options.update(
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,  # else batch norms are folded into the convolutions
            do_constant_folding=False,
        )
    else:
        size_bytes = sum(parameter.nbytes for parameter in module.parameters())
        # Its optimiser folds batch norms.
        options.update(dynamo=True, optimize=False, verbose=False, external_data=size_bytes > _INSIDE_LIMIT)
    with _modes_kept(module), _quiet():
        module.eval()
        module.training = auxiliary
        try:
            torch.onnx.export(module, example, target, kwargs=dict(kwargs) or None, **options)
        except Exception as error:
            raise GraphError(f"{type(module).__name__}: torch cannot export it ({_first_line(error)})") from error


def _first_line(error: BaseException) -> str:
    """What went wrong first: torch wraps causes in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300]


@contextlib.contextmanager
def _modes_kept(module: nn.Module) -> Iterator[None]:
    import torch

    modes = [(part, part.training) for part in module.modules()]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # a fused encoder layer that no exporter knows
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for part, training in modes:
            part.training = training


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' warnings about themselves, and the programs that they log when they fail."""
    import torch

    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    native: Any = torch._C
    # What prints a failed program asks whether it should of a function that it does not call (torch 2.14).
    log = getattr(native, "_jit_onnx_log", None)
    if log is not None:
        native._jit_onnx_log = lambda *what: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if log is not None:
            native._jit_onnx_log = log
        logging.disable(level)
