"""Packages whose names are resolved on first use, so that importing one costs none of what its modules import."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence

from onnx_ghn.installing import not_installed

__all__ = ["lazy_names"]


def lazy_names(
    package: str, homes: Mapping[str, str], names: Sequence[str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """A package's `__getattr__` and `__dir__` (PEP 562).

    No submodule may bear one of the names: importing it would put the module in the place of the function.

    Args:
        package: its `__name__`.
        homes: by name, the module that defines it, below the package.
        names: its `__all__`.

    Where a module needs a package that is absent, and that an extra of onnx-ghn brings, NotInstalledError says so.
    """

    def get(name: str) -> object:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            return getattr(importlib.import_module(f"{package}.{home}"), name)
        except ModuleNotFoundError as error:
            told = not_installed(error, f"{package}.{name}")
            if told is None:
                raise
            raise told from error

    return get, lambda: sorted(names)
