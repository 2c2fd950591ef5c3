"""The page in Chromium: nothing loaded, nothing said, everything reached by pointer, finger and keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, Visit, chromium
from colour_space import luminance
from predict_models import tiny_ghn
from report_models import HOSTILE, drawn_prediction, residual_graph

from onnx_ghn.report import page_data, page_html
from onnx_ghn.report.writing import report_data, write_page

EXAMPLES = Path(__file__).parents[2] / "data/examples"
SELECTED = "document.querySelector('#panel h3')?.textContent ?? ''"
FOCUS = "document.activeElement.id || document.activeElement.textContent"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(
        report_data(EXAMPLES / "vit_small_torch.onnx", ghn=tiny_ghn()), tmp_path_factory.mktemp("r") / "r.html"
    )


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    graph = residual_graph(999)
    prediction = drawn_prediction(graph)
    path = tmp_path_factory.mktemp("r") / "large.html"
    path.write_text(page_html(page_data(graph, prediction.coverage, prediction, name="large")), encoding="utf-8")
    return path


def quiet(visit: Visit) -> None:
    assert visit.requests == []
    assert visit.messages == []


def drawn(visit: Visit) -> int:
    """Pixels of the canvas that are not empty."""
    return int(
        visit.js(
            "(() => { const c = document.getElementById('canvas'); const d = c.getContext('2d')"
            ".getImageData(0, 0, c.width, c.height).data; let n = 0;"
            " for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n; })()"
        )
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_opens_draws_and_loads_nothing(browser: Browser, page: Path, dark: bool, width: int) -> None:
    with browser.visit(page, dark=dark, width=width) as visit:
        assert drawn(visit) > 1000
        background = visit.js("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, background[4:-1].split(","))) < 200) == dark
        assert visit.js("document.documentElement.scrollWidth") == width  # nothing to scroll sideways
        assert visit.js("document.querySelector('h1').textContent") == "vit_small_torch.onnx"
        quiet(visit)


def test_the_theme_can_be_chosen(browser: Browser, page: Path) -> None:
    with browser.visit(page) as visit:
        colours = []
        for _ in range(3):
            visit.page.click("#theme")
            colours.append(visit.js("getComputedStyle(document.body).backgroundColor"))
        assert colours[0] == colours[2] != colours[1]
        quiet(visit)


def test_by_keyboard_alone(browser: Browser, page: Path) -> None:
    with browser.visit(page) as visit:
        keyboard = visit.page.keyboard
        reached = []
        for _ in range(60):
            keyboard.press("Tab")
            reached.append(visit.js(FOCUS))
            ring = visit.js("getComputedStyle(document.activeElement).outlineStyle")
            assert ring != "none", reached[-1]  # where the focus is can be seen
            if reached[-1] == "canvas":
                break
        assert reached[0] == "Skip to the graph"
        assert [name for name in ("theme", "query", "zoom-in", "fit", "canvas") if name in reached] == [
            name for name in reached if name in ("theme", "query", "zoom-in", "fit", "canvas")
        ]
        keyboard.press("ArrowDown")
        first = visit.js(SELECTED)
        assert first
        keyboard.press("ArrowRight")
        second = visit.js(SELECTED)
        assert second not in ("", first)
        assert second in visit.js("document.getElementById('live').textContent")
        keyboard.press("ArrowLeft")
        assert visit.js(SELECTED) == first
        keyboard.press("Enter")
        assert visit.js(FOCUS) == "panel"
        keyboard.press("Escape")
        assert visit.js(FOCUS) == "canvas"
        keyboard.press("End")
        assert visit.js("document.querySelector('#panel dd').textContent").split(" of ")[0] != "1"
        for key in ("+", "-", "0", "Shift+ArrowLeft"):
            keyboard.press(key)
        keyboard.press("/")
        assert visit.js(FOCUS) == "query"
        quiet(visit)


def test_search_finds_and_chooses(browser: Browser, page: Path) -> None:
    with browser.visit(page) as visit:
        visit.page.fill("#query", "ATTENTION")  # a primitive, whatever the case
        options = "[...document.querySelectorAll('#results [role=option]')]"
        assert visit.js(f"{options}.length") > 1
        visit.page.keyboard.press("ArrowDown")
        visit.page.keyboard.press("ArrowDown")
        wanted = visit.js(f"{options}[1].querySelector('.mono').textContent")
        assert visit.js("document.getElementById('query').getAttribute('aria-activedescendant')") == "result-1"
        visit.page.keyboard.press("Enter")
        assert visit.js(SELECTED) == wanted
        kind = visit.js("document.querySelector('#panel .kind').textContent")
        assert "attention" in f"{kind} {wanted}".lower()
        assert visit.js("document.getElementById('results').hidden")
        visit.page.fill("#query", "no such name")
        assert "No node" in visit.js("document.getElementById('results').textContent")
        visit.page.keyboard.press("Escape")
        assert visit.js("document.getElementById('query').value") == ""
        quiet(visit)


def test_a_click_shows_the_parameters_and_the_legend_filters(browser: Browser, page: Path) -> None:
    data = report_data(EXAMPLES / "vit_small_torch.onnx", ghn=tiny_ghn())
    nodes = data["graph"]["nodes"]
    node = next(n for n, s in zip(data["parameters"]["node"], data["parameters"]["levels"], strict=True) if s and n > 0)
    with browser.visit(page) as visit:
        width, height = data["graph"]["width"], data["graph"]["height"]
        box = visit.page.locator("#canvas").bounding_box()
        scale = min(box["width"] / width, box["height"] / height, 2)
        x = box["x"] + (box["width"] - width * scale) / 2 + nodes["x"][node] * scale
        y = box["y"] + (box["height"] - height * scale) / 2 + nodes["y"][node] * scale
        visit.page.mouse.move(x, y)
        name = data["strings"][nodes["name"][node]]
        assert name in visit.js("document.getElementById('tip').textContent")
        visit.page.mouse.click(x, y)
        assert visit.js(SELECTED) == name
        assert visit.js("document.querySelectorAll('#panel .tensor svg.hist').length") >= 1
        text = visit.js("document.querySelector('#panel .tensor').textContent")
        assert "deviation" in text
        assert "predicted" in text
        visit.page.click("#legend button >> nth=1")
        assert visit.js("document.querySelectorAll('#legend [aria-pressed=true]').length") == 1
        visit.page.click("#legend .clear")
        assert visit.js("document.querySelectorAll('#legend [aria-pressed=true]').length") == 0
        visit.page.click("#expand")
        assert visit.js("document.getElementById('board').getBoundingClientRect().height") == 860
        visit.page.keyboard.press("Escape")
        assert visit.js("document.getElementById('expand').getAttribute('aria-pressed')") == "false"
        quiet(visit)


def test_a_tap_on_a_phone(browser: Browser, large: Path) -> None:
    with browser.visit(large, width=390, height=844, touch=True) as visit:
        visit.page.locator("#canvas").scroll_into_view_if_needed()
        box = visit.page.locator("#canvas").bounding_box()
        for _ in range(6):
            visit.page.click("#zoom-in")
        visit.page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        visit.page.fill("#query", "layers.500.conv1")
        visit.page.keyboard.press("Enter")
        assert visit.js(SELECTED) == "layers.500.conv1.weight"
        assert visit.js("document.documentElement.scrollWidth") == 390
        quiet(visit)


def test_five_thousand_nodes_can_be_used(browser: Browser, large: Path) -> None:
    with browser.visit(large) as visit:
        assert drawn(visit) > 10_000
        visit.page.fill("#query", "layers.998.bn2")
        visit.page.keyboard.press("Enter")
        assert visit.js(SELECTED) == "layers.998.bn2.weight"
        assert visit.js("document.querySelectorAll('*').length") < 1500  # nodes are no elements
        visit.page.locator("#weights summary").click()
        visit.page.wait_for_selector("#weights tbody tr")  # it is made when the browser tells that it is open
        assert visit.js("document.querySelectorAll('#weights tbody tr').length") == 400
        quiet(visit)


def test_names_are_shown_and_never_obeyed(browser: Browser, tmp_path: Path) -> None:
    graph = residual_graph(1, prefix=HOSTILE)
    prediction = drawn_prediction(graph)
    path = tmp_path / "hostile.html"
    path.write_text(page_html(page_data(graph, prediction.coverage, prediction, name=HOSTILE)), encoding="utf-8")
    with browser.visit(path) as visit:
        visit.page.focus("#canvas")
        for _ in range(4):
            visit.page.keyboard.press("ArrowDown")
        assert "<img src=x" in visit.js(SELECTED)
        assert visit.js("document.querySelector('h1').textContent").startswith("</script><img")
        assert visit.js("document.images.length") == 0
        assert "owned" in visit.js("document.title")  # as text of its name, with the rest of it
        assert visit.js("document.title") != "owned"
        quiet(visit)


def test_values_that_are_odd_do_not_stop_the_page(browser: Browser, tmp_path: Path) -> None:
    graph = residual_graph(1)
    for std in (0.0, float("nan"), 1e-30, 1e30):
        prediction = drawn_prediction(graph, std=std)
        path = tmp_path / f"{std}.html"
        path.write_text(page_html(page_data(graph, prediction.coverage, prediction)), encoding="utf-8")
        with browser.visit(path) as visit:
            visit.page.focus("#canvas")
            for _ in range(4):
                visit.page.keyboard.press("ArrowDown")
            assert visit.js(SELECTED)
            assert "NaN" not in visit.js(
                "document.body.textContent.replace(document.getElementById('data').textContent, '')"
            )
            quiet(visit)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_words_of_outcomes_can_be_read_and_tables_scrolled_by_keyboard(
    browser: Browser, page: Path, dark: bool
) -> None:
    """Contrast as WCAG 2.1 asks of small text (4.5), of every outcome, drawn on the page's own surface."""
    script = """outcomes => outcomes.map(outcome => {
        const made = document.createElement("span");
        made.className = `badge tone-${outcome}`;
        document.querySelector("#coverage .body").append(made);
        const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
        const style = getComputedStyle(made);
        const painted = colours => {
            for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
            return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
        };
        const surface = getComputedStyle(document.querySelector("#coverage .card")).backgroundColor;
        return [painted([surface, style.backgroundColor]), painted([surface, style.color])];
    })"""
    with browser.visit(page, dark=dark) as visit:
        outcomes = ["predicted", "inherited", "fallback", "kept", "statistic", "frozen"]
        for outcome, colours in zip(outcomes, visit.page.evaluate(script, outcomes), strict=True):
            light, heavy = sorted((luminance("#" + bytes(rgb).hex()) for rgb in colours), reverse=True)
            assert (light + 0.05) / (heavy + 0.05) >= 4.5, outcome
        assert visit.js("[...document.querySelectorAll('.scroll')].every(box => box.tabIndex === 0 && box.ariaLabel)")
