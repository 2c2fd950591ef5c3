"""A model in several precisions: speed, size, memory and, with data, the accuracy that each keeps."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.errors import OptionError, RuntimeFailure
from onnx_ghn.images.inputs import image_input
from onnx_ghn.profiling import profile
from onnx_ghn.profiling.cache_inputs import cache_inputs
from onnx_ghn.profiling.conversions import convert
from onnx_ghn.profiling.feeds import point_feeds
from onnx_ghn.profiling.kept_models import check_kept, keep
from onnx_ghn.profiling.pairs import time_pair
from onnx_ghn.profiling.precision_names import FULL, converted_name
from onnx_ghn.profiling.processes import run_job
from onnx_ghn.profiling.report import PointResult, Ratio
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import InputSpec, model_spec
from onnx_ghn.scratch import scratch_folder
from onnx_ghn.training.evaluation_settings import Images, ModelConfig
from onnx_ghn.training.file_evaluation import evaluate_model
from onnx_ghn.training.precision_settings import Precisions
from onnx_ghn.vision.arrays import eval_arrays
from onnx_ghn.vision.loading import load_dataset
from onnx_ghn.vision.sets import ImageSet

__all__ = ["PrecisionRow", "profile_precisions"]

_CALIBRATED = 128  # images
_CONTEXT = 128  # cached tokens
_RANDOM = 8  # inputs, where there are no images
Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class PrecisionRow:
    """One precision at one point, or what went wrong with it."""

    precision: str
    error: str | None = None
    size_bytes: int | None = None
    point: PointResult | None = None
    ratio: Ratio | None = None  # of the medians, this precision over the first, both in turn; None for the first
    top1: float | None = None  # percent
    top5: float | None = None
    n_images: int | None = None

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        found: dict[str, object] = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("point", "ratio")
        }
        found["point"] = None if self.point is None else self.point.to_dict()
        ratio = None if self.ratio is None else dataclasses.asdict(self.ratio)
        return found | {"ratio": None if ratio is None else {k: v for k, v in ratio.items() if k != "point"}}


def profile_precisions(
    path: str | os.PathLike[str],
    precisions: Precisions,
    settings: Settings | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
    **axes: Any,
) -> list[PrecisionRow]:
    """Convert a model and measure each precision.

    Args:
        precisions: which ones, and the data.
        settings: how each point is measured; operators are left out.
        force: whether models that are kept may replace files.
        axes: those of `onnx_ghn.profile`.
        progress: called before each precision.

    Returns:
        rows in the order of the precisions. One that cannot be converted or run has an error.

    Raises:
        ModelReadError, DataError: a model or images that cannot be read. OptionError: options that make no sense.
        ModelWriteError: models cannot be kept where they are to be.
    """
    settings = dataclasses.replace(settings or Settings(), operators=False)
    source = os.fspath(path)
    if precisions.converted is not None:
        check_kept(precisions.converted, source, precisions.precision, force)
    spec = model_spec(source)
    images = None if precisions.data is None else Images(dataset=precisions.data, n_images=precisions.n_images)
    feeds = _calibration(spec.inputs, images, settings) if "int8" in precisions.precision else []
    rows: list[PrecisionRow] = []
    with scratch_folder() as scratch:
        first: str | None = None
        for number, name in enumerate(precisions.precision):
            if progress is not None:
                progress(name, number, len(precisions.precision))
            try:
                file = source if name == FULL else _converted(source, name, Path(scratch), feeds, settings)
                found = _measured(file, name, first, settings, images, axes)
            except (RuntimeFailure, OptionError) as error:
                rows.append(PrecisionRow(name, str(error)))
                continue
            first = first or file
            rows += found
            if precisions.converted is not None and name != FULL:
                keep(Path(file), Path(precisions.converted), force)
    return rows


def _converted(
    source: str, precision: str, scratch: Path, feeds: Sequence[Mapping[str, Array]], settings: Settings
) -> str:
    folder = scratch / precision
    folder.mkdir()
    target = folder / converted_name(source, precision)
    run_job(convert, (source, precision, os.fspath(target), feeds), settings.timeout_s)
    return os.fspath(target)


def _measured(
    file: str, precision: str, first: str | None, settings: Settings, images: Images | None, axes: Mapping[str, Any]
) -> list[PrecisionRow]:
    report = profile(file, settings=settings, **axes)
    accuracy: dict[str, Any] = {}
    if images is not None:
        row = evaluate_model(file, images, ModelConfig(), "cpu")[0]
        accuracy = {name: row[name] for name in ("top1", "top5", "n_images")}
    found = []
    for point in report.points:
        if point.error is not None:
            found.append(PrecisionRow(precision, f"{point.point.label}: {point.error}"))
            continue
        ratio = None if first is None else _ratio((file, first), point.point, settings)
        found.append(PrecisionRow(precision, None, report.size_bytes, point, ratio, **accuracy))
    return found


def _ratio(paths: tuple[str, str], point: Point, settings: Settings) -> Ratio:
    """Both in turn, in a process of their own."""
    specs = tuple(model_spec(path).inputs for path in paths)
    try:
        return run_job(time_pair, (paths, specs, point, settings), settings.timeout_s)
    except RuntimeFailure as error:
        return Ratio(point, str(error))


def _calibration(specs: Sequence[InputSpec], images: Images | None, settings: Settings) -> list[Mapping[str, Array]]:
    """Inputs to calibrate on: of the validation images, which accuracy is not measured on; random ones without data."""
    if images is None:
        # A decoder's cache, mask and positions belong together.
        point = Point() if cache_inputs(specs) is None else Point(context=_CONTEXT)
        made = (
            next(point_feeds(specs, point, dataclasses.replace(settings, seed=settings.seed + number)))[0]
            for number in range(_RANDOM)
        )
        return list(made)
    given = image_input((spec.name, spec.dims) for spec in specs)
    data = load_dataset(images.dataset, images.data_dir, "val")
    if not isinstance(data, ImageSet):
        raise OptionError("`data`: int8 is calibrated on images of up to 64 × 64; give smaller ones, or leave int8 out")
    size = given.batch or 16
    found: list[Mapping[str, Array]] = []
    for batch, _ in itertools.islice(eval_arrays(data, size), -(-_CALIBRATED // size)):
        if len(batch) < size and given.batch:
            break
        ordered = batch.transpose(0, 2, 3, 1) if given.channels_last else batch
        found.append({given.name: np.ascontiguousarray(ordered, np.float32)})
    if not found:
        raise OptionError(f"`data`: has fewer validation images than the batch of {size} that the model is made for")
    return found
