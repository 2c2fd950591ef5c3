"""Tensors of an ir.Model that know their size without their data, and give the data one buffer at a time.

They satisfy `ir.TensorProtocol`. onnx_ir's own classes copy the data at each access (TensorProtoTensor),
hold a memory map for each tensor (ExternalTensor), or check nothing about what they evaluate (LazyTensor).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar, Unpack

import numpy as np
import onnx_ir as ir

from onnx_ghn.arrays import Array
from onnx_ghn.errors import ModelReadError, ModelWriteError
from onnx_ghn.onnx_io.external import AbsentData, FileSlice

if TYPE_CHECKING:
    import onnx

__all__ = [
    "AbsentTensor",
    "Docs",
    "FileTensor",
    "FillTensor",
    "HeldTensor",
    "LazyTensor",
    "RawTensor",
    "SparseTensor",
    "describe",
    "strided",
]

_Source = TypeVar("_Source")
_SMALL_DENSE = 1 << 20  # elements that any sparse tensor may have when it is made dense
_DENSE_TIMES = 1024  # how many times as many as it stores may be made of a larger one
_PIECE_BYTES = 16 << 20  # how much of an array that is not in the order of the file is copied at once


def describe(shape: Sequence[int], dtype: ir.DataType) -> str:
    """A shape and a type as they appear in messages: `float[64,3,7,7]`."""
    return f"{dtype.name.lower()}[{','.join(str(d) for d in shape)}]"


class Docs(TypedDict, total=False):
    """What a tensor carries for people."""

    doc_string: str | None
    metadata_props: dict[str, str] | None


class RawTensor(ir.TensorProtocol):
    """A tensor whose little-endian bytes, as in TensorProto.raw_data, `buffer` gives."""

    def __init__(
        self,
        name: str | None,
        dtype: ir.DataType,
        shape: Sequence[int],
        *,
        doc_string: str | None = None,
        metadata_props: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.dtype = dtype
        self.dims = tuple(int(size) for size in shape)  # the shape as plain numbers
        self.shape = ir.Shape(self.dims, frozen=True)
        self.doc_string = doc_string
        self.metadata_props = metadata_props or {}
        self.meta = {}
        self.raw = None

    def buffer(self) -> memoryview:
        """The bytes of the tensor, `nbytes` of them."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)

    @property
    def nbytes(self) -> int:
        """Number of bytes; types below 8 bits are packed."""
        return (self.size * self.dtype.bitwidth + 7) // 8

    def numpy(self) -> Array:
        """The data as an array, mostly read-only; ml_dtypes stand in where numpy has no such type."""
        shape = self.dims
        if self.size == 0:
            return np.empty(shape, self.dtype.numpy())
        if self.dtype.bitwidth < 8:
            packed = np.frombuffer(self.buffer(), np.uint8)
            return ir.PackedTensor(packed, self.dtype, shape=shape).numpy()
        return np.frombuffer(self.buffer(), self.dtype.numpy().newbyteorder("<")).reshape(shape)

    def sample(self, step: int, count: int, width: int = 1) -> Array:
        """Every `step`-th of the elements in the order of the file, from the first one on: at most `count` of them,
        each with its next neighbours, `width` elements in all.
        """
        return strided(self.numpy().reshape(-1), step, count, width)

    def tobytes(self) -> bytes:
        """The bytes of the tensor, copied."""
        return bytes(self.buffer())

    def tofile(self, file: Any) -> None:
        """Write the bytes to a file-like object."""
        file.write(self.buffer())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

    def __dlpack__(self, *, stream: Any = None) -> Any:
        return self.numpy().__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.numpy().__dlpack_device__()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({describe(self.dims, self.dtype)}, name={self.name!r})"


class _Sourced(RawTensor, Generic[_Source]):
    """A tensor that takes its content from `source`."""

    def __init__(
        self, source: _Source, name: str | None, dtype: ir.DataType, shape: Sequence[int], **docs: Unpack[Docs]
    ) -> None:
        super().__init__(name, dtype, shape, **docs)
        self.source = source


class HeldTensor(_Sourced[memoryview]):
    """A tensor in memory: a view of the model file's bytes."""

    def buffer(self) -> memoryview:
        return self.source


class FileTensor(_Sourced[FileSlice]):
    """A tensor in an external data file, read when it is asked for."""

    def buffer(self) -> memoryview:
        return self.source.view()

    def sample(self, step: int, count: int, width: int = 1) -> Array:
        """As of any tensor, without reading the others from the disk."""
        if self.dtype.bitwidth < 8 or self.size == 0:
            return super().sample(step, count, width)
        size_bytes, count = self.dtype.bitwidth // 8, min(count, -(-self.size // step))
        if step == width:
            data = self.source.read(0, min(count * width, self.size) * size_bytes)
        else:
            starts = range(0, count * step, step)
            data = b"".join(self.source.read(i * size_bytes, min(width, self.size - i) * size_bytes) for i in starts)
        return np.frombuffer(data, self.dtype.numpy().newbyteorder("<"))


