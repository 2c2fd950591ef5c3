"""The names of precisions, and of the files that are converted to them."""

from __future__ import annotations

import os

__all__ = ["FULL", "PRECISIONS", "converted_name", "data_name"]

FULL = "fp32"  # the file as it is
#: `conversions.py` says what each is.
PRECISIONS = (FULL, "fp16", "fp16-common", "int8", "int8-dynamic")


def converted_name(model: str, precision: str) -> str:
    """The name of the file of a converted model: `net.int8.onnx` of `folder/net.onnx`."""
    return f"{os.path.splitext(os.path.basename(model))[0]}.{precision}.onnx"


def data_name(name: str) -> str:
    """The name of the file of the weights that lie beside a large model: `net.int8.onnx.data`, as onnxruntime's is."""
    return f"{name}.data"
