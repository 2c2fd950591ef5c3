"""Shapes of all values of an optimised graph, as onnxruntime infers them, of its own operators too; nothing is run."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import onnx

from onnx_ghn.profiling import rewriting
from onnx_ghn.profiling.sessions import timed_session
from onnx_ghn.profiling.settings import Point, Settings

__all__ = ["runtime_shapes"]

Typed = tuple[tuple[int | None, ...], int]  # None: a size that a run would tell; TensorProto's element type

_TYPES = {"float": "FLOAT", "double": "DOUBLE"}  # what onnxruntime calls otherwise than onnx


def runtime_shapes(optimized: Path, point: Point, settings: Settings) -> dict[str, Typed]:
    """Shape and element type of each value that a node of the main graph gives, by name.

    A session of a copy tells them, which has every value as an output, is not optimised again, and never runs.

    Args:
        optimized: a graph that onnxruntime wrote.

    Raises:
        RuntimeFailure: onnxruntime refuses the copy.
    """
    copy = onnx.load(optimized, load_external_data=False)
    rewriting.expose_outputs(copy)
    names = dict.fromkeys(value.name for value in copy.graph.output)
    del copy.graph.value_info[:]
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    plain = dataclasses.replace(point, optimization="none")
    data = rewriting.serialized(copy, "the optimised graph")
    session, _ = timed_session(data, plain, settings, folder=os.fspath(optimized.parent), packed=False)
    return {
        told.name: (tuple(size if isinstance(size, int) else None for size in told.shape), _element_type(told.type))
        for told in session.get_outputs()
        if told.type.startswith("tensor(")
    }


def _element_type(told: str) -> int:
    """TensorProto's number of a type as onnxruntime writes it: tensor(float)."""
    name = told.removeprefix("tensor(").removesuffix(")")
    found: int = onnx.TensorProto.DataType.Value(_TYPES.get(name, name.upper()))
    return found
