"""What a pass changed, after onnx_ir's pass protocol."""

from __future__ import annotations

import dataclasses

import onnx_ir as ir

__all__ = ["Rewrite"]


@dataclasses.dataclass
class Rewrite(ir.passes.PassResult):
    """The model, whether it was changed, and the names of what was changed in it."""

    changes: tuple[str, ...] = ()
