"""The documentation site builds without a warning, and its pictures are what the library draws."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from browser import chromium

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(module, reason="onnx-ghn[docs] is not installed")
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    told = [line for line in built.stderr.splitlines() if re.match(r"WARNING|ERROR", line)]
    assert told == []
    assert "not included in the" not in built.stderr  # every page is in the navigation
    return folder


def test_pages_and_links(site: Path) -> None:
    pages = {path.name for path in site.glob("*.html")}
    assert {"index.html", "walkthrough.html", "gallery.html", "api.html", "exporters.html", "training.html"} <= pages
    assert not (site / "site_hooks.py").exists()
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r'(?:href|src)="([^"#?:]+)(?:#[^"]*)?"', text):
            if page.name != "404.html":
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_a_page_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert re.findall(r'<(?:script|img|link|iframe)[^>]+(?:src|href)="https?://[^"]+"', text) == [], page.name


def test_the_api_is_documented(site: Path) -> None:
    """Every public name has its place, and its docstring on the page."""
    import onnx_ghn

    text = re.sub(r"<[^>]+>", "", (site / "api.html").read_text(encoding="utf-8"))
    for name in onnx_ghn.__all__:
        assert name.startswith("__") or re.search(rf"\b{name}\b", text), name
    assert "Fill trainable tensors of an ONNX model with predicted weights." in text


def test_the_readme_is_the_first_page(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "index.html").read_text(encoding="utf-8"))
    assert "Better initial weights for convolutional image networks, from any framework that exports ONNX" in " ".join(
        text.split()
    )
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for heading in re.findall(r"^## (.+)$", readme, flags=re.M):
        assert heading in text


def test_in_a_browser_from_a_folder(site: Path) -> None:
    """Search works, nothing comes from elsewhere, pages fit a telephone, and wide tables take the keyboard."""
    shown = "getComputedStyle(document.querySelector('.md-search')).display !== 'none'"
    with chromium() as browser:
        with browser.visit(site / "index.html", ready=shown) as visit:
            visit.page.focus(".md-search__input")
            visit.page.keyboard.type("calibrate")
            visit.page.wait_for_selector(".md-search-result__item")
            assert visit.js("document.querySelector('.md-search').getAttribute('aria-label')") == "Search"
            assert [url for url in visit.requests if not url.startswith("file:")] == []
            assert visit.messages == []
        pages = ("index", "quickstart", "predict", "results", "race", "limits", "walkthrough", "cli")
        complete, wraps = (
            "document.readyState === 'complete'",
            "[...document.querySelectorAll('.md-typeset__scrollwrap')]",
        )
        with browser.visit(site / f"{pages[0]}.html", ready=complete, width=390) as visit:
            for page in pages:  # in one window, which keeps what all of them load
                visit.page.goto((site / f"{page}.html").as_uri())
                visit.page.wait_for_function(complete)
                assert visit.js("document.documentElement.scrollWidth") <= 390, page
                visit.page.wait_for_function(f"{wraps}.every(wrap => wrap.tabIndex === 0)")


def test_the_gallery_is_up_to_date(tmp_path: Path) -> None:
    """After a change of the drawing: python data/draw_gallery.py"""
    subprocess.run([sys.executable, ROOT / "data/draw_gallery.py", tmp_path], check=True, capture_output=True)
    drawn = sorted(tmp_path.iterdir())
    assert len(drawn) == 8
    gallery = (ROOT / "docs/gallery.md").read_text(encoding="utf-8")
    for path in drawn:
        assert path.read_bytes() == (ROOT / "docs/images" / path.name).read_bytes(), path.name
        assert path.stat().st_size < 150_000
        assert f"images/{path.name}" in gallery
