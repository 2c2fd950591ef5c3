"""How DeepNets-1M files name operations and parameters.

Facts from facebookresearch/ppuda: ppuda/deepnets1m/loader.py (`_init_graph`), net.py (`get_cell_ind`) and
experiments/net_generator.py.
"""

from __future__ import annotations

import functools

from onnx_ghn.graph.model import Node, Primitive

__all__ = ["cell_of", "full_name", "kind_of", "primitive_of", "short_name"]


@functools.cache
def primitive_of(kind: str) -> Primitive | None:
    """The primitive of a file's kind of node, which may carry a kernel size (conv_1x1, sep_conv_3x3), or None."""
    if kind.startswith("conv_"):
        kind = "conv"
    elif "conv_" in kind or "pool_" in kind:
        kind = kind[:-4]  # _3x3
    elif kind == "fc-b":
        kind = "bias"
    return Primitive.__members__.get(kind)


@functools.lru_cache(maxsize=1 << 14)
def full_name(name: str, cell: int) -> str:
    """A parameter's name in the network from its name in the cell; files of several ages spell some differently."""
    if name.startswith("classifier"):
        return name
    if not name:
        name = "input"
    elif name.endswith("to_out.0."):
        name += "weight"
    else:
        parts = name.split(".")
        for i, part in enumerate(parts[:-2]):
            if part == "_ops" and parts[i + 2].isdecimal():
                name = ".".join([*parts[: i + 2], "op", *parts[i + 2 :]])
                break
    for outside in ("stem", "pos_enc"):
        if outside in name:
            return name[name.index(outside) :]
    return f"cells.{cell}.{name}"


def cell_of(name: str, n_cells: int) -> int:
    """The cell to which files count a node or parameter: the stem to the first, the head to the last."""
    if name.startswith("cells."):
        return int(name.split(".", 2)[1])
    return n_cells - 1 if name.startswith(("classifier", "glob_avg")) else 0


def short_name(node: Node) -> str:
    """What a file calls a node: its parameter without the cell, or its primitive."""
    if not node.parameters:
        return node.primitive.name
    return node.name.split(".", 2)[2] if node.name.startswith("cells.") else node.name


def kind_of(node: Node) -> str:
    """A file's kind of a node: the primitive's name, or conv_1x1 for 1 × 1 convolutions and linear layers."""
    shape = node.shape
    if node.primitive is Primitive.conv and shape is not None and (len(shape) == 2 or shape[2:] == (1, 1)):
        return "conv_1x1"
    return node.primitive.name
