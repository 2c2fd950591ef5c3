"""Frameworks that may be absent."""

from __future__ import annotations

import importlib
from typing import Any

from onnx_ghn.errors import OptionError

__all__ = ["require"]


def require(module: str, extra: str) -> Any:
    """Import a framework's module.

    Raises:
        OptionError: it is not installed; names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] != module.partition(".")[0]:
            raise OptionError(
                f"{module} cannot be imported: it needs {error.name}; pip install {error.name}"
            ) from error
        raise OptionError(f"{module} is not installed: pip install 'onnx-ghn[{extra}]'") from error
