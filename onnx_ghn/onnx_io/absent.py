"""Tensors whose data file is lost: what is said about them, and the error where their values are needed."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from onnx_ghn.errors import printable
from onnx_ghn.onnx_io.stored import StoredTensor
from onnx_ghn.onnx_io.tensors import AbsentTensor

__all__ = ["absent_note", "require_values"]


def absent_note(stored: Iterable[StoredTensor]) -> str:
    """One line about the tensors whose values are not to be had; "" where there are none."""
    absent = [(one.name, one.tensor.source.path) for one in stored if isinstance(one.tensor, AbsentTensor)]
    if not absent:
        return ""
    sources = sorted({source for _, source in absent})
    where = f"{', '.join(sources[:3])}{', …' if len(sources) > 3 else ''} is lost or too short"
    if sources == [""]:
        where = "the model came without its external data (`base_dir` says where they lie)"
    n_tensors = f"{len(absent)} tensors (first {absent[0][0]})" if len(absent) > 1 else absent[0][0]
    return printable(
        f"{where}: of {n_tensors} only shape and type are known, which suffices here; floats count as trained weights"
    )


def require_values(stored: Iterable[StoredTensor], replaced: Collection[str] = ()) -> None:
    """Raise ModelReadError for the first tensor that is to keep values which are not to be had.

    Args:
        replaced: names of tensors that get new values.
    """
    for one in stored:
        if isinstance(one.tensor, AbsentTensor) and one.name not in replaced:
            one.tensor.buffer()
