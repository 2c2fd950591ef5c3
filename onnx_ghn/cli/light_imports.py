"""Importing onnx-ir without sympy, which takes two thirds of the time and serves shapes that are computed with."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = ["import_onnx_ir"]

_NAME = "sympy"
#: The functions of sympy that onnx-ir 1.1 names while it is imported, in a table of what a symbolic shape may hold.
_FUNCTIONS = frozenset({"Max", "Min", "Mod", "floor", "sqrt"})


def import_onnx_ir() -> None:
    """Import onnx_ir so that it imports sympy when it first computes with a symbolic size, and not before.

    For a process of our own: while this runs, another thread would import the stand-in. Where onnx-ir asks for more of
    sympy than is known here, both are imported as they are.
    """
    if "onnx_ir" in sys.modules or _NAME in sys.modules:
        return
    stand_in = _Sympy(_NAME)
    sys.modules[_NAME] = stand_in
    try:
        importlib.import_module("onnx_ir")
    except _UnknownError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "onnx_ir"]:
            del sys.modules[name]
    finally:
        stand_in.is_ready = True
        if sys.modules.get(_NAME) is stand_in:
            del sys.modules[_NAME]
    importlib.import_module("onnx_ir")


class _UnknownError(ImportError):
    """More of sympy is asked for than can stand in."""


class _Sympy(ModuleType):
    """Stands in for sympy in the modules of onnx_ir.

    Attributes:
        is_ready: onnx_ir is imported; from now on the attributes are those of sympy.
    """

    is_ready = False

    def __getattr__(self, name: str) -> Any:
        if self.is_ready:
            return getattr(importlib.import_module(_NAME), name)
        if name in _FUNCTIONS:
            return _later(name)
        raise _UnknownError(f"{_NAME}.{name}")


def _later(name: str) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        return getattr(importlib.import_module(_NAME), name)(*arguments)

    return call
