"""Random architectures by the published rules.

Facts from facebookresearch/ppuda: experiments/net_generator.py (splits, exclusions), ppuda/deepnets1m/genotypes.py
(`sample_genotype`) and ppuda/deepnets1m/loader.py (widths in training).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from onnx_ghn.deepnets1m.architecture import Architecture
from onnx_ghn.deepnets1m.genotypes import OPERATIONS, Edge, Genotype
from onnx_ghn.errors import OptionError

__all__ = ["SPLITS", "SplitRules", "is_wanted", "sample", "sample_width", "split_rules"]

_N_UNTRAINED = OPERATIONS.index("sep_conv_3x3")  # the operations before it are all that a pool-only cell takes
_LARGE_CONV = ("conv_5x5", "conv_7x7")
_CHANNELS = tuple(range(32, 129, 16))
_FC_DIMS = tuple(range(64, 513, 64))


@dataclasses.dataclass(frozen=True)
class SplitRules:
    """Ranges of a split (net_generator.py)."""

    name: str
    min_steps: int = 1
    medium_steps: int = 2  # the most steps in deep nets
    max_steps: int = 4
    min_cells: int = 4
    deep_cells: tuple[int, ...] = (7, 8, 9, 10)  # a net of more cells than one of these, drawn at random, is deep
    max_cells: int = 18
    max_params: int = 10**7  # trainable elements at 32 channels and 10 classes


_RULES = (
    SplitRules("train"),
    SplitRules("val"),
    SplitRules("test"),
    SplitRules("wide"),
    SplitRules("deep", min_cells=10, deep_cells=(18,), max_cells=36, max_params=10**8),
    SplitRules("dense", min_steps=2, medium_steps=6, max_steps=10, max_params=10**8),
    SplitRules("bnfree"),
    SplitRules("search", medium_steps=3, max_steps=6, min_cells=6, deep_cells=(10,), max_cells=20),
)
#: Names of the sampled splits; `predefined` is a list of known networks.
SPLITS = tuple(rules.name for rules in _RULES)


def split_rules(split: str) -> SplitRules:
    """The rules of a split. Raises OptionError where it is none of the sampled ones."""
    for rules in _RULES:
        if rules.name == split:
            return rules
    raise OptionError(f"no split {split!r} to sample from; there are {', '.join(SPLITS)}")


def sample(split: str, rng: np.random.Generator) -> Architecture | None:
    """Draw one architecture, at the published default width (C = 32, hidden layers of 256).

    Returns:
        None where the draw is one that the published generator discards: no layer to learn, channel attention without
        a convolution or twice in a cell, two large kernels in a cell. (It discards nets that are too large or
        disconnected too: `symbolic_graph` tells.)
    """
    rules = split_rules(split)
    n_cells = int(rng.integers(rules.min_cells, rules.max_cells + 1))
    deep_cells = int(rng.choice(rules.deep_cells))
    most_steps = rules.max_steps if n_cells <= deep_cells else rules.medium_steps
    steps = int(rng.integers(rules.min_steps, most_steps + 1))
    genotype = _sample_genotype(
        rng,
        steps,
        only_pool=bool(rng.random() > 0.5),
        drop_concat=steps > 1 and bool(rng.random() > 0.5),
        allow_none=steps > 1,
    )
    ks = int(rng.choice((3, 5, 7)))
    if not is_wanted(genotype):
        return None
    c_mult = int(rng.choice((1, 2)))
    is_vit = genotype.is_vit
    preproc = True
    if steps == 1 and c_mult == 1:
        draw = rng.random()
        preproc = bool(draw > (0.8 if is_vit else 0.2 if split == "search" else -1.0))
    glob_avg = bool(is_vit or n_cells > deep_cells or rng.random() > 0.1)
    norm: str | None = "bnorm"
    if split == "bnfree":
        norm = None
    elif split != "search" and n_cells <= rules.min_cells + 1 and steps <= rules.medium_steps:
        norm = "bnorm" if rng.random() < 0.5 else None
    stem_type = int(rng.integers(2))
    return Architecture(
        genotype=genotype,
        n_cells=n_cells,
        ks=ks,
        stem_type=stem_type,
        stem_pool=stem_type == 0 and bool(rng.random() > 0.5),
        norm=norm,
        preproc=preproc,
        C_mult=c_mult,
        fc_layers=int(rng.integers(1, 3)),
        glob_avg=glob_avg,
    )


def sample_width(architecture: Architecture, n_params: int, rng: np.random.Generator) -> Architecture:
    """Channels and classifier width as training draws them: the lighter the net, the wider it may be.

    Args:
        n_params: trainable elements at C = 32 and 10 classes.
    """
    millions = n_params / 1e6
    n_cells, operations = architecture.n_cells, architecture.genotype.operations
    fc_choices = _FC_DIMS[:4]
    if millions > 0.8 or not architecture.glob_avg or n_cells > 12 or any(op in _LARGE_CONV for op in operations):
        channels = _CHANNELS[0]
    elif millions > 0.4 or n_cells > 10:
        channels = int(rng.choice(_CHANNELS[:2]))
    elif millions > 0.2 or n_cells > 8:
        channels = int(rng.choice(_CHANNELS[:3]))
    else:
        channels = int(rng.choice(_CHANNELS))
        if channels <= 64:
            fc_choices = _FC_DIMS
    return architecture.replace(C=channels, fc_dim=int(rng.choice(fc_choices)))


def _sample_genotype(
    rng: np.random.Generator, steps: int, *, only_pool: bool, drop_concat: bool, allow_none: bool
) -> Genotype:
    """The published draw takes the two edges, and on each the operation, of largest weight among independent normal
    numbers: two different states and an operation each, all equally likely.
    """
    normal = _sample_cell(rng, steps, len(OPERATIONS), allow_none)
    reduce = _sample_cell(rng, steps, _N_UNTRAINED if only_pool else len(OPERATIONS), allow_none)
    states = range(2, steps + 2)
    concat = tuple(s for s in states if not drop_concat or s == steps + 1 or rng.random() > 0.5)
    return Genotype(normal, concat, reduce, concat)


def _sample_cell(rng: np.random.Generator, steps: int, n_operations: int, allow_none: bool) -> tuple[Edge, ...]:
    first = 0 if allow_none else 1
    edges: list[Edge] = []
    for step in range(steps):
        states = rng.permutation(step + 2)[:2]
        edges.extend((OPERATIONS[int(rng.integers(first, n_operations))], int(state)) for state in states)
    return tuple(edges)


def is_wanted(genotype: Genotype) -> bool:
    """Whether the published generator keeps such cells; see `sample`."""
    operations = genotype.operations
    is_cse = "cse" in operations
    is_conv = any("conv" in operation for operation in operations)
    for cell in (genotype.normal, genotype.reduce):
        names = [operation for operation, _ in cell]
        if names.count("cse") > 1 or sum(name in _LARGE_CONV for name in names) > 1:
            return False
    return (is_conv or not is_cse) and (is_cse or genotype.is_vit or is_conv)
