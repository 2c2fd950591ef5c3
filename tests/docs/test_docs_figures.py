"""Figures on the pages are those that the benchmarks wrote, and each result says where it comes from."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from figures.pages import PAGES, names_in, rewritten  # noqa: E402
from figures.race import judged_starts, raced  # noqa: E402
from figures.sentences import ALONE, REPEATED, SENTENCES, figures_of, running_text  # noqa: E402
from figures.sources import RESULTS, changed_since, sources  # noqa: E402
from figures.tables import TABLES  # noqa: E402
from start_curves import lines_of, networks  # noqa: E402

SHOWN = {name: page for page in PAGES for name in names_in(page)}


WITH_TABLES = [page for page in PAGES if names_in(page)]


@pytest.mark.parametrize("page", WITH_TABLES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_say_what_the_results_say(page: Path) -> None:
    """After a new measurement: python benchmarks/keep_figures.py --write"""
    text = page.read_text(encoding="utf-8")
    assert rewritten(text, lambda name: TABLES[name]()) == text


def test_every_table_is_shown() -> None:
    assert set(SHOWN) == set(TABLES)


def test_a_changed_figure_is_found() -> None:
    text = (ROOT / "docs/race.md").read_text(encoding="utf-8")
    changed = text.replace("| ShuffleNetV2, thin | accuracy % | 24.6", "| ShuffleNetV2, thin | accuracy % | 23.6")
    assert changed != text
    assert rewritten(changed, lambda name: TABLES[name]()) == text


def test_every_result_has_its_source() -> None:
    found = sources()
    assert {source.file for source in found.values() if source.file} == {
        path.name for path in RESULTS.iterdir() if path.name != "sources.toml"
    }
    for name, source in found.items():
        script = re.search(r"\S+\.py", source.command)
        assert script is not None, name
        assert (ROOT / script.group()).is_file(), name
        for path in (*source.inputs, *source.pages):
            assert (ROOT / path).exists(), f"{name}: {path}"


def test_what_changed_since_a_measurement_is_listed() -> None:
    if subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, check=False).returncode != 0:
        pytest.skip("this is no git checkout")
    source = dataclasses.replace(sources()["race"], revision="HEAD", inputs=("LICENSE",))
    assert changed_since(source) == []
    with pytest.raises(LookupError, match="a full clone is needed"):
        changed_since(dataclasses.replace(source, revision="0" * 40))


@pytest.mark.parametrize("page", SENTENCES)
def test_sentences_say_what_the_results_say(page: str) -> None:
    text = running_text(ROOT / page)
    for sentence in SENTENCES[page]:
        assert sentence() in text


@pytest.mark.parametrize("page", REPEATED)
def test_repeated_figures_are_those_of_the_page_that_shows_them(page: str) -> None:
    text = running_text(ROOT / page)
    for repeated in REPEATED[page]:
        assert repeated.text in text
        told = [repeated.text[begin:end] for begin, end in figures_of(repeated.text)]
        assert sorted(told) == sorted(repeated.rows)
        lines = (ROOT / repeated.source).read_text(encoding="utf-8").splitlines()
        for figure, begins in repeated.rows.items():
            rows = [line for line in lines if line.startswith(begins)]
            assert any(re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d.])", row) for row in rows), figure


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_no_figure_of_the_text_stands_on_nothing(page: str) -> None:
    text = running_text(ROOT / page)
    held = [sentence() for sentence in SENTENCES[page]] + [one.text for one in REPEATED[page]] + list(ALONE[page])
    spans = [match.span() for words in held for match in re.finditer(re.escape(words), text)]
    loose = [
        text[max(0, begin - 60) : end + 20]
        for begin, end in figures_of(text)
        if not any(first <= begin and end <= last for first, last in spans)
    ]
    assert loose == []
    for words in ALONE[page]:
        assert words in text


def test_figures_of_a_text_are_found() -> None:
    text = "Python 3.11; torch 2.14.1; 38.5 % of 1,000, 8 points, **0.90** and 1,024.5."
    assert [text[begin:end] for begin, end in figures_of(text)] == ["38.5", "8", "0.90", "1,024.5"]


def test_the_picture_draws_what_each_network_gets_by_default() -> None:
    found, network = raced("race.jsonl"), "ShuffleNetV2, thin"
    for start in ("own", "spatial"):
        own, default, everything = lines_of(network, found[network], {network: start})
        assert own is found[network]["own"]
        assert default is found[network][start]
        assert everything is found[network]["all"]
    for by_default, words in (({}, "does not say what ShuffleNetV2"), ({network: "lsuv+x"}, "no results of .* lsuv")):
        with pytest.raises(click.ClickException, match=words):
            lines_of(network, found[network], by_default)
    assert set(networks()) <= set(judged_starts())
