"""The computational graph that a GHN reads: nodes, edges, parameters. One class for every source of graphs.

A graph is built from an ONNX file (`onnx_ghn.graph.build_graph`), read from a DeepNets-1M file, or made
from a sampled genotype; a GHN cannot tell which.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import GraphError
from onnx_ghn.graph.parameter import Parameter, Role
from onnx_ghn.limits import gib, memory_bytes

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["ComputationGraph", "Node", "Primitive", "RunningNorm"]


class Primitive(enum.IntEnum):
    """Operation kind of a graph node. The order is that of DeepNets-1M's
    `PRIMITIVES_DEEPNETS1M` (facebookresearch/ppuda, ppuda/deepnets1m/genotypes.py), which trained
    checkpoints index; new kinds may only be added at the end.
    """

    max_pool = 0
    avg_pool = 1
    sep_conv = 2
    dil_conv = 3
    conv = 4
    msa = 5
    cse = 6
    sum = 7
    concat = 8
    input = 9
    bias = 10
    bn = 11
    ln = 12
    pos_enc = 13
    glob_avg = 14


class Node(NamedTuple):
    """One node of the graph.

    A GHN decodes up to three parameters from a node's embedding, each an index into
    `ComputationGraph.parameters`: `weight` (2-D to 4-D), `scale` and `shift` (1-D; the two rows of
    the 1-D decoder). A normalisation layer has scale and shift; a bias node has only shift.

    Attributes:
        shape: what the shape encoder sees: the parameter's canonical shape, (1, 1, kh, kw) for a pooling
            window, None where the operation has neither.
        name: for people: the parameter's or the operator's name.
    """

    primitive: Primitive
    shape: tuple[int, ...] | None = None
    weight: int | None = None
    scale: int | None = None
    shift: int | None = None
    name: str = ""

    @property
    def parameters(self) -> tuple[int, ...]:
        """Indices of the parameters decoded from this node."""
        return tuple(i for i in (self.weight, self.scale, self.shift) if i is not None)


@dataclasses.dataclass(frozen=True)
class RunningNorm:
    """A batch norm that normalises by running statistics, as an operator or written as arithmetic.

    Attributes:
        mean, variance, scale, shift: names of its parameters, "" where it has none or it is not found.
        axis: of the channels, counted from the last (-1). None for an operator, whose channels come second.
        obstacle: why no trial run can measure its statistics, "" where one can.
    """

    mean: str
    variance: str
    scale: str
    shift: str
    axis: int | None = None
    obstacle: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Those of its parameters that are known."""
        return tuple(name for name in (self.mean, self.variance, self.scale, self.shift) if name)


