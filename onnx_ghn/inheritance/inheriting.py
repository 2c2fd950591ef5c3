"""What a recipient inherits from its donors: for each tensor the donor's tensor, the rule, and the values."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.garbage import no_garbage_collection
from onnx_ghn.graph import ComputationGraph
from onnx_ghn.graph.flat import FlatGraph
from onnx_ghn.inheritance.agreed import other_numbers, with_agreed
from onnx_ghn.inheritance.alignment import Alignment, align
from onnx_ghn.inheritance.channel_map import ChannelMap
from onnx_ghn.inheritance.depth import identity_blocks
from onnx_ghn.inheritance.donor import Donor
from onnx_ghn.inheritance.following import follow
from onnx_ghn.inheritance.naming import Namer, Naming
from onnx_ghn.inheritance.packed import joined, needs_unpacking, unpack
from onnx_ghn.inheritance.pairing import COPIED, Kept, Made, Pairing
from onnx_ghn.inheritance.structure import Structure, structure_of
from onnx_ghn.inheritance.tracing import Trace
from onnx_ghn.inheritance.transfer import Rest
from onnx_ghn.selections import Selection

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
        rest: rows of it that the donor has not; None where it has all.
    """

    name: str
    donor: int
    source: str
    rule: str
    doubt: str
    values: Callable[[], Array] = dataclasses.field(repr=False)
    rest: Rest | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Inheritance:
    """What a recipient inherits.

    Attributes:
        tensors: by the recipient's names.
        kept: why others are not inherited, by name.
        doubts: why outputs are not kept exactly, beyond those of single tensors.
        alignments: for each donor, in order.
        missing: tensors that no donor has a counterpart of.
        closest: number of the donor that is most like the recipient.
        by_name: whether rows are taken by the names of classes or tokens.
    """

    donors: tuple[Donor, ...]
    tensors: Mapping[str, Inherited]
    kept: Mapping[str, str]
    doubts: tuple[str, ...]
    alignments: tuple[Alignment, ...]
    missing: tuple[str, ...]
    closest: int
    trace: Trace
    structure: Structure
    by_name: bool

    @property
    def used(self) -> tuple[Donor, ...]:
        """The donors that tensors come from, in the order in which they were given."""
        return tuple(self.donors[number] for number in _used(self.tensors))

    @property
    def whole_donor(self) -> Donor | None:
        """The one donor that everything comes from, whose outputs are what to compare with; None where there is none.

        It need not be the first that was given, nor the one that is most like the recipient.
        """
        used = self.used
        return used[0] if len(used) == 1 and not self.kept and not self.missing else None

    @property
    def is_exact(self) -> bool:
        """Whether the rules keep the outputs of the one donor that is used, as far as they tell."""
        return not self.doubts and not any(tensor.doubt for tensor in self.tensors.values())


@no_garbage_collection()
def inherit(
    opened: OpenedModel,
    flat: FlatGraph,
    graph: ComputationGraph,
    donors: Sequence[Donor],
    selection: Selection = "uniform",
    wants: Callable[[str], bool] = lambda name: True,
    namings: Sequence[Naming] = (),
    copies: Mapping[str, str] = MappingProxyType({}),
) -> Inheritance:
    """Find what a model inherits from donors: of each tensor, from the donor that is most like the model and has it.

    Args:
        flat: the operators of the model, which the graph was read from.
        donors: one at least.
        wants: whether a tensor of that name is to be filled.
        namings: names of classes and tokens, by which rows are taken.
        copies: matrices of the model that hold what another one holds, by its name: they will hold what that inherits.

    Raises:
        OptionError: names that no tensor has the rows of.
    """
    namer = Namer(namings)
    theirs = [(donor.graph, donor.opened.stored) for donor in donors]
    graph = with_agreed((graph, opened.stored), theirs)
    trace = follow(flat, graph)
    donors = _comparable(trace, donors)
    structure = structure_of(trace)
    alignments = [align(structure, donor.structure) for donor in donors]
    tensors: dict[str, Inherited] = {}
    kept: dict[str, str] = {}
    told: dict[int, list[str]] = {}
    free: set[str] = set()
    frozen = {parameter.name for parameter in graph.parameters if parameter.frozen}
    made_of_weights = {parameter.name for parameter in graph.parameters if parameter.singular is not None}
    wholes = dict.fromkeys(part.name for part in trace.parts.values())
    ranked = sorted(range(len(donors)), key=lambda i: -alignments[i].score)
    for number in ranked:
        channels = ChannelMap(trace, donors[number].trace, selection)
        in_files = namer.in_files(donors[number].opened.model, opened.model)
        pairing = Pairing(trace, structure, donors[number], channels, namer, in_files, copies)
        found, told[number], behind_zeros = _from_one(pairing, alignments[number], is_closest=number == ranked[0])
        found = _with_wholes(found, wholes, trace, donors[number].trace)
        free |= {trace.whole(name) for name in behind_zeros}
        for name, entry in found.items():
            if isinstance(entry, Kept):
                if name not in made_of_weights:
                    kept.setdefault(name, entry.reason)
            elif name not in tensors and name not in frozen and wants(name):
                tensors[name] = Inherited(name, number, entry.source, entry.rule, entry.doubt, entry.values, entry.rest)
                kept.pop(name, None)
    namer.check()
    given_norms = _with_norms(trace, donors, tensors, wants)
    # What may be a constant keeps its values, as nothing tells.
    uncertain = {name: tensors.pop(name) for p in graph.uncertain if (name := p.name) in tensors}
    others = [name for name, one in uncertain.items() if not np.array_equal(one.values(), opened.stored[name].numpy())]
    others += other_numbers((graph, opened.stored), theirs)
    names = [p.name for p in graph.parameters if not (p.frozen or p.singular) and wants(p.name)]
    missing = [name for name in names if name not in tensors and name not in free | given_norms]
    doubts = _doubts_of_donors(donors, alignments, tensors, told)
    doubts += [f"{name}, learned or a constant, keeps its values, which are not the donor's" for name in others]
    unknown = {kind for each in (trace, *(donors[n].trace for n in _used(tensors))) for kind in each.unknown}
    if unknown and any(tensor.rule != COPIED for tensor in tensors.values()):
        doubts.append(f"channels are not followed through {', '.join(sorted(unknown)[:6])}")
    doubts += _changed_spectra(graph, tensors)
    if missing:
        doubts.append(f"{len(missing)} tensors have no counterpart in a donor, first {missing[0]}")
    return Inheritance(
        tuple(donors),
        tensors,
        kept,
        tuple(doubts),
        tuple(alignments),
        tuple(missing),
        ranked[0],
        trace,
        structure,
        bool(namer.used),
    )


