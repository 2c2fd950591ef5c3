"""The page: a template, the style and script of this package's files, and the contents as JSON.

Its Content-Security-Policy names the hashes of its own style and script, so that a browser runs and fetches nothing
else, whatever the names in a model hold.
"""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import json
import string
from collections.abc import Mapping

__all__ = ["page_html"]

_SCRIPTS = ("base.js", "graph.js", "explore.js", "charts.js", "sections.js", "inherited.js", "main.js")


def page_html(data: Mapping[str, object]) -> str:
    """The page of what `page_data` returned, as HTML that needs no other file and no network."""
    style = _file("page.css")
    script = '(() => {\n"use strict";\n' + "\n".join(map(_file, _SCRIPTS)) + "\n})();"
    policy = {
        "default-src": "'none'",
        "style-src": _hash(style),
        "script-src": _hash(script),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return string.Template(_file("page.html")).substitute(
        policy=html.escape("; ".join(f"{key} {value}" for key, value in policy.items()), quote=True).replace(
            "&#x27;", "'"
        ),
        title=html.escape(str(data["name"])),
        made_by=html.escape(str(data["made_by"])),
        style=style,
        script=script,
        data=_json(data),
    )


def _file(name: str) -> str:
    return importlib.resources.files("onnx_ghn.report").joinpath("page-files", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(data: Mapping[str, object]) -> str:
    """JSON that cannot end a script element or begin a comment, whatever names it holds."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
