"""Sizes of a GHN's tables, which its checkpoints fix."""

from __future__ import annotations

__all__ = [
    "DIRAC_SHIFT",
    "FIRST_EDGE_EMBEDDING",
    "LARGE",
    "MAX_DEGREE",
    "MAX_DISTANCE",
    "MAX_INPUT_DISTANCE",
    "N_EDGE_EMBEDDINGS",
    "N_PRIMITIVES",
    "n_dirac_shifts",
]

#: What checkpoints index (PPUDA's PRIMITIVES_DEEPNETS1M); a vocabulary that grows needs a config field first.
N_PRIMITIVES = 15
MAX_DEGREE = 100
MAX_INPUT_DISTANCE = 1000
N_EDGE_EMBEDDINGS = 257
#: Of no edge; the published table leaves rows 0 and 1 unused.
FIRST_EDGE_EMBEDDING = 2
MAX_DISTANCE = N_EDGE_EMBEDDINGS - 1 - FIRST_EDGE_EMBEDDING
#: Nodes of a graph from which the attention bias of all pairs is never in memory as a whole.
LARGE = 4096
#: Widths of DeepNets-1M are multiples of it.
DIRAC_SHIFT = 16


def n_dirac_shifts(max_in: int) -> int:
    """How many multiples of identity matrices are decoded for a weight, besides that of grouped convolutions."""
    return max(1, max_in // DIRAC_SHIFT)
