"""One self-contained HTML page about a model: graph, coverage, weights, profile, properties.

Names are resolved on first use, so that importing the package costs neither numpy nor torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_ghn.lazy import lazy_names

if TYPE_CHECKING:
    from onnx_ghn.report.contents import page_data
    from onnx_ghn.report.page import page_html
    from onnx_ghn.report.writing import write_report

__all__ = ["page_data", "page_html", "write_report"]

_HOMES = {"page_data": "contents", "page_html": "page", "write_report": "writing"}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
