"""What a model file declares: its inputs, and how large integers in them may be."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from onnx_ghn.errors import OptionError
from onnx_ghn.onnx_io import read_model, stored_tensors
from onnx_ghn.onnx_io.absent import absent_note
from onnx_ghn.onnx_io.indexed_tables import rows_numbered
from onnx_ghn.onnx_io.read import EXTERNAL
from onnx_ghn.profiling.cache_widths import cache_width
from onnx_ghn.profiling.symbols import as_symbol
from onnx_ghn.profiling.weights import Reader, n_weights

__all__ = ["InputSpec", "ModelSpec", "model_spec"]

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """A graph input without an initializer."""

    name: str
    dtype: str  # numpy's name; "string" for strings
    dims: tuple[int | None, ...]  # None for a free dimension
    upper: int | None = None  # rows of the smallest table that its values index
    symbols: tuple[str | None, ...] = ()  # names of free dimensions, None elsewhere; empty where none has one
    role: str = ""  # "last" or "total": a length that GroupQueryAttention reads

    def symbol(self, axis: int) -> str | None:
        """The name of a free dimension, if it has one."""
        return self.symbols[axis] if self.symbols and self.dims[axis] is None else None

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Whether the declared dimensions allow a shape."""
        return len(shape) == len(self.dims) and all(
            dim in (None, size) for dim, size in zip(self.dims, shape, strict=True)
        )


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """A model file, as far as running it needs."""

    path: str
    inputs: tuple[InputSpec, ...]
    size_bytes: int
    parameters: int
    is_incomplete: bool = False  # external data are lost


def model_spec(path: str | os.PathLike[str], *, allow_absent: bool = False) -> ModelSpec:
    """Read and check a file (onnx_ghn.onnx_io's limits apply); nothing of it is kept in memory.

    Args:
        allow_absent: external data that are lost become a warning of the log: nobody is going to run the model.

    Raises:
        ModelReadError: a file that is damaged or unsafe. OptionError: an input that is no tensor.
    """
    model = read_model(path, allow_absent=allow_absent)
    stored = stored_tensors(model).values()
    absent = absent_note(stored)
    if absent:
        logger.warning("%s", absent)
    # An initializer, a Constant, or what stands for one in a file without weights: a ConstantOfShape.
    tables = {entry.value: entry.shape for entry in stored}
    inputs = [_input(value, tables) for value in model.graph.inputs if value.name not in model.graph.initializers]
    files = [os.fspath(path), *model.meta.get(EXTERNAL, ())]
    parameters = sum(
        n_weights(int(entry.dtype), tuple(entry.shape), _readers(entry.value))
        for entry in stored
        if not entry.is_string
    )
    size_bytes = sum(os.path.getsize(name) for name in files) + sum(one.nbytes for one in stored if one.is_absent)
    return ModelSpec(os.fspath(path), tuple(inputs), size_bytes, parameters, bool(absent))


def _readers(value: ir.Value) -> list[Reader]:
    found: list[Reader] = []
    for use in value.uses():
        integers = {
            name: attribute.as_int()
            for name, attribute in use.node.attributes.items()
            if attribute.type == ir.AttributeType.INT and not attribute.is_ref()
        }
        found.append((use.node.op_type, integers, use.idx))
    return found


def _input(value: ir.Value, tables: Mapping[ir.Value, Sequence[int]]) -> InputSpec:
    if value.dtype is None or not isinstance(value.type, ir.TensorType):
        raise OptionError(f"input {value.name!r} is no tensor; only models whose inputs are tensors can be profiled")
    if value.shape is None:
        raise OptionError(f"input {value.name!r} declares no shape; export the model with one")
    dims = tuple(dim if isinstance(dim, int) and dim > 0 else None for dim in value.shape)
    names = tuple(as_symbol(dim.value) if isinstance(dim, ir.SymbolicDim) else None for dim in value.shape)
    if len(dims) == 4 and dims[-1] is None and (width := cache_width(value)) is not None:
        dims, names = (*dims[:-1], width), (*names[:-1], None)
    kind = "string" if value.dtype == ir.DataType.STRING else value.dtype.numpy().name
    upper = rows_numbered(value, tables) if value.dtype.is_integer() else None
    return InputSpec(value.name or "", kind, dims, upper, names if any(names) else (), _length_role(value))


def _length_role(value: ir.Value) -> str:
    """What of com.microsoft's GroupQueryAttention an input is: its sixth counts all tokens less one, its seventh all.

    https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#commicrosoftgroupqueryattention
    """
    places = {use.idx for use in value.uses() if use.node.op_type == "GroupQueryAttention"}
    return "last" if 5 in places else "total" if 6 in places else ""
