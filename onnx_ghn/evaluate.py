"""Accuracy over a data set: of networks with predicted tensors, of torch modules, of ONNX files."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from onnx_ghn.errors import OptionError, RuntimeFailure
from onnx_ghn.images.inputs import image_input
from onnx_ghn.installed_runtime import require_onnxruntime
from onnx_ghn.scratch import scratch_folder

if TYPE_CHECKING:
    from torch import Tensor, nn

    from onnx_ghn.deepnets1m import Architecture
    from onnx_ghn.vision import Batch

__all__ = ["Accuracy", "accuracy", "architecture_logits", "batch_statistics_mode", "onnx_logits"]

Logits = Callable[["Tensor"], "Tensor"]
_TOP = 5


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Shares of right answers, in percent. `top5` is over all classes where there are five or fewer, so 100."""

    top1: float
    top5: float
    n_images: int


def accuracy(logits: Logits, batches: Iterable[Batch], progress: Callable[[int], None] | None = None) -> Accuracy:
    """Run a classifier over batches.

    Args:
        logits: (B, 3, H, W) images -> (B, classes). Answers that are not finite count as wrong.
        progress: told of each batch's images.

    Raises:
        RuntimeFailure: no images, or more classes in the data than the classifier has.
    """
    import torch

    first = within = count = 0
    for images, labels in batches:
        with torch.no_grad():
            scores = logits(images).float().cpu()  # (B, classes)
        labels = labels.cpu()
        if scores.dim() != 2 or int(labels.max()) >= scores.shape[1]:
            raise RuntimeFailure(
                f"the classifier gives {tuple(scores.shape)} for images of classes up to {int(labels.max())}; "
                "evaluate on the data set that it is for"
            )
        finite = scores.isfinite().all(dim=1)
        order = scores.nan_to_num().topk(min(_TOP, scores.shape[1]), dim=1).indices  # (B, 5)
        hits = (order == labels[:, None]) & finite[:, None]
        first += int(hits[:, 0].sum())
        within += int(hits.any(dim=1).sum())
        count += len(labels)
        if progress is not None:
            progress(len(labels))
    if not count:
        raise RuntimeFailure("no images to evaluate on")
    return Accuracy(100 * first / count, 100 * within / count, count)


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
    statistics: Literal["stored", "batch"] = "stored",
    backend: Literal["onnxruntime", "torch"] = "onnxruntime",
    device: str | None = None,
) -> Iterator[Logits]:
    """An ONNX classifier of images as a function of (B, 3, H, W), whichever order of axes it takes; its first output.

    Args:
        statistics: batch norms use what the file stores, or those of each batch.
        backend: onnxruntime, or torch by the package onnx2fx.
        device: cpu or cuda; cuda where there is one, unless told.

    Raises:
        OptionError: a backend that is not installed or not for that device, or a model with other inputs.
        RuntimeFailure: a model that cannot be run.
    """
    with contextlib.ExitStack() as stack:
        if statistics == "batch":
            path = stack.enter_context(_with_batch_statistics(path))
        if backend == "torch":
            yield _as_module(path, device)
            return
        from onnx_ghn.runtime import open_session

        session = open_session(path, _providers(device))
        yield _session_logits(session)


def _session_logits(session: Any) -> Logits:
    import torch

    from onnx_ghn.runtime import run_session

    given = image_input((value.name, value.shape) for value in session.get_inputs())
    kind, output = session.get_inputs()[0].type, session.get_outputs()[0].name
    if not session.get_outputs()[0].type.startswith("tensor("):
        raise RuntimeFailure(
            f"the model's first output {output!r} is {session.get_outputs()[0].type}, not N × classes; export it with "
            "the tensor of scores as its first output"
        )
    wanted = {"tensor(float16)": torch.float16, "tensor(double)": torch.float64}.get(kind, torch.float32)

    def logits(images: Any) -> Any:
        whole = given.in_layout(images.to(wanted)).contiguous().cpu().numpy()
        step = given.batch or len(whole)
        parts = []
        for start in range(0, len(whole), step):
            part = whole[start : start + step]
            n_real = len(part)
            if n_real < step:  # a model exported for one batch size: the last batch is filled up
                part = part[[i % n_real for i in range(step)]]
            parts.append(torch.from_numpy(run_session(session, {given.name: part}, [output])[0][:n_real]))
        return torch.cat(parts)

    return logits


@contextlib.contextmanager
def _with_batch_statistics(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary copy of a model whose batch norms use those of the batch."""
    from onnx_ghn.onnx_io import read_model, write_model
    from onnx_ghn.passes.batch_statistics import UseBatchStatistics
    from onnx_ghn.passes.free_batch import FreeBatch

    with scratch_folder() as folder:
        copy = Path(folder) / "model.onnx"
        try:
            measured = UseBatchStatistics().call(read_model(path))
            model = FreeBatch().call(measured.model).model if measured.modified else measured.model
            write_model(model, copy, scratch=True)
        except OSError as error:
            raise RuntimeFailure(f"{path}: no room for a temporary copy ({error.strerror}); set TMPDIR") from error
        yield copy


def _providers(device: str | None) -> list[str]:
    require_onnxruntime()
    import onnxruntime

    wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    available = onnxruntime.get_available_providers()
    if device is None:
        # The CUDA provider is listed wherever its wheel is installed, with or without a GPU.
        return [name for name in wanted if name in available and (name != wanted[0] or shutil.which("nvidia-smi"))]
    if device == "cpu":
        return wanted[1:]
    if device != "cuda" or wanted[0] not in available:
        raise OptionError(f"`device` {device}: this onnxruntime runs on {', '.join(available)}; try `backend` torch")
    return wanted


def _as_module(path: str | os.PathLike[str], device: str | None) -> Logits:
    import torch

    try:
        import onnx2fx
    except ModuleNotFoundError as error:
        raise OptionError("evaluating with torch needs onnx2fx: pip install 'onnx-ghn[finetune]'") from error
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
