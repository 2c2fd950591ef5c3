"""Which tensor is decoded from which node, by which decoder, at which size."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Literal

from onnx_ghn.errors import GraphError
from onnx_ghn.ghn.config import GHNConfig
from onnx_ghn.ghn.shape_indices import four_axes
from onnx_ghn.ghn.tiling import fan_in_factor, position_grid
from onnx_ghn.graph.model import ComputationGraph, Primitive

__all__ = ["Kind", "Target", "grouped_targets", "targets_of"]

Kind = Literal["weight", "position", "class_weight", "scale", "shift", "class_shift"]


@dataclasses.dataclass(frozen=True)
class Target:
    """One tensor to predict.

    Attributes:
        kind: weight (the 4-D decoder), position (a 3-D table, by the same), class_weight (the class decoder),
            scale and shift (the 1-D decoder), class_shift (that followed by the class bias).
        graph, node: where its embedding is: index of the graph in the batch, of the node in the graph.
        parameter: index into the graph's parameters.
        shape: canonical shape.
        tiled: what its block is repeated to, with the elements of `shape`.
        decode: out × in × kh × kw asked of the decoder, none above max_shape (classes × in for class_weight).
        kernel: kernel size that the block is brought to before tiling.
        factor: fan-in normalisation.
        grouped: whether it is the kernel of a grouped convolution, whose inputs are those of one group.
        positions: the axis of `tiled` along which the weight of a flattened map repeats for each position, else None.
    """

    kind: Kind
    graph: int
    node: int
    parameter: int
    shape: tuple[int, ...]
    tiled: tuple[int, ...]
    decode: tuple[int, ...] = ()
    kernel: tuple[int, int] = (1, 1)
    factor: float = 1.0
    grouped: bool = False
    positions: int | None = None

    @property
    def repeats(self) -> int:
        """How often the inputs of a weight repeat those that are decoded."""
        tiled = [*self.tiled]
        n_positions = tiled.pop(self.positions) if self.positions is not None else 1
        return math.ceil(tiled[1] / max(self.decode[1], 1)) * n_positions


def targets_of(graph: ComputationGraph, config: GHNConfig, index: int = 0) -> Iterator[Target]:
    """The tensors that a GHN of this config predicts for a graph.

    The classifier's rule is the published one: the weight of node N-2 is decoded by the class decoder, the
    bias of node N-1 by the class bias (facebookresearch/ppuda, ppuda/ghn/nn.py, `GHN._map_net_params`). Where
    the weight's kernel is larger than 1×1, which the published code can't set, it is an ordinary weight.

    Args:
        index: of the graph in its batch.

    Raises:
        GraphError: a node decodes a parameter that the graph does not have.
    """
    head_weight, head_bias = graph.head
    for number, node in enumerate(graph.nodes):
        for parameter in node.parameters:
            if not 0 <= parameter < len(graph.parameters):
                name = node.name or node.primitive.name
                raise GraphError(
                    f"graph {graph.name!r}: node {number} ({name}) decodes parameter {parameter}, "
                    f"but there are {len(graph.parameters)}"
                )
        if node.weight is not None:
            pooled = config.pooled_flatten and graph.parameters[node.weight].flattened is not None
            weight_of = _flattened_weight if pooled else _weight
            yield weight_of(graph, config, index, number, node.weight, number == head_weight)
        if node.scale is not None:
            yield _vector("scale", graph, index, number, node.scale)
        if node.shift is not None:
            yield _vector("class_shift" if number == head_bias else "shift", graph, index, number, node.shift)


def grouped_targets(targets: Iterable[Target]) -> list[list[Target]]:
    """Targets that one product decodes: of one kind and size."""
    groups: defaultdict[tuple[object, ...], list[Target]] = defaultdict(list)
    for target in targets:
        # Position tables of one grid may differ in rows, so each shape of table is a group.
        table = target.shape if target.kind == "position" else None
        groups[target.kind, target.decode, target.kernel, target.grouped, target.positions, table].append(target)
    return list(groups.values())


def _vector(kind: Kind, graph: ComputationGraph, index: int, number: int, parameter: int) -> Target:
    shape = graph.parameters[parameter].layout.canonical
    return Target(kind, index, number, parameter, shape, tiled=(math.prod(shape),))


def _weight(
    graph: ComputationGraph, config: GHNConfig, index: int, number: int, parameter: int, is_head: bool
) -> Target:
    layout = graph.parameters[parameter].layout
    shape = layout.canonical
    out, in_, kh, kw = four_axes(shape)
    largest = config.max_shape
    is_table = len(shape) == 3 and shape[0] == 1 and min(shape[1:]) > 1
    factor = 1.0
    if config.weight_norm:
        position = is_table or graph.nodes[number].primitive is Primitive.pos_enc
        factor = fan_in_factor(shape, position=position, repeats=layout.inflation)
    if is_head and not is_table and len(shape) > 1 and kh * kw == 1:
        classes = min(out, config.num_classes)
        decode: tuple[int, ...] = (classes, min(in_, largest[1]))
        return Target("class_weight", index, number, parameter, shape, (out, in_), decode, factor=factor)
    kind: Kind = "weight"
    tiled: tuple[int, ...] = (out, in_, kh, kw)
    if is_table:
        kind, tiled = "position", shape
        kh = kw = position_grid(shape[1])[0]
    decode = (min(out, largest[0]), min(in_, largest[1]), min(kh, largest[2]), min(kw, largest[3]))
    if any(size == 0 for size in tiled):
        decode = (1, 1, 1, 1)
    # An interpolated kernel has its full size before channels are tiled; a tiled one grows with them. A
    # position table is cut from its grid, so there the grid has to be whole in either case.
    interpolate = config.kernel_overflow == "interpolate"
    kernel = (kh, kw) if interpolate and 0 not in tiled else (decode[2], decode[3])
    grouped = graph.nodes[number].primitive in (Primitive.sep_conv, Primitive.dil_conv)
    return Target(kind, index, number, parameter, shape, tiled, decode, kernel, factor, grouped)


def _flattened_weight(
    graph: ComputationGraph, config: GHNConfig, index: int, number: int, parameter: int, is_head: bool
) -> Target:
    """One column a channel, its share at each position: what the weight of the pooled map would do."""
    shape, flattened = graph.parameters[parameter].layout.canonical, graph.parameters[parameter].flattened
    assert flattened is not None
    out, n_positions = shape[0], flattened.positions
    in_ = shape[1] // n_positions
    last = flattened.channels_last
    tiled = (out, n_positions, in_) if last else (out, in_, n_positions)
    factor = (fan_in_factor((out, in_), position=False) if config.weight_norm else 1.0) / n_positions
    kind: Kind = "class_weight" if is_head else "weight"
    columns = min(in_, config.max_shape[1])
    decode = (min(out, config.num_classes), columns) if is_head else (min(out, config.max_shape[0]), columns, 1, 1)
    return Target(kind, index, number, parameter, shape, tiled, decode, factor=factor, positions=1 if last else 2)
