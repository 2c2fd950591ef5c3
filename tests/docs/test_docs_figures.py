"""Figures on the pages are those that the benchmarks wrote, and each result says where it comes from."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from figures.pages import PAGES, names_in, rewritten  # noqa: E402
from figures.sources import RESULTS, changed_since, sources  # noqa: E402
from figures.tables import TABLES  # noqa: E402

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


def test_the_figures_of_the_text_are_in_the_results() -> None:
    """The sentences of the README that repeat a figure of a table."""
    race = (ROOT / "docs/race.md").read_text(encoding="utf-8")
    at_the_end = race[race.index("<!-- figures: race-at-100 -->") :]
    row = next(line for line in at_the_end.splitlines() if line.startswith("| ShuffleNetV2, thin |"))
    own, everything, kernels = (re.findall(r"(\d+\.\d) ±", row)[i] for i in (0, 1, 3))
    end = race[race.index("<!-- figures: race-to-the-end -->") :]
    long = [
        re.findall(r"(\d+\.\d) ±", line)[-1]
        for line in end.splitlines()
        if line.startswith(("| MobileNetV2 on spoken-spectra | `own`", "| MobileNetV2 on spoken-spectra | `spatial`"))
    ]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"it ends at {kernels} % instead of {own} %, with `--policy all` at {everything} %" in readme
    assert f"{long[0]} % from its own start and {long[1]} % with predicted kernels" in readme
