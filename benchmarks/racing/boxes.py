"""One kind of object, found on a grid: each cell tells whether an object's centre lies in it, and its four edges.

A grid is (5, G, G): presence, then how far the left, upper, right and lower edges lie from the middle of the cell, in
shares of the picture's side.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou, nms

__all__ = ["average_precision", "decoded", "encoded", "grid_loss"]

_OVERLAP, _LEAST_SCORE, _EDGE_WEIGHT = 0.5, 0.05, 10.0


def encoded(boxes: Tensor, cells: int) -> Tensor:
    """(N, 4) boxes (left, top, right, bottom, 0 to 1) as a grid; of two in one cell the larger is kept."""
    grid = torch.zeros(5, cells, cells)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i in areas.argsort().tolist():  # the largest last
        box = boxes[i]
        column, row = ((box[:2] + box[2:]) / 2 * cells).long().clamp(max=cells - 1).tolist()
        middle = (torch.tensor([column, row]) + 0.5) / cells
        grid[:, row, column] = torch.cat([torch.ones(1), middle - box[:2], box[2:] - middle])
    return grid


def decoded(grid: Tensor) -> tuple[Tensor, Tensor]:
    """The presence, (G²,), and the boxes, (G², 4), of all cells of a grid."""
    cells = grid.shape[-1]
    middle = (torch.arange(cells, device=grid.device) + 0.5) / cells
    x, y = middle.expand(cells, cells).flatten(), middle[:, None].expand(cells, cells).flatten()
    left, top, right, bottom = grid[1:].flatten(1)
    return grid[0].flatten(), torch.stack([x - left, y - top, x + right, y + bottom], 1)


def grid_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """(B, 5, G, G) both: cross entropy of presence, and the mean distance of the edges where there is an object."""
    present = targets[:, :1]
    presence = F.binary_cross_entropy_with_logits(outputs[:, :1], present, reduction="sum")
    edges = ((outputs[:, 1:] - targets[:, 1:]).abs() * present).sum()
    return (presence + _EDGE_WEIGHT * edges) / present.sum().clamp(min=1)


def average_precision(outputs: Tensor, targets: Tensor) -> float:
    """Percent at an overlap of a half: the area under precision over recall, each precision the best at its recall.

    Args:
        outputs: (N, 5, G, G) with logits of presence.
        targets: grids of the objects that there are.
    """
    scores: list[Tensor] = []
    hits: list[Tensor] = []
    n_objects = 0
    for output, target in zip(outputs.cpu(), targets.cpu(), strict=True):
        logits, boxes = decoded(output)
        score = logits.sigmoid()
        likely = score > _LEAST_SCORE
        score, boxes = score[likely], boxes[likely]
        kept = nms(boxes, score, _OVERLAP)  # best first
        presence, objects = decoded(target)
        objects = objects[presence > 0.5]
        n_objects += len(objects)
        hit = torch.zeros(len(kept))
        free = torch.ones(len(objects), dtype=torch.bool)
        overlaps = box_iou(boxes[kept], objects) if len(objects) else torch.zeros(len(kept), 0)
        for i, row in enumerate(overlaps):
            usable = torch.where(free, row, -1.0)
            if len(usable) and float(usable.max()) >= _OVERLAP:
                free[int(usable.argmax())] = False
                hit[i] = 1
        scores.append(score[kept])
        hits.append(hit)
    if not n_objects:
        return 100.0
    order = torch.cat(scores).argsort(descending=True, stable=True)
    found = torch.cat(hits)[order].numpy()
    recall = np.concatenate([[0.0], found.cumsum() / n_objects])
    precision = found.cumsum() / np.arange(1, len(found) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    return 100 * float((np.diff(recall) * best_from_here).sum())
