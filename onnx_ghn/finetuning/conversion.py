"""An ONNX classifier of images as a torch module whose parameters are the file's tensors."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from onnx_ghn.arrays import Array
from onnx_ghn.errors import OptionError, RuntimeFailure
from onnx_ghn.finetuning.endings import Ending
from onnx_ghn.finetuning.operators import register_operators
from onnx_ghn.finetuning.rewriting import ForTraining, check_operators, rewrite_for_training
from onnx_ghn.images.inputs import ImageInput
from onnx_ghn.installing import install_command
from onnx_ghn.onnx_io import write_model
from onnx_ghn.scratch import scratch_folder

__all__ = ["Classifier", "as_classifier"]

# What the converter and the code that it generates raise where they meet what they do not expect.
_FAILURES: tuple[type[Exception], ...] = (ArithmeticError, AssertionError, AttributeError, LookupError)
_FAILURES += (NotImplementedError, RuntimeError, TypeError, ValueError)


class Classifier(nn.Module):
    """(B, 3, H, W) images -> (B, classes) logits, by the graph of an ONNX file.

    Its parameters are what is trained, in the shapes that the file stores; everything else, running statistics and
    constants, are buffers.

    Args:
        net: of the converter, with buffers only.
        rewritten: what `net` was made of.
        dtype: in which the graph reads images.

    Attributes:
        ending: what the file does after the values that the loss takes; logarithms of probabilities serve as logits.
        given: how the graph takes images; N × 3 × H × W unless told.
    """

    def __init__(self, net: nn.Module, rewritten: ForTraining, dtype: torch.dtype) -> None:
        super().__init__()
        self.given: ImageInput | None = None
        self.ending = rewritten.ending
        self._rewritten, self._dtype = rewritten, dtype
        self._partly: list[tuple[nn.Parameter, Tensor, Tensor]] = []  # parameter, mask of what stays, its values
        for name in rewritten.trained:
            attribute = rewritten.names[name]
            values = net.get_buffer(attribute)
            delattr(net, attribute)
            net.register_parameter(attribute, nn.Parameter(values))
            if kept := rewritten.parameters[name].kept:
                mask = torch.zeros(values.numel(), dtype=torch.bool)
                for first, stop in kept:
                    mask[first:stop] = True
                mask = mask.reshape(values.shape)
                self._partly.append((net.get_parameter(attribute), mask, values[mask].clone()))
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        self._restore_frozen()
        images = images.to(self._dtype)
        if self.given is not None:
            images = self.given.in_layout(images)
        values: Tensor = self.net(images.contiguous())  # (B, classes)
        if self.ending is Ending.sigmoid:
            values = functional.logsigmoid(values)
        elif self.ending is Ending.probabilities:
            values = values.clamp_min(torch.finfo(values.dtype).tiny).log()
        return values

    def outputs(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, classes): the first output as the file gives it."""
        values: Tensor = self(images)
        if self.ending is Ending.softmax:
            return values.softmax(dim=1)
        return values if self.ending is Ending.none else values.exp()

    def arrays(self) -> dict[str, Array]:
        """Trained tensors and the statistics that moved, by stored name.

        Raises:
            RuntimeFailure: one is not finite.
        """
        self._restore_frozen()
        arrays: dict[str, npt.NDArray[Any]] = {}
        tensors = {**dict(self.net.named_parameters()), **dict(self.net.named_buffers())}
        for name in (*self._rewritten.trained, *self._rewritten.moved):
            tensor = tensors[self._rewritten.names[name]]
            arrays[name] = tensor.detach().cpu().numpy()
            if not np.isfinite(arrays[name]).all():
                raise RuntimeFailure(f"tensor {name!r} is not finite after training; lower `lr`")
        return arrays

    def trained(self) -> dict[str, Array]:
        """Tensors that are trained, by stored name."""
        names = self._rewritten.names
        return {name: self.net.get_parameter(names[name]).detach().cpu().numpy() for name in self._rewritten.trained}

    @torch.no_grad()
    def set_trained(self, arrays: Mapping[str, Array]) -> None:
        """Give tensors that are trained other values, by stored name."""
        for name, array in arrays.items():
            self.net.get_parameter(self._rewritten.names[name]).copy_(torch.from_numpy(np.array(array)))

    @torch.no_grad()
    def _restore_frozen(self) -> None:
        """Momentum and weight decay move the elements that the exported model does not train, too."""
        for parameter, mask, values in self._partly:
            parameter[mask.to(parameter.device)] = values.to(parameter)


def as_classifier(
    path: str | os.PathLike[str],
    *,
    freeze: Sequence[str] = (),
    train: Sequence[str] = (),
) -> tuple[Classifier, ForTraining]:
    """Read a file and convert it by onnx2fx.

    Args:
        freeze, train: see `rewrite_for_training`.

    Raises:
        OptionError: onnx2fx is not installed. ModelReadError, GraphError, RuntimeFailure: a file that cannot be read,
            trained or converted.
    """
    try:
        import onnx2fx
    except ModuleNotFoundError as error:
        raise OptionError(f"finetune needs onnx2fx: {install_command('finetune')}") from error
    failures: tuple[type[Exception], ...] = (onnx2fx.Onnx2FxError, *_FAILURES)
    register_operators()
    rewritten = rewrite_for_training(os.fspath(path), freeze, train)
    check_operators(rewritten.model, onnx2fx.is_supported)
    try:
        with scratch_folder() as folder:
            copy = Path(folder) / "model.onnx"
            write_model(rewritten.model, copy, scratch=True)
            net = onnx2fx.convert(onnx.load(copy))
    except OSError as error:
        raise RuntimeFailure(f"{path}: no room for a temporary copy ({error.strerror}); set TMPDIR") from error
    except failures as error:
        raise RuntimeFailure(f"{path}: onnx2fx cannot convert it ({error}); train it in its own framework") from error
    given = rewritten.model.graph.inputs[0].dtype
    kind = "unknown" if given is None else given.name.lower()
    dtype = {"float": torch.float32, "double": torch.float64}.get(kind)
    if dtype is None:
        raise RuntimeFailure(f"{path}: its input is of type {kind}; export it with an input of float32 to train it")
    return Classifier(net, rewritten, dtype), rewritten
