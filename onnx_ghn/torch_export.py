"""torch modules as ONNX models with their batch norms and dropout kept."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from onnx_ghn.errors import GraphError

if TYPE_CHECKING:
    import onnx
    from torch import nn

__all__ = ["module_to_onnx"]

_OPSET = 17


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
    import torch

    data = io.BytesIO()
    modes = [(part, part.training) for part in module.modules()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's, about itself
            torch.onnx.export(
                module.eval(),
                example,
                data,
                dynamo=False,
                training=torch.onnx.TrainingMode.PRESERVE,  # else batch norms are folded into the convolutions
                do_constant_folding=False,
                opset_version=_OPSET,
                input_names=input_names,
                output_names=output_names,
                dynamic_axes=dynamic_axes,
            )
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        raise GraphError(f"{type(module).__name__}: torch cannot export it ({error})") from error
    finally:
        for part, training in modes:
            part.training = training
    return onnx.load_from_string(data.getvalue())