class AbsentTensor(_Sourced[AbsentData]):
    """A tensor whose data file is not there: shape and type are known, asking for values raises ModelReadError."""

    def buffer(self) -> memoryview:
        return self.source.view()


class LazyTensor(_Sourced[Callable[[], Array]]):
    """A tensor that a function gives each time it is asked for, checked against what was promised."""

    def numpy(self) -> Array:
        array = np.asarray(self.source())
        shape = self.dims
        if array.shape != shape or array.dtype != self.dtype.numpy():
            raise ModelWriteError(
                f"tensor {self.name!r}: expected {describe(shape, self.dtype)}, "
                f"got {array.dtype}[{','.join(map(str, array.shape))}]; give an array of that shape and type"
            )
        return array

    def buffer(self) -> memoryview:
        array = self.numpy()
        if self.dtype.bitwidth < 8:
            return memoryview(ir.Tensor(array, dtype=self.dtype).tobytes())
        return _bytes_of(array)

    def pieces(self) -> Iterator[memoryview]:
        """What `buffer` gives in parts: a transposed or repeated array is never copied as a whole."""
        if self.dtype.bitwidth < 8:
            yield self.buffer()
        else:
            yield from _pieces(self.numpy())


def strided(flat: Array, step: int, count: int, width: int = 1) -> Array:
    """At most `count` pieces of `width` elements, one at every `step`-th place of a vector; the last may be shorter."""
    if width == 1:
        found: Array = flat[: step * count : step]
        return found
    starts = range(0, min(step * count, len(flat)), step)
    return np.concatenate([flat[start : start + width] for start in starts]) if starts else flat[:0]


def _pieces(array: Array) -> Iterator[memoryview]:
    if array.flags.c_contiguous or array.nbytes <= _PIECE_BYTES:
        yield _bytes_of(array)
        return
    row_bytes = array.nbytes // len(array)
    if row_bytes > _PIECE_BYTES:
        for row in array:
            yield from _pieces(row)
        return
    step = _PIECE_BYTES // row_bytes
    for start in range(0, len(array), step):
        yield _bytes_of(array[start : start + step])


def _bytes_of(array: Array) -> memoryview:
    """Little-endian bytes in the order of the file."""
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return array.reshape(-1).view(np.uint8).data


class FillTensor(RawTensor):
    """What a ConstantOfShape node gives: one value, whatever the shape; nothing is allocated."""

    def __init__(self, fill: Array, name: str | None, dtype: ir.DataType, shape: Sequence[int]) -> None:
        super().__init__(name, dtype, shape)
        self.fill = fill.reshape(())

    def numpy(self) -> Array:
        return np.broadcast_to(self.fill, self.dims)

    def buffer(self) -> memoryview:
        return memoryview(ir.Tensor(np.ascontiguousarray(self.numpy()), dtype=self.dtype).tobytes())


class SparseTensor(RawTensor):
    """A sparse tensor, carried from file to file as it is; `shape` is the dense shape."""

    def __init__(
        self, proto: onnx.SparseTensorProto, name: str | None, dtype: ir.DataType, shape: Sequence[int]
    ) -> None:
        super().__init__(name, dtype, shape)
        self.proto = proto

    @property
    def nbytes(self) -> int:
        return int(self.proto.ByteSize())

    def buffer(self) -> memoryview:
        raise ModelReadError(f"tensor {self.name!r} is sparse and has no dense content; make it dense first")

    def numpy(self) -> Array:
        """The dense tensor, made anew, where it is not far larger than what the file holds of it."""
        from onnx import numpy_helper

        values, indices = numpy_helper.to_array(self.proto.values), numpy_helper.to_array(self.proto.indices)
        shape = self.shape.numpy()
        if values.dtype == object or math.prod(shape) > max(_SMALL_DENSE, _DENSE_TIMES * values.size):
            self.buffer()
        dense = np.zeros(shape, self.dtype.numpy())
        try:
            places = np.unravel_index(indices, shape) if indices.ndim == 1 else tuple(indices.T)
            dense[places] = values
        except (IndexError, ValueError) as error:
            raise ModelReadError(
                f"tensor {self.name!r} is sparse and has an element outside of {list(shape)}; export the model again"
            ) from error
        return dense
