"""What a recipient inherits from its donors: for each tensor the donor's tensor, the rule, and the values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.graph import ComputationGraph
from onnx_ghn.inheritance.alignment import Alignment, align
from onnx_ghn.inheritance.channel_map import ChannelMap
from onnx_ghn.inheritance.depth import identity_blocks
from onnx_ghn.inheritance.donor import Donor
from onnx_ghn.inheritance.following import follow
from onnx_ghn.inheritance.pairing import Kept, Pairing
from onnx_ghn.inheritance.selections import Selection
from onnx_ghn.inheritance.structure import Structure, structure_of
from onnx_ghn.inheritance.tracing import Trace

if TYPE_CHECKING:
    from onnx_ghn.passes import OpenedModel

__all__ = ["Inheritance", "Inherited", "inherit"]


_WHOLE = 0.75  # share of a donor's tensors above which it is what the recipient grows from


@dataclasses.dataclass(frozen=True, eq=False)
class Inherited:
    """One tensor that comes from a donor.

    Attributes:
        donor: its number.
        source: the donor's tensor; "" for one that makes a new block begin as the identity.
        rule: what was done to it.
        doubt: why the outputs of the donor are not kept exactly by it; "" where they are.
        values: gives its values, of the stored shape.
    """

    name: str
    donor: int
    source: str
    rule: str
    doubt: str
    values: Callable[[], Array] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, eq=False)
class Inheritance:
    """What a recipient inherits.

    Attributes:
        tensors: by the recipient's names.
        kept: why others are not inherited, by name.
        doubts: why outputs are not kept exactly, beyond those of single tensors.
        alignments: for each donor, in order.
        missing: tensors that no donor has a counterpart of.
    """

    donors: tuple[Donor, ...]
    tensors: Mapping[str, Inherited]
    kept: Mapping[str, str]
    doubts: tuple[str, ...]
    alignments: tuple[Alignment, ...]
    missing: tuple[str, ...]
    trace: Trace
    structure: Structure

    @property
    def is_exact(self) -> bool:
        """Whether the rules keep the first donor's outputs, as far as they tell."""
        return not self.doubts and not any(tensor.doubt for tensor in self.tensors.values())

    @property
    def is_whole(self) -> bool:
        """Whether everything comes from one donor, so that its outputs are what to compare with."""
        return not self.kept and not self.missing and len({tensor.donor for tensor in self.tensors.values()}) == 1


def inherit(
    opened: OpenedModel,
    graph: ComputationGraph,
    donors: Sequence[Donor],
    selection: Selection = "uniform",
    wants: Callable[[str], bool] = lambda name: True,
) -> Inheritance:
    """Find what a model inherits from donors: of each tensor, from the donor that is most like the model and has it.

    Args:
        wants: whether a tensor of that name is to be filled.
    """
    trace = follow(opened.model, opened.stored, graph)
    structure = structure_of(trace)
    alignments = [align(structure, donor.structure) for donor in donors]
    tensors: dict[str, Inherited] = {}
    kept: dict[str, str] = {}
    doubts: list[str] = []
    free: set[str] = set()
    frozen = {parameter.name for parameter in graph.parameters if parameter.frozen}
    ranked = sorted(range(len(donors)), key=lambda i: -alignments[i].score)
    for place, number in enumerate(ranked):
        donor, alignment = donors[number], alignments[number]
        pairing = Pairing(trace, structure, donor, ChannelMap(trace, donor.trace, selection))
        found = pairing.all(alignment.pairs)
        used = len(set(alignment.pairs.values())) / max(1, len(donor.trace.uses))
        if place == 0 and used >= _WHOLE:
            more, told, free = identity_blocks(pairing, alignment)
            for name, entry in more.items():
                found[name] = entry
            doubts += told
        if place == 0:
            doubts += pairing.doubts
        for name, entry in found.items():
            if isinstance(entry, Kept):
                kept.setdefault(name, entry.reason)
            elif name not in tensors and name not in frozen and wants(name):
                tensors[name] = Inherited(name, number, entry.source, entry.rule, entry.doubt, entry.values)
                kept.pop(name, None)
    missing: list[str] = []
    if donors and ranked:
        for name in {parameter.name for parameter in graph.uncertain} & tensors.keys():
            # They keep their values, as nothing tells them from constants.
            if not np.array_equal(tensors.pop(name).values(), opened.stored[name].numpy()):
                doubts.append(f"{name}, learned or a constant, keeps its values, which are not the donor's")
        names = [parameter.name for parameter in graph.parameters if not parameter.frozen and wants(parameter.name)]
        missing = [name for name in names if name not in tensors and name not in free]
        grows = any(tensor.rule != "copied" for tensor in tensors.values())
        if grows and (unknown := {**trace.unknown, **donors[ranked[0]].trace.unknown}):
            doubts.append(f"channels are not followed through {', '.join(sorted(unknown)[:6])}")
        if missing:
            doubts.append(f"{len(missing)} tensors have no counterpart in a donor, first {missing[0]}")
        if alignments[ranked[0]].skipped:
            doubts.append(f"{len(alignments[ranked[0]].skipped)} blocks of {donors[ranked[0]].name} are left out")
    return Inheritance(tuple(donors), tensors, kept, tuple(doubts), tuple(alignments), tuple(missing), trace, structure)
