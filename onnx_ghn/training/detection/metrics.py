"""COCO's average precision of a detector, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from onnx_ghn.errors import OptionError
from onnx_ghn.installing import install_command
from onnx_ghn.json_types import Json

__all__ = ["METRICS", "coco_metrics", "need_pycocotools"]

#: The first six of COCOeval's figures, in percent: AP over IoU 0.5 to 0.95, at 0.5, at 0.75, and by size of object.
METRICS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")


def need_pycocotools() -> None:
    """Raise OptionError where it is not installed: before the work, not after it."""
    try:
        import pycocotools.cocoeval  # noqa: F401
    except ModuleNotFoundError as error:
        raise OptionError(f"detection needs pycocotools: {install_command('detect')}") from error


def coco_metrics(
    truths: Sequence[dict[str, Tensor]], answers: Sequence[dict[str, Tensor]], kind: str = "bbox"
) -> dict[str, float]:
    """COCO's figures in percent; those of a size that no object has are left out.

    Args:
        truths: of each image: boxes (N, 4) as left, top, right, bottom, labels (N,), masks (N, H, W).
        answers: of each image: boxes, labels, scores (N,), and for "segm" masks (N, 1, H, W) in [0, 1].
        kind: bbox or segm.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image, (truth, answer) in enumerate(zip(truths, answers, strict=True), start=1):
        height, width = (int(side) for side in truth["masks"].shape[-2:])
        images.append({"id": image, "height": height, "width": width})
        for i, shape in enumerate(_shapes(truth["boxes"], truth["masks"], kind)):
            area = float(truth["masks"][i].sum()) if kind == "segm" else shape["bbox"][2] * shape["bbox"][3]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(truth["labels"][i]),
                    **shape,
                    "area": area,
                    "iscrowd": 0,
                }
            )
        masks = answer["masks"][:, 0] > 0.5 if kind == "segm" else None
        for i, shape in enumerate(_shapes(answer["boxes"], masks, kind)):
            score = float(answer["scores"][i])
            results.append({"image_id": image, "category_id": int(answer["labels"][i]), "score": score, **shape})
    if not results:
        return dict.fromkeys(METRICS[:3], 0.0)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its tables
        truth_set = COCO()
        truth_set.dataset = {"info": {}, "images": images, "annotations": annotations, "categories": [{"id": 1}]}
        truth_set.createIndex()
        evaluation = COCOeval(truth_set, truth_set.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = zip(METRICS, evaluation.stats, strict=False)
    return {name: 100 * float(value) for name, value in figures if value >= 0}  # -1: there are no such objects


def _shapes(boxes: Tensor, masks: Tensor | None, kind: str) -> list[Json]:
    """As COCO has them: left, top, width, height; and run-length codes of masks."""
    from pycocotools import mask as codes

    plain = boxes.cpu().numpy().astype(float)
    shapes: list[dict[str, Any]] = [{"bbox": [x0, y0, x1 - x0, y1 - y0]} for x0, y0, x1, y1 in plain.tolist()]
    if kind == "segm" and masks is not None:
        for shape, mask in zip(shapes, masks.cpu().numpy(), strict=True):
            shape["segmentation"] = codes.encode(np.asfortranarray(mask.astype(np.uint8)))
    return shapes
