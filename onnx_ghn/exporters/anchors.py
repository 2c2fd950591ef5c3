"""The tensors of a file whose operators a tool fused or folded, found by values around them that kept their names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from onnx_ghn.onnx_io.stored import stored_tensors

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["by_anchor"]


def by_anchor(
    exported: ir.Model, wanted: Collection[str], model: ir.Model, stored: Mapping[str, StoredTensor]
) -> dict[str, str]:
    """From names of an export to those of a file of the same model that a tool rewrote; what is found is a guess.

    A tensor's anchors are the first values behind it that are computed from data and have the same name in both: of a
    linear layer that became Gemm and Reshape, the output stays. A tensor of the file stands for one of the export that
    has its shape, be it turned, and no anchors but its own. Several that could stand for several are taken in
    the order in which they are read, and one may stand for all: a tool keeps one of equal tensors.

    Args:
        wanted: names of the export's tensors that are to be found.
        stored: the tensors of the file.
    """
    own = stored_tensors(exported)
    common = _computed(exported) & _computed(model)
    new = [name for name in stored if name not in own]
    anchors = {name: _anchors(tensor.value, common) for name, tensor in stored.items()}
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in wanted:
        behind = _anchors(own[name].value, common)
        fitting = [
            other
            for other, tensor in stored.items()
            if behind
            and behind <= anchors[other]
            and tensor.dtype.is_floating_point()
            and _fits(tensor.shape, own[name].shape)
        ]
        candidates = [other for other in fitting if other in new] or fitting
        groups.setdefault(tuple(candidates), []).append(name)
    found: dict[str, str] = {}
    for others, names in groups.items():
        if len(others) == 1:
            found |= dict.fromkeys(names, others[0])
        elif len(others) == len(names):
            found |= dict(zip(_in_order(exported, names, own), _in_order(model, others, stored), strict=True))
    return found


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return shape == wanted or (len(shape) == 2 and shape[::-1] == wanted)


def _computed(model: ir.Model) -> set[str]:
    """Names of the values of the main graph that depend on its inputs."""
    data = {id(value) for value in model.graph.inputs if value.const_value is None}
    names = set()
    for node in model.graph:
        if any(id(value) in data for value in node.inputs):
            data |= {id(output) for output in node.outputs}
            names |= {output.name for output in node.outputs if output.name}
    return names


def _anchors(value: ir.Value, common: Collection[str]) -> set[str]:
    """The first values of `common` behind a value."""
    found: set[str] = set()
    pending, seen = [value], {id(value)}
    while pending:
        for use in pending.pop().uses():
            for output in use.node.outputs:
                if output.name and output.name in common:
                    found.add(output.name)
                elif id(output) not in seen:
                    seen.add(id(output))
                    pending.append(output)
    return found


def _in_order(model: ir.Model, names: Collection[str], stored: Mapping[str, StoredTensor]) -> list[str]:
    """The names of tensors in the order in which the operators of the file first read them."""
    numbers = {id(node): number for number, node in enumerate(model.graph)}
    return sorted(
        names,
        key=lambda name: min(
            ((numbers.get(id(use.node), len(numbers)), use.idx) for use in stored[name].value.uses()), default=(0, 0)
        ),
    )
