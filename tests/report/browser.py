"""Chromium without a window, and what a page did in it."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
_ARGUMENTS += ["--disable-component-update", "--disable-sync"]
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclasses.dataclass
class Visit:
    """An open page: requests beside the page itself, and what the console said."""

    page: Any
    requests: list[str]
    messages: list[str]

    def js(self, expression: str) -> Any:
        return self.page.evaluate(expression)


class Browser:
    def __init__(self, browser: Any) -> None:
        self._browser = browser

    @contextlib.contextmanager
    def visit(
        self,
        path: Path,
        *,
        dark: bool = False,
        width: int = 1280,
        height: int = 860,
        touch: bool = False,
        ready: str = "document.documentElement.dataset.ready",
    ) -> Iterator[Visit]:
        """A page that has drawn itself, which an expression tells; nothing is asked of it but the file."""
        context = self._browser.new_context(
            color_scheme="dark" if dark else "light", viewport={"width": width, "height": height}, has_touch=touch
        )
        page = context.new_page()
        page.set_default_timeout(60_000)
        visit = Visit(page, [], [])
        page.on("request", lambda request: visit.requests.append(request.url))
        page.on("console", lambda message: visit.messages.append(message.text))
        page.on("pageerror", lambda error: visit.messages.append(str(error)))
        try:
            page.goto(path.as_uri())
            page.wait_for_function(ready)
            assert visit.requests.pop(0) == path.as_uri()
            # The icon is part of the page.
            visit.requests[:] = [url for url in visit.requests if not url.startswith("data:")]
            yield visit
        finally:
            context.close()


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Skips where there is no browser, or nothing to drive it."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = next(filter(None, map(shutil.which, _NAMES)), None)
    if executable is None:
        pytest.skip("no Chromium on this machine")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=_ARGUMENTS)
        try:
            yield Browser(browser)
        finally:
            browser.close()
