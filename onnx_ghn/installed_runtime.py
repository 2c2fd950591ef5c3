"""Whether onnxruntime can be used; if not, the cause and the remedy in one line."""

from __future__ import annotations

import contextlib
import functools
import io
import re
from collections.abc import Iterable
from importlib import metadata

from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.installing import install_command

__all__ = ["CUDA_PROVIDERS", "preload_cuda", "require_onnxruntime"]

#: Execution providers that need NVIDIA's libraries.
CUDA_PROVIDERS = frozenset({"CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"})
_LONGEST = 200  # of what a library prints

#: What packages call themselves that all install a module onnxruntime, into the same folder.
_PACKAGES = re.compile(
    r"(onnxruntime|ort)([-_](gpu|directml|openvino|migraphx|rocm|qnn|training|nightly)\w*)*", re.IGNORECASE
)
_CUDA_LIBRARY = re.compile(r"(?:lib(?:cu\w+|nv\w+|nccl)\.so|cu\w+?64_|cudnn64_)[.\w]*", re.IGNORECASE)


@functools.lru_cache(maxsize=1)
def require_onnxruntime() -> None:
    """Import onnxruntime.

    Raises:
        RuntimeFailure: it is missing or broken; the message says why, and what to install.
    """
    try:
        import onnxruntime
    except Exception as error:  # the start of a foreign module: whatever it raises is told
        raise RuntimeFailure(_why_not(error)) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise RuntimeFailure(_why_not(None))


def preload_cuda(providers: Iterable[str]) -> str:
    """Load the CUDA and cuDNN libraries that pip installed, where a provider needs them, with torch or without.

    Returns:
        what onnxruntime printed of a failure; empty where there was none.
    """
    import onnxruntime

    # Not in onnxruntime before 1.21, which finds them on the library path, or where torch was imported first.
    if not CUDA_PROVIDERS.intersection(providers) or not hasattr(onnxruntime, "preload_dlls"):
        return ""
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        onnxruntime.preload_dlls()
    return " ".join(told.getvalue().split())[:_LONGEST]


def _installed() -> list[str]:
    """The names of the packages of onnxruntime that pip knows."""
    names = {str(one.metadata["Name"] or "") for one in metadata.distributions()}
    return sorted(name for name in names if _PACKAGES.fullmatch(name))


def _why_not(error: Exception | None) -> str:
    """Why onnxruntime cannot be used, and the remedy.

    Args:
        error: that its import raised; None where it is imported and empty.
    """
    installed = _installed()
    told = "the module is empty" if error is None else " ".join(str(error).split())[:200]
    if isinstance(error, ModuleNotFoundError) and not installed:
        return f"onnxruntime is not installed, and running a model needs it; install it: {install_command('cpu')}"
    if library := _CUDA_LIBRARY.search(told):
        found = re.search(r"\.so\.(\d+)|64_(\d+)", library[0])
        version = f" {found[1] or found[2]}" if found and "cudnn" not in library[0].lower() else ""
        return (
            f"onnxruntime cannot be loaded, as {library[0]} of NVIDIA's CUDA{version} libraries is missing; install "
            f"them, or the onnxruntime that needs none: pip uninstall -y {' '.join(installed) or 'onnxruntime-gpu'}, "
            "then pip install onnxruntime"
        )
    if len(installed) > 1:
        return (
            f"onnxruntime cannot be loaded ({told}), as {' and '.join(installed)} are installed at once and overwrite "
            f"each other's files; remove both, pip uninstall -y {' '.join(installed)}, then install one of them"
        )
    if error is None:
        told = "half of it was removed, as when a second package of the same module is uninstalled"
    name = installed[0] if installed else "onnxruntime"
    return f"onnxruntime cannot be loaded ({told}); install it again: pip install --force-reinstall --no-deps {name}"
