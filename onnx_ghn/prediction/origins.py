"""Where an inherited tensor comes from, and what a file says of that."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from onnx_ghn.arrays import Array
from onnx_ghn.graph import ComputationGraph, Role
from onnx_ghn.inheritance.donor import Donor, open_donor
from onnx_ghn.inheritance.inheriting import Inheritance, inherit
from onnx_ghn.json_types import Json
from onnx_ghn.prediction.kept_outputs import Apart
from onnx_ghn.prediction.options import PredictOptions

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnx_ghn.passes import OpenedModel

__all__ = ["INHERITED", "Origin", "inheritance_notes", "inheritance_of", "mark_origins", "origins_of", "unmeasured"]

INHERITED = "onnx_ghn.inherited"  # metadata: the donors, and what came from which


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """Where a tensor comes from.

    Attributes:
        donor: the name of its file.
        sha256: of its file, "" where there is none.
        tensor: the donor's tensor; "" for what makes a new block begin as the identity.
        rule: what was done to it.
        doubt: why the donor's outputs are not kept exactly by it; "" where they are.
    """

    donor: str
    sha256: str
    tensor: str
    rule: str
    doubt: str
    values: Callable[[], Array] = dataclasses.field(repr=False)

    @property
    def reason(self) -> str:
        """For people."""
        return f"{self.tensor} of {self.donor}: {self.rule}" if self.tensor else f"{self.rule} ({self.donor})"

    def to_dict(self) -> Json:
        """For JSON."""
        return {
            "donor": self.donor,
            "sha256": self.sha256,
            "tensor": self.tensor,
            "rule": self.rule,
            "exact": not self.doubt,
            "doubt": self.doubt,
        }


def inheritance_of(opened: OpenedModel, graph: ComputationGraph, options: PredictOptions) -> Inheritance | None:
    """What a model inherits by these options; None without donors.

    Raises:
        OptionError: a donor is untrained, or its weights are not stored as floats.
    """
    if not options.donors:
        return None
    donors = [open_donor(path) for path in options.donors]
    return inherit(opened, graph, donors, options.selection, options.wants)


def origins_of(inheritance: Inheritance | None) -> dict[str, Origin]:
    """The origins of all inherited tensors, by name."""
    if inheritance is None:
        return {}
    found = {}
    for name, tensor in inheritance.tensors.items():
        donor: Donor = inheritance.donors[tensor.donor]
        found[name] = Origin(donor.name, donor.sha256, tensor.source, tensor.rule, tensor.doubt, tensor.values)
    return found


def inheritance_notes(
    inheritance: Inheritance | None, options: PredictOptions, apart: Apart | None = None
) -> list[str]:
    """What a user should know: of the donors, and whether their outputs are kept.

    Args:
        apart: how far they lie apart, where that was measured.
    """
    if inheritance is None:
        return []
    told = [note for donor in inheritance.donors for note in donor.notes]
    if options.blend:
        share = f"{options.blend:.0%} of the way to the GHN's, and outputs are not kept"
        return [*told, f"inherited weights that the GHN predicts too go {share}"]
    if inheritance.is_exact and not options.include and not options.exclude:
        name = inheritance.donors[0].name
        if apart is None:  # an activation or a stride of another kind is no tensor: only a run shows it
            not_seen = "whether its outputs are kept was not measured"
            return [*told, f"what comes from {name} is exact tensor by tensor; {not_seen}: the two were not run alike"]
        if apart.is_rounding:
            return [*told, f"outputs of {name} are kept, as far as floating point goes: {apart.words}"]
        return [*told, f"outputs of {name} are not kept, although each rule is exact by itself: {apart.words}"]
    reasons: dict[str, int] = {}
    for tensor in inheritance.tensors.values():
        if tensor.doubt:
            reasons[tensor.doubt] = reasons.get(tensor.doubt, 0) + 1
    inexact = [f"{reason} ({n} tensors)" for reason, n in sorted(reasons.items(), key=lambda item: -item[1])[:3]]
    patterns = ["`include` and `exclude` leave tensors out"] if options.include or options.exclude else []
    told.append("outputs of the donor may not be kept: " + "; ".join([*patterns, *inheritance.doubts[:3], *inexact]))
    kept: dict[str, list[str]] = {}
    for name, reason in inheritance.kept.items():
        kept.setdefault(reason, []).append(name)
    told += [
        f"{names[0]}" + (f" and {len(names) - 1} more are" if len(names) > 1 else " is") + f" not inherited: {reason}"
        for reason, names in list(kept.items())[:4]
    ]
    if apart is not None:
        told.append(apart.words)
    return told


def mark_origins(model: ir.Model, origins: Mapping[str, Origin]) -> None:
    """Say in a file's metadata which tensors come from which donor."""
    donors = list(dict.fromkeys((origin.donor, origin.sha256) for origin in origins.values()))
    record = {
        "donors": [{"name": name, "sha256": sha256} for name, sha256 in donors],
        "tensors": {
            name: [donors.index((origin.donor, origin.sha256)), origin.tensor, origin.rule]
            for name, origin in sorted(origins.items())
        },
    }
    model.metadata_props[INHERITED] = json.dumps(record, separators=(",", ":"))


def unmeasured(graph: ComputationGraph, inherited: Sequence[str]) -> ComputationGraph:
    """The graph without the running statistics that are inherited, which no run has to measure."""
    names = set(inherited)
    return dataclasses.replace(
        graph,
        parameters=tuple(
            dataclasses.replace(p, role=Role.constant) if p.role is Role.statistic and p.name in names else p
            for p in graph.parameters
        ),
        norms=tuple(norm for norm in graph.norms if not {norm.mean, norm.variance} & names),
    )
