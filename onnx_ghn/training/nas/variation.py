"""Architectures from others: with one change, or with parts of two, within the published rules of a split."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from onnx_ghn.deepnets1m.architecture import Architecture
from onnx_ghn.deepnets1m.genotypes import OPERATIONS, Edge, Genotype
from onnx_ghn.deepnets1m.records import Record
from onnx_ghn.deepnets1m.sampler import is_wanted, split_rules
from onnx_ghn.deepnets1m.sampling_stream import counted
from onnx_ghn.errors import OptionError

__all__ = ["crossed", "mutated"]

_TRIES = 20  # until a change leaves an architecture that the rules allow
_KERNELS = (3, 5, 7)
_SIZES = ("n_cells", "ks", "stem_type", "stem_pool", "norm", "C_mult", "fc_layers", "glob_avg")


def mutated(architecture: Architecture, split: str, rng: np.random.Generator) -> Record | None:
    """One change: an operation, where it reads from, a step of both cells, or a size. None where none is allowed."""
    changes = (_operation, _operation, _state, _step, _size)  # operations are what there are most of
    for _ in range(_TRIES):
        change = changes[int(rng.integers(len(changes)))]
        found = _allowed(functools.partial(change, architecture, rng), split)
        if found is not None and found.architecture != architecture:
            return found
    return None


def crossed(
    first: Architecture, second: Architecture, split: str, rng: np.random.Generator
) -> tuple[Record | None, Record | None]:
    """Two children: each has one parent's normal cell and one's reduction cell, and of every size one's.

    What the one child takes of the first parent, the other takes of the second. None where the rules allow no child.
    """
    normal, reduce = (bool(rng.random() < 0.5) for _ in range(2))
    sizes = {name: bool(rng.random() < 0.5) for name in _SIZES}
    children = []
    for swapped in (False, True):
        a, b = (second, first) if swapped else (first, second)

        def child(a: Architecture = a, b: Architecture = b) -> Architecture:
            cell, other = (a if normal else b).genotype, (a if reduce else b).genotype
            genotype = Genotype(cell.normal, cell.normal_concat, other.reduce, other.reduce_concat)
            return _fitted(a, genotype, {name: getattr(a if kept else b, name) for name, kept in sizes.items()})

        children.append(_allowed(child, split))
    return children[0], children[1]


def _allowed(make: Callable[[], Architecture], split: str) -> Record | None:
    """What the rules of the split allow, with its counts."""
    rules = split_rules(split)
    try:
        made = make()
    except OptionError:  # a state that does not exist, or sizes that do not go together
        return None
    genotype, n_steps = made.genotype, max(len(made.genotype.normal), len(made.genotype.reduce)) // 2
    most_steps = rules.max_steps if made.n_cells <= max(rules.deep_cells) else rules.medium_steps
    in_range = rules.min_cells <= made.n_cells <= rules.max_cells and rules.min_steps <= n_steps <= most_steps
    if not in_range or not is_wanted(genotype) or ("none" in genotype.operations and n_steps == 1):
        return None
    found = counted(made, split)
    return None if found is None else found[0]


def _fitted(architecture: Architecture, genotype: Genotype, sizes: dict[str, Any]) -> Architecture:
    """With other cells and sizes, and what follows from them. Raises OptionError."""
    concats = len(genotype.normal_concat), len(genotype.reduce_concat)
    fitted = dict(sizes)
    if sizes.get("C_mult", architecture.C_mult) > 1 or max(concats) > 1:
        fitted["preproc"] = True
    if genotype.is_vit:
        fitted["glob_avg"] = True
    if sizes.get("stem_type", architecture.stem_type) == 1:
        fitted["stem_pool"] = False
    return architecture.replace(genotype=genotype, **fitted)


def _cells(architecture: Architecture) -> dict[str, tuple[Edge, ...]]:
    return {"normal": architecture.genotype.normal, "reduce": architecture.genotype.reduce}


def _operation(architecture: Architecture, rng: np.random.Generator) -> Architecture:
    name, edges = list(_cells(architecture).items())[int(rng.integers(2))]
    at = int(rng.integers(len(edges)))
    changed = (OPERATIONS[int(rng.integers(len(OPERATIONS)))], edges[at][1])
    return _with_cells(architecture, {name: (*edges[:at], changed, *edges[at + 1 :])})


def _state(architecture: Architecture, rng: np.random.Generator) -> Architecture:
    """The two edges of a step read different states."""
    name, edges = list(_cells(architecture).items())[int(rng.integers(2))]
    at = int(rng.integers(len(edges)))
    other = edges[at ^ 1][1]
    free = [state for state in range(2 + at // 2) if state not in (edges[at][1], other)]
    if not free:
        return architecture
    changed = (edges[at][0], free[int(rng.integers(len(free)))])
    return _with_cells(architecture, {name: (*edges[:at], changed, *edges[at + 1 :])})


def _step(architecture: Architecture, rng: np.random.Generator) -> Architecture:
    """Both cells have a step more behind the others, or lose the last, which no other reads."""
    longer = bool(rng.random() < 0.5)
    cells: dict[str, tuple[Edge, ...]] = {}
    for name, edges in _cells(architecture).items():
        if longer:
            states = rng.permutation(2 + len(edges) // 2)[:2]
            added = ((OPERATIONS[int(rng.integers(len(OPERATIONS)))], int(state)) for state in states)
            cells[name] = (*edges, *added)
        else:
            cells[name] = edges[:-2]
    return _with_cells(architecture, cells)


def _with_cells(architecture: Architecture, cells: dict[str, tuple[Edge, ...]]) -> Architecture:
    """With other cells; of a cell whose steps are more or fewer, the last state leaves it, too. Raises OptionError."""
    genotype = architecture.genotype
    changed: dict[str, Any] = dict(cells)
    for name, edges in cells.items():
        last = 1 + len(edges) // 2
        if len(edges) != len(getattr(genotype, name)):
            kept = (state for state in getattr(genotype, f"{name}_concat") if state < last)
            changed[f"{name}_concat"] = (*kept, last)
    return _fitted(architecture, dataclasses.replace(genotype, **changed), {})


def _size(architecture: Architecture, rng: np.random.Generator) -> Architecture:
    name = _SIZES[int(rng.integers(len(_SIZES)))]
    choices: dict[str, tuple[object, ...]] = {
        "n_cells": tuple(architecture.n_cells + step for step in (-2, -1, 1, 2)),
        "ks": _KERNELS,
        "stem_type": (0, 1),
        "stem_pool": (False, True),
        "norm": (architecture.norm,),  # it is the split's
        "C_mult": (1, 2),
        "fc_layers": (1, 2),
        "glob_avg": (False, True),
    }
    return _fitted(architecture, architecture.genotype, {name: choices[name][int(rng.integers(len(choices[name])))]})
