"""write_report: read a model, predict, perhaps measure, write the page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_ghn.report.contents import page_data
from onnx_ghn.report.page import page_html

if TYPE_CHECKING:
    from onnx_ghn.ghn import GHN
    from onnx_ghn.profiling import ProfileReport

__all__ = ["report_data", "write_page", "write_report"]


def write_report(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    ghn: str | os.PathLike[str] | GHN | None = None,
    predict: bool = True,
    profile: ProfileReport | None = None,
    seed: int = 0,
    force: bool = False,
) -> Path:
    """Write one self-contained HTML page about a model.

    Args:
        source: a model file, which is not changed.
        output: the page; it appears whole or not at all.
        ghn: that predicts the weights, as in `onnx_ghn.predict`.
        predict: without, the page has no distributions, and coverage as `onnx-ghn inspect` shows it.
        profile: what `onnx_ghn.profile` measured of the model.
        seed: of all random numbers.
        force: replace an existing page.

    Returns:
        the path of the page.

    Raises:
        OnnxGhnError: as `onnx_ghn.predict`; ModelWriteError for the page.
    """
    from onnx_ghn.onnx_io import check_target

    check_target(os.fspath(output), force)
    data = report_data(source, ghn=ghn, predict=predict, profile=profile, seed=seed)
    return write_page(data, output, force=force)


def report_data(
    source: str | os.PathLike[str],
    *,
    ghn: str | os.PathLike[str] | GHN | None = None,
    predict: bool = True,
    profile: ProfileReport | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The contents of the page (`page_data`); arguments as those of `write_report`."""
    from onnx_ghn.inspection import inspect_model
    from onnx_ghn.prediction.predicting import predict as run
    from onnx_ghn.report.predicted import bundled_properties

    name = Path(source).name
    measured = None if profile is None else profile.to_dict()
    if not predict:
        found = inspect_model(source)
        return page_data(found.graph, found.coverage, name=name, profile=measured, seed=seed)
    # Running statistics are no part of the page, so none are calibrated.
    prediction = run(source, ghn=ghn, calibrate="none", seed=seed)
    return page_data(
        prediction.graph,
        prediction.coverage,
        prediction,
        name=name,
        profile=measured,
        properties=bundled_properties(source),
        seed=seed,
    )


def write_page(data: dict[str, Any], output: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write the page of `report_data`. Raises ModelWriteError: it exists, or cannot be written."""
    from onnx_ghn.onnx_io import check_target
    from onnx_ghn.onnx_io.transaction import Transaction

    target = Path(output)
    check_target(os.fspath(target), force)
    content = page_html(data).encode()
    with Transaction(os.fspath(target)) as transaction:
        file = transaction.create(target.name)
        file.write(content)
        transaction.place(file, target.name, last=True)
    return target
