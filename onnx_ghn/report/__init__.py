"""One self-contained HTML page about a model: graph, coverage, weights, profile, properties.

Names are resolved on first use, so that importing the package costs neither numpy nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx_ghn.report.contents import page_data
    from onnx_ghn.report.page import page_html
    from onnx_ghn.report.writing import write_report

__all__ = ["page_data", "page_html", "write_report"]

_HOMES = {"page_data": "contents", "page_html": "page", "write_report": "writing"}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
