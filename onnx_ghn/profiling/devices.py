"""Where the tensors of an execution provider lie, as I/O binding names it."""

from __future__ import annotations

from onnx_ghn.installed_runtime import CUDA_PROVIDERS

__all__ = ["device_of"]

_DEVICES = dict.fromkeys(CUDA_PROVIDERS, "cuda") | {"ROCMExecutionProvider": "rocm", "DmlExecutionProvider": "dml"}


def device_of(provider: str, device: int | None = None) -> tuple[str, int]:
    """Its name and number: of providers that share the processor's memory, and of those not known here, the CPU's."""
    return (_DEVICES[provider], device or 0) if provider in _DEVICES else ("cpu", 0)