def _with_norms(
    trace: Trace, donors: Sequence[Donor], tensors: dict[str, Inherited], wants: Callable[[str], bool]
) -> set[str]:
    """Names of the norms that a model holds apart from its weights, and that are those of what these inherit.

    A weight is inherited with the norms that its donor's layer gets. Where it is the donor's, element for element,
    it and its norms are as the donor stores them: training has changed each by itself.
    """
    found = set()
    for name, norms in trace.norms_of.items():
        if (weight := tensors.get(name)) is None or trace.parameters[norms].frozen or not wants(norms):
            continue
        donor = donors[weight.donor]
        source = donor.trace.norms_of.get(weight.source)
        shapes = {each.parameters[of].shape for each, of in ((trace, norms), (donor.trace, source)) if of is not None}
        if source is not None and weight.rule == COPIED and len(shapes) == 1:
            values, own = (functools.partial(donor.stored_values, each) for each in (weight.source, source))
            tensors[name] = dataclasses.replace(weight, values=values)
            tensors[norms] = Inherited(norms, weight.donor, source, COPIED, "", own)
        else:
            found.add(norms)
    return found


def _changed_spectra(graph: ComputationGraph, tensors: Mapping[str, Inherited]) -> list[str]:
    """A doubt where weights are divided by their largest singular values, which other channels change."""
    divided = dict.fromkeys(p.singular.weight for p in graph.parameters if p.singular is not None)
    changed = [name for name in divided if name in tensors and tensors[name].rule != COPIED]
    return [f"{changed[0]} is divided by its largest singular value, which has changed"] if changed else []


def _comparable(trace: Trace, donors: Sequence[Donor]) -> list[Donor]:
    """The donors. Where models hold queries, keys and values otherwise than each other, all have them apart."""
    traces = [trace, *(donor.trace for donor in donors)]
    if not needs_unpacking(traces):
        return list(donors)
    for each in traces:
        unpack(each)
    return [dataclasses.replace(donor, structure=structure_of(donor.trace)) for donor in donors]


def _with_wholes(
    found: Mapping[str, Made | Kept], wholes: Iterable[str], trace: Trace, donor: Trace
) -> dict[str, Made | Kept]:
    """What is found of the parts of tensors, as what is found of these."""
    result = {name: entry for name, entry in found.items() if name not in trace.parts}
    made = {name: entry for name, entry in found.items() if isinstance(entry, Made)}
    for whole in wholes:
        entries = [found.get(name) for name in trace.parts_of(whole)]
        kept = next((entry for entry in entries if isinstance(entry, Kept)), None)
        if (one := joined(trace, donor, whole, made) or kept) is not None:
            result[whole] = one
    for name, entry in result.items():
        if isinstance(entry, Made) and (part := donor.parts.get(entry.source)) is not None:
            result[name] = dataclasses.replace(entry, source=part.name, rule=f"its {part.what}, {entry.rule}")
    return result


def _used(tensors: Mapping[str, Inherited]) -> list[int]:
    """Numbers of the donors that tensors come from."""
    return sorted({tensor.donor for tensor in tensors.values()})


def _from_one(
    pairing: Pairing, alignment: Alignment, *, is_closest: bool
) -> tuple[dict[str, Made | Kept], list[str], set[str]]:
    """What one donor gives; new blocks begin as the identity where the recipient grows from it.

    Returns:
        tensors by name, doubts, and names of tensors that the outputs do not depend on.
    """
    found = pairing.all(alignment.pairs)
    if not is_closest or len(set(alignment.pairs.values())) < _WHOLE * max(1, len(pairing.donor.trace.uses)):
        return found, pairing.doubts, set()
    more, told, free = identity_blocks(pairing, alignment, found)
    return {**found, **more}, [*told, *pairing.doubts], free


def _doubts_of_donors(
    donors: Sequence[Donor],
    alignments: Sequence[Alignment],
    tensors: Mapping[str, Inherited],
    told: Mapping[int, Sequence[str]],
) -> list[str]:
    """Doubts on the donors that are used; what another one would have done to outputs is of no account."""
    used = _used(tensors)
    doubts = [doubt for number in used for doubt in told[number]]
    if len(used) > 1:
        doubts.insert(0, f"tensors come from {len(used)} donors ({', '.join(donors[number].name for number in used)})")
    elif used and alignments[used[0]].skipped:
        doubts.append(f"{len(alignments[used[0]].skipped)} blocks of {donors[used[0]].name} are left out")
    return doubts
