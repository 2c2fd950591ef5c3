"""Imports of frameworks that may not be installed."""

from __future__ import annotations

import importlib
from types import ModuleType

from onnx_ghn.errors import OptionError

__all__ = ["require"]


def require(module: str, extra: str) -> ModuleType:
    """Import a framework's module.

    Raises:
        OptionError: it is not installed; the message names the extra of onnx-ghn that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] != module.partition(".")[0]:
            raise OptionError(
                f"{module} cannot be imported: it needs {error.name}; pip install {error.name}"
            ) from error
        raise OptionError(f"{module} is not installed: pip install 'onnx-ghn[{extra}]'") from error