@dataclasses.dataclass(frozen=True, eq=False)
class ComputationGraph:
    """A directed acyclic graph in topological order.

    Attributes:
        nodes: N nodes; every edge goes from a lower to a higher index.
        edges: (E, 2) int array of 1-hop edges, [from, to], sorted, without duplicates.
        parameters: all trainable tensors and statistics of the model, decoded by a node or not.
        name: of the model.
        uncertain: stored tensors of which neither the graph nor the file tells whether they are learned.
        constants: every other stored tensor of the model, with the reason why it is no parameter.
        norms: its batch norms with running statistics.
    """

    nodes: tuple[Node, ...]
    edges: npt.NDArray[np.int64]
    parameters: tuple[Parameter, ...] = ()
    name: str = ""
    norms: tuple[RunningNorm, ...] = ()
    uncertain: tuple[Parameter, ...] = ()
    constants: tuple[Parameter, ...] = ()

    def __post_init__(self) -> None:
        edges = np.asarray(self.edges, dtype=np.int64).reshape(-1, 2)
        if len(edges):
            if edges.min() < 0 or edges.max() >= len(self.nodes):
                raise GraphError(f"graph {self.name!r}: an edge names a node outside 0..{len(self.nodes) - 1}")
            if (edges[:, 0] >= edges[:, 1]).any():
                raise GraphError(f"graph {self.name!r}: nodes are not in topological order, or form a cycle")
            edges = _sorted_pairs(edges, len(self.nodes))
        edges.setflags(write=False)
        object.__setattr__(self, "edges", edges)

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        decoded = {i for node in self.nodes for i in node.parameters}
        n_elements = sum(p.n_trained for p in self.parameters if p.role is not Role.statistic)
        return (
            f"ComputationGraph({self.name!r}: {len(self.nodes)} nodes, {len(self.edges)} edges, "
            f"{len(self.parameters)} parameters ({len(decoded)} in nodes), {n_elements:,} trainable elements)"
        )

    @functools.cached_property
    def primitives(self) -> npt.NDArray[np.int64]:
        """(N,) primitive index of each node."""
        return np.array([int(node.primitive) for node in self.nodes], dtype=np.int64)

    @functools.cached_property
    def levels(self) -> npt.NDArray[np.int64]:
        """(N,) length of the longest path that ends in each node. Nodes of one level share no edge."""
        # networkx's topological_generations and its DiGraph take seven times as long.
        level = np.zeros(len(self.nodes), dtype=np.int64)
        # Edges are sorted by source, and sources come in topological order: one sweep settles each node.
        for source, target in self.edges.tolist():
            level[target] = max(level[target], level[source] + 1)
        return level

    @functools.cached_property
    def head(self) -> tuple[int | None, int | None]:
        """(classifier weight, classifier bias): indices of the last two nodes where they are that, else None.

        The published decoders treat the weight at node N-2 and the bias at node N-1 as the classification
        layer (facebookresearch/ppuda, ppuda/deepnets1m/graph.py, `_construct_features`).
        """
        n = len(self.nodes)
        weight: int | None = None
        bias: int | None = None
        if n >= 2:
            before, last = self.nodes[n - 2], self.nodes[n - 1]
            if before.weight is not None and before.primitive is not Primitive.pos_enc:
                weight = n - 2
            if last.primitive is Primitive.bias and last.shift is not None:
                bias = n - 1
        return weight, bias

    def distances(self, cutoff: int = 50) -> npt.NDArray[np.int32]:
        """Shortest-path lengths.

        Args:
            cutoff: pairs further apart than this have no virtual edge (PPUDA: 50).

        Returns:
            (N, N) array: entry [i, j] is the number of edges on the shortest
            directed path from i to j, 0 where there is none of length 1 to cutoff.

        Raises:
            GraphError: so many nodes that the array exceeds this machine's memory.
        """
        n = len(self.nodes)
        needed_bytes = 5 * n * n  # lengths and their mask
        if needed_bytes > memory_bytes():
            raise GraphError(
                f"graph {self.name!r} has {n:,} nodes, whose distances need {gib(needed_bytes)}, and there are "
                f"{gib(memory_bytes())}: take a machine with more memory"
            )
        after: list[list[int]] = [[] for _ in range(n)]
        for source, target in self.edges.tolist():
            after[source].append(target)
        # scipy.sparse.csgraph takes one and a half to three times as long, networkx twenty to fifty times.
        # int32 is the smallest type that torch's embedding tables take; 2^30 plus n is still within it.
        lengths = np.full((n, n), 1 << 30, dtype=np.int32)
        rows = list(lengths)  # (N,) views
        # From the last node to the first: one step further from everything than the nearest successor.
        for i in range(n - 1, -1, -1):
            row, successors = rows[i], after[i]
            if len(successors) == 1:
                np.add(rows[successors[0]], 1, out=row)
            elif successors:
                np.minimum(rows[successors[0]], rows[successors[1]], out=row)
                for successor in successors[2:]:
                    np.minimum(row, rows[successor], out=row)
                row += 1
            row[i] = 0
        lengths *= lengths <= cutoff
        return lengths

    def virtual_edges(self, cutoff: int = 50) -> npt.NDArray[np.int64]:
        """(M, 3) int array of [from, to, distance] for every pair at distance 1 to cutoff, 1-hop edges included."""
        if cutoff <= 1:
            return np.column_stack([self.edges, np.ones(len(self.edges), dtype=np.int64)])
        lengths = self.distances(cutoff)
        source, target = np.nonzero(lengths)
        return np.column_stack([source, target, lengths[source, target]])

    def decoded_parameters(self) -> set[int]:
        """Indices of the parameters that some node decodes."""
        return {i for node in self.nodes for i in node.parameters}

    def to_networkx(self) -> nx.DiGraph[int]:
        """The graph for networkx's algorithms: nodes are their indices, with `primitive`, `shape`, `name`."""
        import networkx as nx

        graph: nx.DiGraph[int] = nx.DiGraph(name=self.name)
        for i, node in enumerate(self.nodes):
            graph.add_node(i, primitive=node.primitive.name, shape=node.shape, name=node.name)
        graph.add_edges_from(self.edges.tolist())
        return graph

    @staticmethod
    def topological(
        nodes: Sequence[Node], edges: Sequence[tuple[int, int]], parameters: Sequence[Parameter] = (), name: str = ""
    ) -> ComputationGraph:
        """A graph from nodes in any order. Raises GraphError on a cycle.

        Of all topological orders this takes the one nearest to the given order (the smallest ready index
        first), so that the classifier, last in a file, stays last.
        """
        readers: list[list[int]] = [[] for _ in nodes]
        waits = [0] * len(nodes)  # for how many nodes each one waits
        for source, reader in dict.fromkeys(edges):
            readers[source].append(reader)
            waits[reader] += 1
        ready = [i for i, count in enumerate(waits) if not count]  # in order, so it is a heap
        order: list[int] = []
        while ready:
            order.append(heapq.heappop(ready))
            for reader in readers[order[-1]]:
                waits[reader] -= 1
                if not waits[reader]:
                    heapq.heappush(ready, reader)
        if len(order) < len(nodes):
            raise GraphError(f"graph {name!r} has a cycle; ONNX graphs are acyclic: export the model again")
        position = {old: new for new, old in enumerate(order)}
        return ComputationGraph(
            nodes=tuple(nodes[i] for i in order),
            edges=np.array([(position[a], position[b]) for a, b in edges], dtype=np.int64).reshape(-1, 2),
            parameters=tuple(parameters),
            name=name,
        )


def _sorted_pairs(edges: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """(E, 2) pairs of numbers below n, sorted, without duplicates (numpy.unique by rows takes ten times as long)."""
    keys = edges[:, 0] * n + edges[:, 1]
    keys.sort()
    first = np.ones(len(keys), dtype=bool)
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    return np.stack(np.divmod(keys[first], n), axis=1)
