"""Reading and writing .onnx files safely: limits, external data, atomic replacement. No torch.

Names are resolved on first use, so that importing the package costs neither onnx nor onnx_ir.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx_ghn.onnx_io.injection import inject
    from onnx_ghn.onnx_io.read import read_model
    from onnx_ghn.onnx_io.stored import StoredTensor, stored_tensors
    from onnx_ghn.onnx_io.stripping import strip_model
    from onnx_ghn.onnx_io.untying import untie
    from onnx_ghn.onnx_io.write import check_target, write_model

__all__ = [
    "StoredTensor",
    "check_target",
    "inject",
    "read_model",
    "stored_tensors",
    "strip_model",
    "untie",
    "write_model",
]

# No submodule may bear one of these names: importing it would put the module in the place of the function.
_HOMES = {
    "StoredTensor": "stored",
    "check_target": "write",
    "inject": "injection",
    "read_model": "read",
    "stored_tensors": "stored",
    "strip_model": "stripping",
    "untie": "untying",
    "write_model": "write",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
