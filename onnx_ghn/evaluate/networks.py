"""Accuracy of networks with predicted tensors, of torch modules and of ONNX files, on batches of torch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from onnx_ghn.arrays import Array
from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.evaluate.onnx_files import Statistics, onnx_scores, with_statistics
from onnx_ghn.evaluate.scoring import Accuracy, accuracy_of
from onnx_ghn.images.inputs import image_input
from onnx_ghn.installing import NotInstalledError, install_command

if TYPE_CHECKING:
    from torch import Tensor, nn

    from onnx_ghn.deepnets1m import Architecture
    from onnx_ghn.vision import Batch

__all__ = ["Logits", "accuracy", "architecture_logits", "batch_statistics_mode", "onnx_logits"]

Logits = Callable[["Tensor"], "Tensor"]


def accuracy(logits: Logits, batches: Iterable[Batch], progress: Callable[[int], None] | None = None) -> Accuracy:
    """Run a classifier over batches.

    Args:
        logits: (B, 3, H, W) images -> (B, classes). Answers that are not finite count as wrong.
        progress: told of each batch's images.

    Raises:
        RuntimeFailure: no images, or more classes in the data than the classifier has.
    """
    import torch

    def scores(images: Tensor) -> Array:
        with torch.no_grad():
            return logits(images).float().cpu().numpy()  # (B, classes)

    return accuracy_of(scores, ((images, labels.cpu().numpy()) for images, labels in batches), progress)


def architecture_logits(
    architecture: Architecture,
    tensors: Mapping[str, Tensor],
    *,
    large_images: bool = False,
    bfloat16: bool = False,
) -> Logits:
    """A DeepNets-1M network on given tensors, its batch norms on the statistics of each batch (as published).

    Args:
        tensors: by parameter name.
        bfloat16: compute in that type, twice as fast on CPUs that have it; accuracies differ by a tenth of a percent.
    """
    import torch

    from onnx_ghn.deepnets1m.functional import run_network

    dtype = torch.bfloat16 if bfloat16 else torch.float32

    def logits(images: Tensor) -> Tensor:
        images = images.to(dtype).contiguous(memory_format=torch.channels_last)
        return run_network(architecture, tensors, images, large_images=large_images)

    return logits


@contextlib.contextmanager
def batch_statistics_mode(module: nn.Module) -> Iterator[Logits]:
    """A torch module in evaluation mode but for its batch norms, which use the statistics of each batch.

    Running statistics, momentum and mode are afterwards as they were.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    modes = [(layer, layer.training) for layer in module.modules()]
    tracked = [(layer, layer.track_running_stats, layer.running_mean, layer.running_var) for layer in norms]
    module.eval()
    for layer in norms:
        layer.track_running_stats, layer.running_mean, layer.running_var = False, None, None
    try:
        yield module
    finally:
        for layer, tracks, mean, variance in tracked:
            layer.track_running_stats, layer.running_mean, layer.running_var = tracks, mean, variance
        for part, training in modes:
            part.training = training


@contextlib.contextmanager
def onnx_logits(
    path: str | os.PathLike[str],
    *,
    statistics: Statistics = "stored",
    backend: Literal["onnxruntime", "torch"] = "onnxruntime",
    device: str | None = None,
    threads: int | None = None,
) -> Iterator[Logits]:
    """An ONNX classifier of images as a function of (B, 3, H, W), whichever order of axes it takes; its first output.

    Args:
        statistics: batch norms use what the file stores, or those of each batch.
        backend: onnxruntime, or torch by the package onnx2fx.
        device: cpu or cuda; cuda where there is one, unless told.
        threads: of onnxruntime, on the CPU; as many as there are cores, unless told.

    Raises:
        OptionError: a backend that is not installed or not for that device, or a model with other inputs.
        RuntimeFailure: a model that cannot be run.
    """
    import torch

    if backend == "torch":
        with with_statistics(path, statistics) as file:
            yield _as_module(file, device)
        return
    with onnx_scores(path, statistics=statistics, device=device, threads=threads) as scores:
        yield lambda images: torch.from_numpy(scores(images.cpu().numpy()))


def _as_module(path: str | os.PathLike[str], device: str | None) -> Logits:
    import torch

    try:
        import onnx2fx
    except ModuleNotFoundError as error:
        raise NotInstalledError(f"evaluating with torch needs onnx2fx: {install_command('finetune')}") from error
    from onnx_ghn.onnx_io import read_model

    graph = read_model(path).graph  # refuses what is unsafe or damaged, in one line
    inputs = [value for value in graph.inputs if value.name not in graph.initializers]
    given = image_input((value.name or "", tuple(value.shape or ())) for value in inputs)
    try:
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        module: nn.Module = onnx2fx.convert(os.fspath(path)).eval().to(place)
    except (onnx2fx.Onnx2FxError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise RuntimeFailure(f"{path}: onnx2fx cannot convert it ({error}); use onnxruntime") from error

    def logits(images: Any) -> Any:
        found = module(given.in_layout(images.to(place)))
        return (found[0] if isinstance(found, tuple) else found).to(images.device)

    return logits
