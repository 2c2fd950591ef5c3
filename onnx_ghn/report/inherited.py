"""What the page shows of inherited weights: both models block by block, and where each tensor comes from."""

from __future__ import annotations

from onnx_ghn.errors import printable
from onnx_ghn.inheritance.inheriting import Inheritance
from onnx_ghn.json_types import Json
from onnx_ghn.prediction.coverage import CoverageReport
from onnx_ghn.prediction.explaining import AlignedBlock, aligned_blocks

__all__ = ["inherited_data"]


def inherited_data(inheritance: Inheritance, coverage: CoverageReport) -> Json:
    """The blocks of the model and of the donor that is most like it, what stands for what, and each tensor's origin.

    Args:
        coverage: of the prediction that inherits.

    Returns:
        a JSON object with the donor's name, `model` and `donor` as lists of blocks, `links` as pairs of their numbers,
        `tensors` with the block that they are of and the donor's block that they come from (-1 for none), and notes.
    """
    found = aligned_blocks(inheritance)
    block_of = {name: number for number, block in enumerate(found.model) for name in block.tensors}
    donor_block_of = {name: number for number, block in enumerate(found.donor) for name in block.tensors}
    rows = []
    for entry in coverage.entries:
        origin = entry.origin
        if origin is None:
            continue
        # By its number: two donors of different folders may have one name.
        is_closest = inheritance.tensors[entry.parameter.name].donor == inheritance.closest
        rows.append(
            {
                "name": printable(entry.parameter.name),
                "source": printable(origin.tensor),
                "donor": printable(origin.donor),
                "rule": printable(origin.rule),
                "doubt": printable(origin.doubt),
                "block": block_of.get(entry.parameter.name, -1),
                "donor_block": donor_block_of.get(origin.tensor, -1) if is_closest else -1,
            }
        )
    return {
        "donor": printable(found.donor_name),
        "model_blocks": [_block(block) for block in found.model],
        "donor_blocks": [_block(block) for block in found.donor],
        "links": [list(link) for link in found.links],
        "tensors": rows,
        "n_missing": len(inheritance.missing),
        "notes": [printable(doubt) for doubt in inheritance.doubts],
    }


def _block(block: AlignedBlock) -> Json:
    return {"name": printable(block.name), "kind": block.kind, "tensors": [printable(name) for name in block.tensors]}
