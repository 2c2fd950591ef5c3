"""Checks of one TensorProto: what it declares must be what it holds. Declarations allocate nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import onnx_ir as ir

from onnx_ghn.errors import ModelReadError
from onnx_ghn.onnx_io.external import AbsentData, DataFolder, FileSlice, ModelFile
from onnx_ghn.onnx_io.wire import Payloads

if TYPE_CHECKING:
    import onnx

__all__ = ["Held", "TensorChecks"]

#: What a marker stands for in a model that is read.
Held: TypeAlias = "memoryview | FileSlice | AbsentData | onnx.SparseTensorProto"

_DAMAGED = "the file is damaged: export it again"
_EXTERNAL = 1  # TensorProto.DataLocation.EXTERNAL
_MAX_BYTES = 1 << 62  # beyond any file; keeps sizes in what the file system counts
_TYPED_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
# The field that holds a type's values where raw_data does not; int32_data for all the others
# (onnx/onnx.proto, TensorProto).
_FIELD_OF = {
    ir.DataType.FLOAT: "float_data",
    ir.DataType.COMPLEX64: "float_data",
    ir.DataType.DOUBLE: "double_data",
    ir.DataType.COMPLEX128: "double_data",
    ir.DataType.INT64: "int64_data",
    ir.DataType.UINT32: "uint64_data",
    ir.DataType.UINT64: "uint64_data",
    ir.DataType.STRING: "string_data",
}


class TensorChecks:
    """Checks the tensors of one model and settles where the data of each lies."""

    def __init__(self, label: str, payloads: Payloads[Held], folder: DataFolder) -> None:
        self._label = label
        self._payloads = payloads
        self._folder = folder

    def _error(self, what: str, text: str, remedy: str = "re-export the model") -> ModelReadError:
        return ModelReadError(f"{self._label}: {what} {text}; {remedy}")

    def dense(self, tensor: onnx.TensorProto, what: str) -> None:
        """Check a TensorProto. External data is opened, and put in its place as a marker in raw_data."""
        dtype, count = self._declared(tensor, what)
        nbytes = (count * dtype.bitwidth + 7) // 8 if dtype != ir.DataType.STRING else 0
        # numpy refuses the product of the other dimensions even where one is 0.
        if math.prod(dim or 1 for dim in tensor.dims) * 16 > _MAX_BYTES:
            raise self._error(what, f"declares the impossible shape {list(tensor.dims)}", _DAMAGED)
        if tensor.HasField("segment"):
            raise self._error(what, "is stored in segments, which no exporter writes")
        filled = [field for field in _TYPED_FIELDS if len(getattr(tensor, field))]
        if tensor.data_location == _EXTERNAL:
            self._external(tensor, dtype, nbytes, filled, what)
        elif tensor.HasField("raw_data"):
            raw = tensor.raw_data
            payload = self._payloads.get(raw)
            held = (
                payload.length
                if isinstance(payload, FileSlice)
                else len(payload if isinstance(payload, memoryview) else raw)
            )
            if filled or dtype == ir.DataType.STRING:
                raise self._error(what, "holds its data twice or in the wrong field", _DAMAGED)
            if held != nbytes:
                raise self._wrong_size(tensor, what, f"{nbytes} bytes", f"{held}")
        else:
            expected_field = _FIELD_OF.get(dtype, "int32_data")
            if filled and filled != [expected_field]:
                raise self._error(what, f"of type {dtype.name.lower()} keeps its data in {filled[0]}", _DAMAGED)
            held, expected = len(getattr(tensor, expected_field)), _typed_length(dtype, count)
            if held != expected:
                raise self._wrong_size(tensor, what, f"{expected} values", f"{held}")

    def _declared(self, tensor: onnx.TensorProto, what: str) -> tuple[ir.DataType, int]:
        """Type and number of elements."""
        try:
            dtype = ir.DataType(tensor.data_type)
        except ValueError:
            dtype = ir.DataType.UNDEFINED
        if dtype == ir.DataType.UNDEFINED:
            raise self._error(what, f"has the unknown data type {tensor.data_type}", "update onnx and onnx-ir")
        dims = list(tensor.dims)
        if any(dim < 0 for dim in dims):
            raise self._error(what, f"declares the negative shape {dims}", _DAMAGED)
        if len(dims) > 64:
            # numpy's limit
            raise self._error(what, f"declares {len(dims)} dimensions", _DAMAGED)
        return dtype, math.prod(dims)

    def _wrong_size(self, tensor: onnx.TensorProto, what: str, expected: str, held: str) -> ModelReadError:
        actual = f"holds {held}" if held != "0" else "holds none (were the weights removed?)"
        return self._error(what, f"of shape {list(tensor.dims)} needs {expected} but {actual}")

    def _external(
        self, tensor: onnx.TensorProto, dtype: ir.DataType, nbytes: int, filled: list[str], what: str
    ) -> None:
        if dtype == ir.DataType.STRING:
            raise self._error(what, "holds strings, which cannot be external data")
        if filled or (tensor.HasField("raw_data") and tensor.raw_data):
            raise self._error(what, "holds data both inside and outside the file")
        data = self._folder.slice(tensor, nbytes, what)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        tensor.raw_data = self._payloads.add(data)

    def sparse(self, sparse: onnx.SparseTensorProto, what: str) -> None:
        """Check a SparseTensorProto; its parts must be in the file, and come back into the message."""
        for part, role in ((sparse.values, "values"), (sparse.indices, "indices")):
            self.dense(part, f"the {role} of {what}")
            payload = self._payloads.get(part.raw_data) if part.HasField("raw_data") else None
            if payload is not None:
                if isinstance(payload, FileSlice) and isinstance(payload.file, ModelFile):
                    payload = payload.view()
                if not isinstance(payload, memoryview):
                    raise self._error(what, "is sparse with external data", "save it inside the file")
                part.raw_data = bytes(payload)
        count = sparse.values.dims[0] if len(sparse.values.dims) == 1 else -1
        dims, indices = list(sparse.dims), list(sparse.indices.dims)
        allowed = ([count], [count, len(dims)])
        if sparse.indices.data_type != ir.DataType.INT64 or indices not in allowed or any(d < 0 for d in dims):
            raise self._error(what, "is a sparse tensor whose values, indices and shape disagree")

    def hide_sparse(self, sparse: onnx.SparseTensorProto, target: onnx.TensorProto) -> None:
        """Make `target`, an empty TensorProto, a stand-in that onnx_ir can hold."""
        copy = type(sparse)()
        copy.CopyFrom(sparse)
        target.name = sparse.values.name
        target.data_type = sparse.values.data_type
        target.dims.extend(sparse.dims)
        target.raw_data = self._payloads.add(copy)


def _typed_length(dtype: ir.DataType, count: int) -> int:
    """Number of entries in the typed field."""
    if dtype in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
        return 2 * count
    if dtype != ir.DataType.STRING and dtype.bitwidth in (2, 4):
        return (count * dtype.bitwidth + 7) // 8  # packed, a byte to an entry
    return count
