"""A model whose names are markup, through every command that shows them, in Chromium: no script runs, nothing loads."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from browser import Browser, Visit, chromium
from cli_tools import command
from predict_models import Net

_SAY = "console.log('owned')"
#: Ways out of HTML text, attributes, scripts and comments, of SVG text and CDATA, of DOT strings and labels.
HOSTILE = (
    f"<script>{_SAY}</script>",
    f"</script><script>{_SAY}</script>",
    f'</title></svg><img src=x onerror="{_SAY}">',
    f'"><svg onload="{_SAY}"><animate onbegin="{_SAY}" attributeName=x dur=1s>',
    f']]><script xmlns="http://www.w3.org/1999/xhtml">{_SAY}</script><![CDATA[',
    f'--><iframe srcdoc="&lt;script&gt;{_SAY}&lt;/script&gt;"><!--',
    f"&lt;script&gt;{_SAY}&lt;/script&gt;&#60;script&#62;{_SAY}&#60;/script&#62;",
    f"'}};{_SAY};//${{{_SAY}}}`+{_SAY}+`",
    f'\\"]; evil [label=<<B>x</B>>, URL="javascript:{_SAY}"]; // \\',
    f'a", URL="javascript:{_SAY}", image="http://127.0.0.1:9/x.png',
    "<style>@import 'http://127.0.0.1:9/x.css'</style>\u202e\x00\u2028",
)


def model(folder: Path) -> Path:
    """Every name of the graph, its inputs, outputs, nodes and tensors is one of these."""
    net = Net()
    names = iter(range(10_000))

    def hostile() -> str:
        number = next(names)
        return f"{HOSTILE[number % len(HOSTILE)]}{number}"

    x = net.input("N", 3, 8, 8, name=hostile())
    n_in = 3
    for _ in range(12):
        w, b = net.random(hostile(), 8, n_in, 3, 3), net.random(hostile(), 8)
        x = net.op("Relu", net.op("Conv", x, w, b, out=hostile(), pads=[1] * 4), out=hostile())
        n_in = 8
    proto = net.model(net.op("GlobalAveragePool", x, out=hostile()))
    for node in proto.graph.node:
        node.name = hostile()
    proto.graph.name = "".join(HOSTILE)
    proto.producer_name = proto.doc_string = proto.graph.doc_string = HOSTILE[1]
    onnx.save(proto, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page and the pictures that the commands write."""
    folder = tmp_path_factory.mktemp("hostile")
    path = model(folder)
    for arguments in (
        ("report", path, "-o", folder / "page.html", "--policy", "all"),
        ("draw", path, "-o", folder / "net.svg"),
        ("draw", path, "-o", folder / "net.dot"),
    ):
        outcome = command(*arguments)
        assert outcome.code == 0, outcome.err
    return folder


def quiet(visit: Visit) -> None:
    """Nothing was said, asked for, or made of what is a name."""
    visit.page.wait_for_timeout(300)  # what would start by itself has started
    assert visit.requests == []
    assert visit.messages == []
    assert visit.js("document.querySelectorAll('iframe, img, animate, foreignObject, a[href^=javascript]').length") == 0


def test_the_page(browser: Browser, files: Path) -> None:
    with browser.visit(files / "page.html") as visit:
        scripts = visit.js("document.scripts.length")
        visit.page.focus("#canvas")
        for _ in range(30):
            visit.page.keyboard.press("ArrowDown")
            assert visit.js("document.querySelector('#panel h3').textContent")
        visit.page.fill("#query", "<script>")
        assert visit.js("document.querySelectorAll('#results [role=option]').length") > 1
        visit.page.keyboard.press("Enter")
        assert "<script>" in visit.js("document.querySelector('#panel h3').textContent")
        visit.page.locator("#weights summary").click()
        visit.page.wait_for_selector("#weights tbody tr")
        assert "owned" in visit.js("document.querySelector('#weights tbody').textContent")
        assert visit.js("document.scripts.length") == scripts
        quiet(visit)


def test_the_svg_by_itself_and_within_a_page(browser: Browser, files: Path) -> None:
    with browser.visit(files / "net.svg", ready="document.documentElement.tagName === 'svg'") as visit:
        titles = visit.js("[...document.querySelectorAll('title')].map(e => e.textContent).join(' ')")
        assert "<script>console.log('owned')</script>" in titles  # the names are there, as text
        assert visit.js("document.querySelectorAll('script').length") == 0
        quiet(visit)
    svg = (files / "net.svg").read_text(encoding="utf-8")
    (files / "inline.html").write_text(f"<!doctype html><meta charset=utf-8><body>{svg}</body>", encoding="utf-8")
    with browser.visit(files / "inline.html", ready="document.querySelector('svg')") as visit:
        assert visit.js("document.scripts.length") == 0
        quiet(visit)


def test_the_dot_as_graphviz_draws_it(browser: Browser, files: Path) -> None:
    if shutil.which("dot") is None:
        pytest.skip("no graphviz on this machine")
    drawn = files / "dot.svg"
    done = subprocess.run(["dot", "-Tsvg", files / "net.dot", "-o", drawn], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    n_nodes = sum("fillcolor" in line for line in (files / "net.dot").read_text(encoding="utf-8").splitlines())
    with browser.visit(drawn, ready="document.documentElement.tagName === 'svg'") as visit:
        assert visit.js("document.querySelectorAll('g.node').length") == n_nodes  # none of a name's making
        assert visit.js("document.querySelectorAll('script').length") == 0
        hrefs = "[...document.querySelectorAll('a')].filter(a => a.href && a.href.baseVal).length"
        assert visit.js(hrefs) == 0
        quiet(visit)


@pytest.mark.parametrize("name", HOSTILE[:4])
def test_they_would_run_where_nobody_escapes_them(browser: Browser, name: str, tmp_path: Path) -> None:
    """That the tests above can fail: a page that takes these as they are."""
    (tmp_path / "naive.html").write_text(f"<!doctype html><meta charset=utf-8><body><p>{name}</p>", encoding="utf-8")
    with browser.visit(tmp_path / "naive.html", ready="document.body") as visit:
        visit.page.wait_for_timeout(300)
        assert "owned" in visit.messages
