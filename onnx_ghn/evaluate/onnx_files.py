"""Scores of an ONNX classifier of images, run by onnxruntime. No torch."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.errors import OptionError, RuntimeFailure
from onnx_ghn.images.inputs import image_input
from onnx_ghn.installed_runtime import require_onnxruntime
from onnx_ghn.scratch import scratch_folder

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["Scores", "Statistics", "onnx_scores", "with_statistics"]

Scores = Callable[[Array], Array]
Statistics = Literal["stored", "batch"]


@contextlib.contextmanager
def onnx_scores(
    path: str | os.PathLike[str],
    *,
    statistics: Statistics = "stored",
    device: str | None = None,
    threads: int | None = None,
) -> Iterator[Scores]:
    """An ONNX classifier of images as a function of (B, 3, H, W), whichever order of axes it takes; its first output.

    Args:
        statistics: batch norms use what the file stores, or those of each batch.
        device: cpu or cuda; cuda where there is one, unless told.
        threads: of onnxruntime, on the CPU; as many as there are cores, unless told.

    Raises:
        OptionError: a device that onnxruntime does not run on, or a model with other inputs.
        RuntimeFailure: a model that cannot be run.
    """
    with with_statistics(path, statistics) as file:
        from onnx_ghn.runtime import open_session

        yield _scores_of(open_session(file, _providers(device), threads=threads))


@contextlib.contextmanager
def with_statistics(path: str | os.PathLike[str], statistics: Statistics) -> Iterator[str | os.PathLike[str]]:
    """The file itself, or a temporary copy whose batch norms use the statistics of each batch."""
    if statistics == "stored":
        yield path
        return
    with _with_batch_statistics(path) as copy:
        yield copy


def _scores_of(session: onnxruntime.InferenceSession) -> Scores:
    from onnx_ghn.runtime import run_session

    given = image_input((value.name, value.shape) for value in session.get_inputs())
    kind, output = session.get_inputs()[0].type, session.get_outputs()[0].name
    if not session.get_outputs()[0].type.startswith("tensor("):
        raise RuntimeFailure(
            f"the model's first output {output!r} is {session.get_outputs()[0].type}, not N × classes; export it with "
            "the tensor of scores as its first output"
        )
    wanted = {"tensor(float16)": np.float16, "tensor(double)": np.float64}.get(kind, np.float32)

    def scores(images: Array) -> Array:
        ordered = images.transpose(0, 2, 3, 1) if given.channels_last else images  # (B, H, W, 3)
        whole = np.ascontiguousarray(ordered, wanted)
        step = given.batch or len(whole)
        parts = []
        for start in range(0, len(whole), step):
            part = whole[start : start + step]
            n_real = len(part)
            if n_real < step:  # a model exported for one batch size: the last batch is filled up
                part = part[[i % n_real for i in range(step)]]
            parts.append(run_session(session, {given.name: part}, [output])[0][:n_real])
        return np.concatenate(parts)

    return scores


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
