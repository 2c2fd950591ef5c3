"""The page's section on donors: what it holds against the prediction and its file, and what a reader can do with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from browser import Browser, chromium
from cli_tools import command, one_line
from predict_models import Net, tiny_ghn

import onnx_ghn
from onnx_ghn.errors import OptionError
from onnx_ghn.json_types import Json
from onnx_ghn.onnx_io import read_model, stored_tensors
from onnx_ghn.prediction.origins import INHERITED
from onnx_ghn.report import page_html
from onnx_ghn.report.writing import report_data

SECTION = "document.querySelector('#inherited')"
LEFT, RIGHT = "#inherited ol:first-of-type button", "#inherited ol:last-of-type button"


def network(n_layers: int, classes: int, seed: int, prefix: str = "") -> onnx.ModelProto:
    """Convolutions of three widths with batch norms, and a classifier."""
    net = Net()
    net.rng = np.random.default_rng(seed)
    x, n_in = net.input(2, 3, 8, 8), 3
    for i in range(n_layers):
        name = f"{prefix}stage{i}"
        x = net.op("Relu", net.bn(net.conv(x, n_in, 8, f"{name}.conv"), 8, f"{name}.bn"), out=f"{name}.relu")
        n_in = 8
    x = net.op("Flatten", net.op("GlobalAveragePool", x, out="mean"), out="flat")
    weight, bias = net.random(f"{prefix}head.weight", classes, 8), net.random(f"{prefix}head.bias", classes)
    return net.model(net.op("Gemm", x, weight, bias, out="y", transB=1))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model of other classes than its donor, whose names are hostile."""
    folder = tmp_path_factory.mktemp("r")
    onnx.save(network(3, 4, 0, "<img src=x onerror=alert(1)>."), folder / "donor.onnx")
    onnx.save(network(3, 7, 1), folder / "model.onnx")
    return folder / "model.onnx", folder / "donor.onnx"


@pytest.fixture(scope="module")
def data(files: tuple[Path, Path]) -> Json:
    return report_data(files[0], ghn=tiny_ghn(), donors=[files[1]])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def page(data: Json, tmp_path: Path) -> Path:
    path = tmp_path / "r.html"
    path.write_text(page_html(data), encoding="utf-8")
    return path


def test_origins_are_those_that_a_written_file_records(files: tuple[Path, Path], data: Json, tmp_path: Path) -> None:
    model, donor = files
    onnx_ghn.predict(model, tmp_path / "init.onnx", ghn=tiny_ghn(), donors=[donor], calibrate="none")
    recorded = json.loads({p.key: p.value for p in onnx.load(tmp_path / "init.onnx").metadata_props}[INHERITED])
    section = data["inherited"]
    assert section["donor"] == "donor.onnx"
    assert {row["name"]: row["source"] for row in section["tensors"]} == {
        name: row[1] for name, row in recorded["tensors"].items()
    }
    written, given = (stored_tensors(read_model(path)) for path in (tmp_path / "init.onnx", donor))
    for row in section["tensors"]:
        assert row["rule"] == "copied"
        np.testing.assert_array_equal(written[row["name"]].numpy(), given[row["source"]].numpy())
    assert section["n_missing"] == 2  # the classifier's weight and bias


def test_blocks_hold_what_is_linked(data: Json) -> None:
    section = data["inherited"]
    mine, theirs = section["model_blocks"], section["donor_blocks"]
    for row in section["tensors"]:
        assert row["name"] in mine[row["block"]]["tensors"]
        assert row["source"] in theirs[row["donor_block"]]["tensors"]
        assert [row["block"], row["donor_block"]] in section["links"]
    paired = {block["name"]: block["kind"] for block in mine}
    assert [paired[name] for name in ("stage0", "stage1", "stage2")] == ["paired"] * 3
    assert len(section["links"]) == len({tuple(link) for link in section["links"]})


