"""Which start each kind of network gets: fitted on some networks of a race, told as the rules of a policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.prediction.features import ModelFeatures, TensorFeatures
from onnx_ghn.prediction.policy import Rule
from racing.summary import BASELINE, Results

__all__ = [
    "CANDIDATES",
    "CELLS",
    "DRAWN",
    "SCALED_CELLS",
    "Cell",
    "Chosen",
    "choose_for_cell",
    "gain_by_scaling",
    "halves",
    "policy_of",
]

_TOLERATED = 1.0  # points that a network may end below its own start, by the noise of a few seeds
_LEAST = 2  # networks that a cell needs before anything but the own start is chosen for it
_MARKS_OF: Mapping[str, tuple[int, ...]] = {"auto": (0, 1, 2), "early": (0, 1)}  # marks whose gain counts
_FLOOR_AT: Mapping[str, tuple[int, ...]] = {"auto": (2,), "early": (0,)}  # marks at which nothing may be lost

#: The start that predicts nothing, and whose layers are scaled to outputs of scale 1 on drawn inputs.
DRAWN = "own+drawn"

#: Starts whose layers are scaled by one batch, and what they are compared with.
_UNSCALED: Mapping[str, str] = {"auto+data": "auto", "auto+lsuv": "auto", "lsuv": BASELINE}

#: From a start of the race to the tensors that it predicts: conditions, why, post. The race's own names.
CANDIDATES: Mapping[str, tuple[dict[str, Any], str, str]] = {
    "spatial": (
        {"kind": ["conv2d"], "longest": {"least": 2, "most": 7}},
        "2-D kernels with sides of 2 to 7 pixels",
        "none",
    ),
    "spatial+differences": (
        {"kind": ["conv2d"], "longest": {"least": 2, "most": 7}},
        "2-D kernels with sides of 2 to 7 pixels",
        "differences",
    ),
    # A convolution that tells classes apart is a head, of classes that the GHN does not know.
    "conv2d+differences": ({"kind": ["conv2d"], "head": [False]}, "2-D kernels", "differences"),
    "all": ({}, "everything", "none"),
    "all+differences": ({}, "everything", "differences"),
}


#: What a mode may choose. Everything predicted starts best, but may end lower: trained to the end on data far from the
#: GHN's, networks with their author's norms and heads end higher. Channel mixing may be predicted where copies are told
#: apart: trained to the end, networks ended higher by it (suite `end`).
_ELIGIBLE: Mapping[str, tuple[str, ...]] = {
    "auto": ("spatial", "spatial+differences", "conv2d+differences", DRAWN),
    "early": (*CANDIDATES, DRAWN),
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """Networks that get the same start. No two cells share a network.

    Attributes:
        words: for people, in the plural.
        conditions: on the features of a model, as in a policy.
    """

    words: str
    conditions: Mapping[str, Any]

    def holds(self, features: ModelFeatures) -> bool:
        """Whether a network is of this cell."""
        return Rule(self.conditions, {}, True, "").holds(features, TensorFeatures("other"))


_CLASSES = {"least": 2, "most": 2}  # axes of the output: batch and classes
_PICTURES = {"least": 3, "most": 5}
_CLASSIFIERS: Mapping[str, Any] = {"data": ["image"], "attention": [False], "output_axes": _CLASSES}
_HARDLY = 0.02  # share of the weights' elements

CELLS: Sequence[Cell] = (
    Cell(
        "convolutional classifiers of colour images with batch norms",
        {**_CLASSIFIERS, "norm": ["batch"], "channels": {"least": 3}},
    ),
    Cell(
        "convolutional classifiers of images of one channel with batch norms",
        {**_CLASSIFIERS, "norm": ["batch"], "channels": {"most": 2}},
    ),
    Cell(
        "convolutional image classifiers without batch norms",
        {**_CLASSIFIERS, "norm": ["layer", "none"], "conv2d_share": {"least": _HARDLY}},
    ),
    Cell(
        "image classifiers with hardly a weight in convolutions",
        {**_CLASSIFIERS, "norm": ["layer", "none"], "conv2d_share": {"most": _HARDLY}},
    ),
    Cell(
        "convolutional networks from images to images of their size",
        {"data": ["image"], "attention": [False], "output_axes": _PICTURES, "full_size": [True]},
    ),
    Cell(
        "convolutional networks from images to coarser maps or boxes",
        {"data": ["image"], "attention": [False], "output_axes": _PICTURES, "full_size": [False]},
    ),
    Cell(
        "image classifiers with attention",
        {"data": ["image"], "attention": [True], "output_axes": _CLASSES, "n_outputs": {"least": 2}},
    ),
    Cell("networks of series and sound", {"data": ["series"]}),
    Cell("text networks with attention", {"data": ["tokens"], "attention": [True]}),
    Cell("text networks without attention", {"data": ["tokens"], "attention": [False]}),
    Cell("networks of tables", {"data": ["table"]}),
)


#: Networks whose layers may be scaled by one batch of the user's. One output may be a number that is regressed.
SCALED_CELLS: Sequence[Cell] = tuple(
    Cell(words, {"data": [data], "attention": [False], "output_axes": _CLASSES, "n_outputs": {"least": 2}, **more})
    for words, data, more in (
        ("convolutional image classifiers without norms", "image", {"norm": ["none"]}),
        ("convolutional image classifiers with norms", "image", {"norm": ["batch", "layer"]}),
        ("text classifiers without attention or norms", "tokens", {"norm": ["none"]}),
        ("classifiers of tables without norms", "table", {"norm": ["none"]}),
    )
)


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What a cell gets in a mode.

    Attributes:
        start: of the race; the own one where no other pays.
        n: networks that it was chosen by.
        gains: of these networks beside the own start, (networks, marks), empty for the own start.
    """

    start: str
    n: int
    gains: npt.NDArray[np.float64]


