"""Where an inherited tensor comes from, and what a file says of that."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from onnx_ghn.arrays import Array
from onnx_ghn.json_types import Json

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnx_ghn.inheritance.transfer import Rest

__all__ = ["INHERITED", "Origin", "mark_origins"]

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
        values: gives its values.
        rest: rows of it that the donor has not; None where it has all.
        is_copy: whether it is the donor's, element for element.
    """

    donor: str
    sha256: str
    tensor: str
    rule: str
    doubt: str
    values: Callable[[], Array] = dataclasses.field(repr=False)
    rest: Rest | None = dataclasses.field(default=None, repr=False)
    is_copy: bool = False

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


def mark_origins(model: ir.Model, origins: Mapping[str, Origin]) -> None:
    """Say in a file's metadata which tensors come from which donor.

    Where none does, what an earlier prediction said of its own donors goes: nobody knows what became of those weights.
    """
    if not origins:
        model.metadata_props.pop(INHERITED, None)
        return
    donors = list(dict.fromkeys((origin.donor, origin.sha256) for origin in origins.values()))
    record = {
        "donors": [{"name": name, "sha256": sha256} for name, sha256 in donors],
        "tensors": {
            name: [donors.index((origin.donor, origin.sha256)), origin.tensor, origin.rule]
            for name, origin in sorted(origins.items())
        },
    }
    model.metadata_props[INHERITED] = json.dumps(record, separators=(",", ":"))
