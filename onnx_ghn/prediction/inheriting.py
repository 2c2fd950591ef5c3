"""Donors in a prediction: what is inherited by its options, whether outputs were kept, and what a user is told.

Imported only where a donor is given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from onnx_ghn.graph import ComputationGraph, Role
from onnx_ghn.graph.flat import FlatGraph
from onnx_ghn.inheritance.donor import open_donor
from onnx_ghn.inheritance.inheriting import Inheritance, inherit
from onnx_ghn.inheritance.naming import naming_of
from onnx_ghn.inheritance.pairing import COPIED
from onnx_ghn.prediction.kept_outputs import Apart, Unmeasured, outputs_apart
from onnx_ghn.prediction.options import PredictOptions
from onnx_ghn.prediction.origins import Origin
from onnx_ghn.prediction.ties import find_ties

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnx_ghn.passes import OpenedModel

__all__ = ["compared", "inheritance_notes", "inheritance_of", "origins_of", "unmeasured"]

_FEW = 1 / 3  # of a model's tensors, below which a donor is one of another kind


def inheritance_of(
    opened: OpenedModel, flat: FlatGraph, graph: ComputationGraph, options: PredictOptions
) -> Inheritance:
    """What a model inherits from the donors of these options.

    Raises:
        OptionError: a donor is untrained, its weights are not stored as floats, or names are given that fit no tensor.
    """
    given = (("classes", options.classes), ("vocabulary", options.vocabulary))
    namings = [naming_of(option, names) for option, names in given if names is not None]
    donors = [open_donor(path, heir=(graph, opened.stored)) for path in options.donors]
    names = [parameter.name for parameter in graph.parameters]
    ties = find_ties(graph.parameters, opened.stored)
    copies = {names[index]: names[tie.original] for index, tie in ties.items()}
    return inherit(opened, flat, graph, donors, options.selection, options.wants, namings, copies)


def origins_of(inheritance: Inheritance) -> dict[str, Origin]:
    """The origins of all inherited tensors, by name."""
    found = {}
    for name, tensor in inheritance.tensors.items():
        donor = inheritance.donors[tensor.donor]
        found[name] = Origin(
            donor.name,
            donor.sha256,
            tensor.source,
            tensor.rule,
            tensor.doubt,
            tensor.values,
            tensor.rest,
            is_copy=tensor.rule == COPIED,
        )
    return found


def compared(inheritance: Inheritance, model: ir.Model, options: PredictOptions) -> Apart | Unmeasured:
    """How far the outputs of a model lie from those of the one donor that everything in it comes from.

    Args:
        model: with the inherited weights in it.
    """
    donor = inheritance.whole_donor
    if options.blend:
        return Unmeasured("`blend` moves weights away from the donor's")
    if inheritance.by_name:
        return Unmeasured("rows that go by name stand in another order than the donor's")
    if donor is None:
        return Unmeasured("not everything comes from one donor")
    if not options.calibrates:
        return Unmeasured("`calibrate` none asks for no runs")
    return outputs_apart(model, donor.opened.model, options.seed)


def inheritance_notes(inheritance: Inheritance, options: PredictOptions, apart: Apart | Unmeasured) -> list[str]:
    """What a user should know: of the donors, and whether their outputs are kept.

    Args:
        apart: how far they lie apart, or why that was not measured.
    """
    told = [note for donor in inheritance.donors for note in donor.notes]
    n_inherited, n_others = len(inheritance.tensors), len(inheritance.missing) + len(inheritance.kept)
    if 0 < n_inherited < _FEW * (n_inherited + n_others):
        told.append(
            f"only {n_inherited:,} of {n_inherited + n_others:,} tensors have a counterpart: a start without `donors` "
            "may be better, as it was for the pair of this kind that was raced (MobileNetV2 from a SqueezeNet); "
            "compare both"
        )
    if options.blend:
        share = f"{options.blend:.0%} of the way to the GHN's, and outputs are not kept"
        return [*told, f"inherited weights that the GHN predicts too go {share}"]
    if inheritance.used and inheritance.is_exact and not options.include and not options.exclude:
        name = inheritance.used[0].name
        if isinstance(apart, Unmeasured):  # an activation or a stride of another kind is no tensor: only a run shows it
            not_seen = f"whether its outputs are kept was not measured: {apart.why}"
            return [*told, f"what comes from {name} is exact tensor by tensor; {not_seen}"]
        if apart.is_rounding:
            return [*told, f"outputs of {name} are kept, as far as floating point goes: {apart.words}"]
        return [*told, f"outputs of {name} are not kept, although each rule is exact by itself: {apart.words}"]
    reasons: dict[str, int] = {}
    for tensor in inheritance.tensors.values():
        if tensor.doubt:
            reasons[tensor.doubt] = reasons.get(tensor.doubt, 0) + 1
    inexact = [f"{reason} ({n} tensors)" for reason, n in sorted(reasons.items(), key=lambda item: -item[1])[:3]]
    patterns = ["`include` and `exclude` leave tensors out"] if options.include or options.exclude else []
    whose = f"of {inheritance.used[0].name}" if len(inheritance.used) == 1 else "of the donors"
    told.append(f"outputs {whose} may not be kept: " + "; ".join([*patterns, *inheritance.doubts[:3], *inexact]))
    kept: dict[str, list[str]] = {}
    for name, reason in inheritance.kept.items():
        kept.setdefault(reason, []).append(name)
    told += [
        f"{names[0]}" + (f" and {len(names) - 1} more are" if len(names) > 1 else " is") + f" not inherited: {reason}"
        for reason, names in list(kept.items())[:4]
    ]
    return [*told, apart.words]


def unmeasured(graph: ComputationGraph, inherited: Sequence[str]) -> ComputationGraph:
    """The graph with the running statistics that are inherited frozen: no run has to measure them."""
    names = set(inherited)
    return dataclasses.replace(
        graph,
        parameters=tuple(
            dataclasses.replace(p, frozen=True) if p.role is Role.statistic and p.name in names else p
            for p in graph.parameters
        ),
    )
