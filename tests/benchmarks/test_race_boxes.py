"""Boxes on a grid, there and back, and their average precision."""

from __future__ import annotations

import pytest
import torch
from racing.boxes import average_precision, decoded, encoded, grid_loss

BOXES = torch.tensor([[0.1, 0.1, 0.3, 0.6], [0.5, 0.2, 0.9, 0.95], [0.62, 0.05, 0.7, 0.15]])


def as_output(grid: torch.Tensor, scores: list[float]) -> torch.Tensor:
    """A grid as a network gives it: logits of the scores where there is an object, in the order of the cells."""
    output = grid.clone()
    output[0] = -20.0
    output[0][grid[0] > 0] = torch.tensor(scores).logit()
    return output


def test_boxes_come_back_from_their_grid() -> None:
    presence, boxes = decoded(encoded(BOXES, 8))
    found = boxes[presence > 0]
    assert len(found) == 3
    expected = BOXES[[2, 0, 1]]  # by the row of the cell, then its column
    torch.testing.assert_close(found, expected)


def test_what_is_found_exactly_is_worth_everything() -> None:
    grid = encoded(BOXES, 8)[None]
    assert average_precision(as_output(grid[0], [0.9, 0.8, 0.7])[None], grid) == pytest.approx(100)
    assert average_precision(torch.full_like(grid, -20.0), grid) == 0
    assert float(grid_loss(as_output(grid[0], [1 - 1e-6] * 3)[None], grid)) == pytest.approx(0, abs=1e-4)


def test_average_precision_by_hand() -> None:
    grid = encoded(BOXES, 8)
    output = as_output(grid, [0.9, 0.8, 0.7])
    output[1:, *(grid[0] > 0).nonzero()[1]] = 0.02  # the second best lies on nothing
    # In the order of scores: hit, miss, hit; of three objects. Precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3.
    assert average_precision(output[None], grid[None]) == pytest.approx(100 * (1 / 3 + 2 / 3 / 3))


def test_an_object_is_found_once() -> None:
    one = encoded(BOXES[:1], 8)
    row, column = (one[0] > 0).nonzero()[0].tolist()
    output = as_output(one, [0.9])
    output[0, row, column + 1] = 3.0  # a second cell tells a box that overlaps by more than a half: suppressed
    output[1:, row, column + 1] = one[1:, row, column] + torch.tensor([0.125, 0.0, -0.125, 0.0])
    assert average_precision(output[None], one[None]) == pytest.approx(100)


def test_the_larger_of_two_in_a_cell_is_kept() -> None:
    boxes = torch.tensor([[0.4, 0.4, 0.6, 0.6], [0.45, 0.45, 0.55, 0.55]])
    presence, found = decoded(encoded(boxes, 1))
    torch.testing.assert_close(found[presence > 0], boxes[:1])