def halves(features: Mapping[str, ModelFeatures]) -> tuple[list[str], list[str]]:
    """Two halves of the networks, each cell split by turns in the order of names."""
    first: list[str] = []
    second: list[str] = []
    for cell in (*CELLS, None):
        members = sorted(name for name, of in features.items() if _cell_of(of) is cell)
        first += members[::2]
        second += members[1::2]
    return first, second


def _cell_of(features: ModelFeatures) -> Cell | None:
    return next((cell for cell in CELLS if cell.holds(features)), None)


def choose_for_cell(mode: str, found: Results, networks: Sequence[str]) -> Chosen:
    """The start with the largest mean gain, of those that may be chosen and that no network loses by.

    For `auto` a network loses whose end is below that of the own start by more than a standard error and by more than
    a point; for `early` likewise after a quarter of the budget. The gain is the mean over networks and over the marks:
    all three for `auto`, 25 and 50 % for `early`.

    Args:
        networks: of a cell, those that may be looked at.
    """
    best = Chosen(BASELINE, len(networks), np.empty((0, 3)))
    if len(networks) < _LEAST:
        return best
    largest = 0.0
    marks, floor = list(_MARKS_OF[mode]), list(_FLOOR_AT[mode])
    for start in _ELIGIBLE[mode]:
        if any(start not in found[name] or BASELINE not in found[name] for name in networks):
            continue
        both = [found[name][start].beside(found[name][BASELINE]) for name in networks]
        gains, errors = (np.array(values) for values in zip(*both, strict=True))
        bound = np.maximum(_TOLERATED, np.nan_to_num(errors))
        if (gains < -bound)[:, floor].any():
            continue
        gain = float(gains[:, marks].mean())
        if gain > largest:
            best, largest = Chosen(start, len(networks), gains), gain
    return best


def gain_by_scaling(found: Results, networks: Sequence[str]) -> float | None:
    """Points that a network of a cell gains on average by layers of scale 1; None where it is not to be done.

    That is where fewer than two networks were raced so, where one of them ends lower by more than a standard error and
    a point, and where they gain less than a point.

    Args:
        networks: of a cell, those that may be looked at.
    """
    both = []
    for name in networks:
        raced = [start for start, plain in _UNSCALED.items() if {start, plain} <= set(found[name])]
        both += [found[name][start].beside(found[name][_UNSCALED[start]]) for start in raced[:1]]
    if len(both) < _LEAST:
        return None
    gains, errors = (np.array(values) for values in zip(*both, strict=True))
    gain = float(gains.mean())
    loses = (gains < -np.maximum(_TOLERATED, np.nan_to_num(errors)))[:, -1].any()
    return gain if gain >= _TOLERATED and not loses else None


def policy_of(knows: str, chosen: Mapping[str, Mapping[str, Chosen]], scaled: Sequence[Cell] = ()) -> dict[str, Any]:
    """The content of a policy.json.

    Args:
        knows: what the GHN was trained on.
        chosen: by mode and by the words of a cell.
        scaled: cells whose layers are scaled where the user gives data.
    """
    rules: dict[str, list[dict[str, Any]]] = {}
    drawn: dict[str, list[str]] = {}  # modes by the words of a cell
    for mode, of in chosen.items():
        rules[mode] = []
        for cell in CELLS:
            start = of[cell.words].start
            if start == DRAWN:
                drawn.setdefault(cell.words, []).append(mode)
            if start in (BASELINE, DRAWN):
                continue
            conditions, why, post = CANDIDATES[start]
            rule = {"model": dict(cell.conditions), "tensor": conditions, "take": True, "why": why}
            rules[mode].append(rule if post == "none" else {**rule, "post": post})
    unit_scales: list[dict[str, Any]] = [
        {"model": dict(cell.conditions), "take": True, "why": cell.words} for cell in scaled
    ]
    unit_scales += [
        {"model": dict(cell.conditions), "take": True, "why": cell.words, "drawn": True, "modes": drawn[cell.words]}
        for cell in CELLS
        if cell.words in drawn
    ]
    return {"knows": knows, "rules": rules, **({"unit_scales": unit_scales} if unit_scales else {})}
