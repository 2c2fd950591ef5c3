"""A check that a runtime loads what a framework's exporter wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from onnx_ghn.errors import GraphError, RuntimeFailure
from onnx_ghn.installed_runtime import require_onnxruntime
from onnx_ghn.limits import memory_bytes
from onnx_ghn.runtime import open_session
from onnx_ghn.scratch import scratch_folder

if TYPE_CHECKING:
    import onnx

__all__ = ["check_loads"]

_COPIES = 3  # of the weights that loading takes, at most
_NO_KERNEL = "Could not find an implementation"
# What says of a runtime that it is old or lacks an operator, and nothing of the file.
_OF_THE_RUNTIME = ("not a registered function/op", "NOT_IMPLEMENTED", "update onnxruntime", "still folds")


def check_loads(source: onnx.ModelProto | Path, exporter: str) -> None:
    """Load a file once, where onnxruntime is installed and memory allows.

    Raises:
        GraphError: onnxruntime finds the file invalid.
    """
    try:
        require_onnxruntime()
    except RuntimeFailure:
        return
    if not isinstance(source, Path):
        with scratch_folder() as folder:
            path = Path(folder, "model.onnx")
            path.write_bytes(source.SerializeToString())
            check_loads(path, exporter)
        return
    if _COPIES * sum(file.stat().st_size for file in source.parent.iterdir()) > memory_bytes():
        return
    try:
        open_session(source, packed=False)
    except RuntimeFailure as error:
        if not any(words in str(error) for words in _OF_THE_RUNTIME):
            raise GraphError(
                f"{exporter} wrote a file that no runtime loads ({error}); {_remedy(str(error), exporter)}"
            ) from error


def _remedy(error: str, exporter: str) -> str:
    """What to do about a file that does not load."""
    if _NO_KERNEL in error:
        return "let the model compute in float32: processors have few operators for other types"
    other = ", such as by torch's other exporter (`exporter`)" if "torch" in exporter else ""
    return f"export the model another way{other}"
