"""Reading and writing .onnx files safely: limits, external data, atomic replacement. No torch.

Names are resolved on first use, so that importing the package costs neither onnx nor onnx_ir.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_ghn.lazy import lazy_names

if TYPE_CHECKING:
    from onnx_ghn.onnx_io.copying import copy_model
    from onnx_ghn.onnx_io.injection import inject
    from onnx_ghn.onnx_io.read import read_model
    from onnx_ghn.onnx_io.stored import StoredTensor, stored_tensors
    from onnx_ghn.onnx_io.transaction import check_target, write_file
    from onnx_ghn.onnx_io.write import write_model

__all__ = [
    "StoredTensor",
    "check_target",
    "copy_model",
    "inject",
    "read_model",
    "stored_tensors",
    "write_file",
    "write_model",
]

_HOMES = {
    "StoredTensor": "stored",
    "check_target": "transaction",
    "copy_model": "copying",
    "inject": "injection",
    "read_model": "read",
    "stored_tensors": "stored",
    "write_file": "transaction",
    "write_model": "write",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