def test_donors_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """The classifier of as many classes is the second donor's, whose blocks are not those that are shown."""
    for folder, n_layers, classes in (("a", 3, 4), ("b", 1, 7)):
        (tmp_path / folder).mkdir()
        onnx.save(network(n_layers, classes, n_layers), tmp_path / folder / "donor.onnx")
    onnx.save(network(3, 7, 9), tmp_path / "model.onnx")
    donors = [tmp_path / folder / "donor.onnx" for folder in ("a", "b")]
    rows = report_data(tmp_path / "model.onnx", ghn=tiny_ghn(), donors=donors)["inherited"]["tensors"]
    found = {row["name"]: row for row in rows}
    assert found["head.weight"]["source"] == "head.weight"
    assert found["head.weight"]["donor_block"] == -1
    assert found["stage1.conv.w"]["donor_block"] >= 0


def test_without_donors_there_is_none(files: tuple[Path, Path]) -> None:
    assert report_data(files[0], ghn=tiny_ghn())["inherited"] is None
    assert report_data(files[0], predict=False)["inherited"] is None
    with pytest.raises(OptionError, match="`donors` are inherited from in a prediction"):
        report_data(files[0], predict=False, donors=[files[1]])


@pytest.mark.parametrize("width", [1280, 390])
def test_a_block_shows_its_tensors_and_its_counterpart(browser: Browser, page: Path, data: Json, width: int) -> None:
    section = data["inherited"]
    names = [block["name"] for block in section["model_blocks"]]
    number = names.index("stage1")
    (other,) = [b for a, b in section["links"] if a == number]
    with browser.visit(page, width=width) as visit:
        assert visit.js("document.documentElement.scrollWidth") == width
        left, right = visit.page.locator(LEFT), visit.page.locator(RIGHT)
        assert left.all_text_contents() == names
        left.nth(number).focus()
        visit.page.keyboard.press("Enter")
        assert left.nth(number).get_attribute("aria-pressed") == "true"
        assert "on" in (right.nth(other).get_attribute("class") or "").split()
        assert visit.js(f"{SECTION}.querySelectorAll('path.on').length") == 1
        shown = visit.page.locator("#inherited .detail tbody tr td:first-child").all_text_contents()
        assert shown == [row["name"] for row in section["tensors"] if row["block"] == number]
        visit.page.locator("#inherited .detail button", has_text="stage1.conv").click()
        assert "stage1.conv" in visit.js("document.querySelector('#panel h3').textContent")
        right.nth(other).click()
        assert right.nth(other).get_attribute("aria-pressed") == "true"
        assert left.nth(number).get_attribute("aria-pressed") == "false"
        assert "<img" in visit.js(f"{SECTION}.textContent")
        assert visit.js("document.querySelectorAll('img').length") == 0  # a hostile name is text
        assert (visit.requests, visit.messages) == ([], [])


def test_what_is_not_inherited_is_named(browser: Browser, page: Path, data: Json) -> None:
    blocks = data["inherited"]["model_blocks"]
    number = next(i for i, block in enumerate(blocks) if "head.weight" in block["tensors"])
    with browser.visit(page) as visit:
        visit.page.locator(LEFT).nth(number).click()
        told = visit.js(f"{SECTION}.querySelector('.detail .note').textContent")
        assert set(told.removeprefix("Not inherited: ").split(", ")) == {"head.weight", "head.bias"}


def test_a_page_without_donors_says_how(browser: Browser, files: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    path.write_text(page_html(report_data(files[0], predict=False)), encoding="utf-8")
    with browser.visit(path) as visit:
        assert "--from trained.onnx" in visit.js(f"{SECTION}.textContent")


def test_from_the_command_line(files: tuple[Path, Path], tmp_path: Path) -> None:
    model, donor = files
    page = tmp_path / "r.html"
    outcome = command("report", model, "-o", page, "--from", donor, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["inherited"]["donor"] == "donor.onnx"
    for options, words in (
        (("--from", donor, "--no-predict"), "--from"),
        (("--from", tmp_path / "absent.onnx"), "absent.onnx"),
    ):
        outcome = command("report", model, "-o", tmp_path / "other.html", *options)
        assert outcome.code in (1, 2)
        one_line(outcome, words)
        assert not (tmp_path / "other.html").exists()
    outcome = command("report", model, "-o", donor, "--from", donor, "--force")
    assert outcome.code in (1, 2)
    assert donor.read_bytes()[:2] != b"<!"
