"""Write the page about a model: read it, predict its weights, and gather what the page shows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_ghn.errors import OptionError
from onnx_ghn.json_types import Json
from onnx_ghn.report.contents import page_data
from onnx_ghn.report.page import page_html

if TYPE_CHECKING:
    from onnx_ghn.ghn import GHN
    from onnx_ghn.prediction.options import PolicyName
    from onnx_ghn.profiling import ProfileReport

__all__ = ["check_donors", "report_data", "write_page", "write_report"]


def write_report(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    ghn: str | os.PathLike[str] | GHN | None = None,
    predict: bool = True,
    policy: PolicyName = "auto",
    donors: Sequence[str | os.PathLike[str]] = (),
    profile: ProfileReport | None = None,
    seed: int = 0,
    force: bool = False,
) -> Path:
    """Write one self-contained HTML page about a model.

    Args:
        source: the model file, which is not changed.
        output: the page, which appears whole or not at all.
        ghn: the GHN that predicts the weights, as in `onnx_ghn.predict`.
        predict: predict the weights. Without, the page has no distributions, and its coverage is that of
            `onnx_ghn.inspect_model`.
        policy: which tensors are predicted, as in `onnx_ghn.predict`.
        donors: trained files whose weights are inherited, as in `onnx_ghn.predict`.
        profile: what `onnx_ghn.profile` measured of the model.
        seed: the seed of all random numbers.
        force: replace an existing page.

    Returns:
        the path of the page.

    Raises:
        OptionError: donors without a prediction.
        OnnxGhnError: as `onnx_ghn.predict` does.
        ModelWriteError: the page exists, or cannot be written.
    """
    from onnx_ghn.onnx_io import check_target

    check_target(output, force, "a page", [source, ghn, *donors])
    data = report_data(source, ghn=ghn, predict=predict, policy=policy, donors=donors, profile=profile, seed=seed)
    return write_page(data, output, force=force)


def report_data(
    source: str | os.PathLike[str],
    *,
    ghn: str | os.PathLike[str] | GHN | None = None,
    predict: bool = True,
    policy: PolicyName = "auto",
    donors: Sequence[str | os.PathLike[str]] = (),
    profile: ProfileReport | None = None,
    seed: int = 0,
) -> Json:
    """The contents of the page, as `page_data` returns them, for the arguments of `write_report`."""
    from onnx_ghn.compatibility.checking import find_behaviours
    from onnx_ghn.inspection import inspect_model
    from onnx_ghn.prediction.predicting import predict as run
    from onnx_ghn.report.inherited import inherited_data
    from onnx_ghn.report.predicted import bundled_properties

    check_donors(donors, predict=predict)
    name = Path(source).name
    measured = None if profile is None else profile.to_dict()
    if not predict:
        inspection = inspect_model(source, policy=policy)
        return page_data(
            inspection.graph,
            inspection.coverage,
            name=name,
            profile=measured,
            findings=find_behaviours(source),
            seed=seed,
        )
    # The page shows what the GHN decodes, and no running statistics: nothing is scaled or calibrated.
    prediction = run(
        source, ghn=ghn, policy=policy, donors=tuple(donors), calibrate="none", correct_scales=False, seed=seed
    )
    inheritance = prediction.inheritance
    return page_data(
        prediction.graph,
        prediction.coverage,
        prediction,
        name=name,
        profile=measured,
        properties=bundled_properties(source),
        inherited=None if inheritance is None else inherited_data(inheritance, prediction.coverage),
        findings=find_behaviours(source),
        seed=seed,
    )


def check_donors(donors: Sequence[str | os.PathLike[str]], *, predict: bool) -> None:
    """Refuse donors where nothing is predicted. Raises OptionError."""
    if donors and not predict:
        raise OptionError(
            "`donors` are inherited from in a prediction, and `predict` says that there is none: leave out one of both"
        )


def write_page(data: Mapping[str, object], output: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write the page of what `report_data` returned.

    Raises:
        ModelWriteError: the page exists, or cannot be written.
    """
    from onnx_ghn.onnx_io.transaction import write_file

    return write_file(output, page_html(data), force=force)
