"""Pages that have their source elsewhere: the README and those of other folders, one text each for both places."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
#: Page of the site, and the file that it is.
_SOURCES = {
    "index.md": "README.md",
    "exporters.md": "exporters/README.md",
    "training.md": "training/README.md",
    "ghn-cifar10.md": "checkpoints/ghn-cifar10/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
_SHIM = "https://unpkg.com/iframe-worker/shim"
_OWN_SHIM = "javascripts/iframe-worker.js"
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def on_files(files: Any, config: Any) -> Any:
    """Add those pages."""
    from mkdocs.structure.files import File

    for page, source in _SOURCES.items():
        text = (_ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_linked(_FRONT_MATTER.sub("", text), source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links from pages of the docs folder to what is outside it; a page without siblings has no list of them."""
    if page.parent is None:
        page.meta["hide"] = ["navigation"]
    if page.file.src_uri == "walkthrough.md":
        markdown = _with_outputs(_ROOT / "docs/walkthrough.ipynb")
    return markdown if page.file.src_uri in _SOURCES else _linked(markdown, f"docs/{page.file.src_uri}")


def _with_outputs(notebook: Path) -> str:
    """A notebook as a page: its text, its code, and what that printed and drew."""
    parts = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        language = "bash" if source.startswith("%%bash") else "python"
        parts.append(f"```{language}\n{source.removeprefix('%%bash').strip()}\n```")
        parts += [text for output in cell["outputs"] if (text := _output(output))]
    return "\n\n".join(parts)


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/svg+xml" in data:
        return f'<div class="drawn">{"".join(data["image/svg+xml"]).strip()}</div>'
    if "image/png" in data:
        return f"![What the code above draws](data:image/png;base64,{''.join(data['image/png']).strip()})"
    text = "".join(output.get("text", data.get("text/plain", ""))).rstrip()
    return f"```text\n{text}\n```" if text else ""


def on_post_page(output: str, page: Any, config: Any) -> str:
    """What the theme leaves out of a page."""
    return _completed(output, posixpath.relpath(_OWN_SHIM, posixpath.dirname(page.url) or "."))


def on_post_template(output_content: str, template_name: str, config: Any) -> str:
    """The same on the page for addresses that do not exist."""
    return _completed(output_content, f"/{_OWN_SHIM}")


def _completed(page: str, shim: str) -> str:
    """The search worker's shim from the site itself (the theme fetches it from elsewhere), and names for readers."""
    page = page.replace(_SHIM, shim)
    page = page.replace(
        'data-md-component="search" role="dialog"', 'data-md-component="search" role="dialog" aria-label="Search"'
    )
    for toggle in ("search", "drawer"):
        page = page.replace(f'id="__{toggle}"', f'id="__{toggle}" aria-label="Show the {toggle}"', 1)
    return page


def _linked(text: str, source: str) -> str:
    """Links of a file of the repository as those of the site; what the site has not (code) stays as words."""
    pages = {file: page for page, file in _SOURCES.items()}

    def link(found: re.Match[str]) -> str:
        mark, words, target = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found.group()
        path, hash_, anchor = target.partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if file in pages:
            return f"{mark}[{words}]({pages[file]}{hash_}{anchor})"
        if file.startswith("docs/") and (_ROOT / file).exists():
            return f"{mark}[{words}]({file.removeprefix('docs/')}{hash_}{anchor})"
        if not (_ROOT / file).exists():
            raise FileNotFoundError(f"{source}: its link {target!r} leads nowhere")
        return words

    lines, fenced = [], False
    for line in text.split("\n"):
        fenced ^= line.startswith("```")
        lines.append(line if fenced or line.startswith("    ") else _LINK.sub(link, line))
    return "\n".join(lines)
