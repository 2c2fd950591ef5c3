"""The ledger's trainable elements are the framework's, and `load` brings what onnxruntime computes: exactly.

The light modules run by default, by torch's first exporter; all that torch builds by `make test-slow`.
"""

from __future__ import annotations

import importlib.util

import pytest
from exact_counts import CLOSE, counted
from exact_zoo import EXPORTERS, MODULES, REASONS, Module

# Frameworks warn about themselves while they build and export their models.
pytestmark = pytest.mark.filterwarnings("ignore")

_BY_NAME = {module.name: module for module in MODULES}
_LIGHT = (
    "timm:test_nfnet",
    "hf:mixtral",
    "torch:small_networks.py:vit",
)
_NEEDED = {zoo: zoo for zoo in ("torchvision", "timm", "transformers")}
_TORCH = [(module, by) for module in MODULES if module.zoo in _NEEDED for by in EXPORTERS[module.zoo]]


def _check(module: Module, exporter: str) -> None:
    if importlib.util.find_spec(_NEEDED[module.zoo]) is None:
        pytest.skip(f"{module.zoo} is not installed")
    counts = counted(module, exporter)
    assert counts.failed == ""
    assert counts.framework > 0
    assert (counts.with_notes, counts.without_notes) == (counts.framework, counts.framework)
    assert counts.load is not None
    assert counts.load < CLOSE


@pytest.mark.parametrize("name", _LIGHT)
def test_light_modules_have_exactly_the_elements_of_the_framework(name: str) -> None:
    _check(_BY_NAME[name], "torchscript")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "exporter"), [pytest.param(*each, id=f"{each[0].name}-{each[1]}") for each in _TORCH]
)
def test_modules_have_exactly_the_elements_of_the_framework(module: Module, exporter: str) -> None:
    if reason := REASONS.get((module.name, exporter)):
        with pytest.raises(AssertionError):
            _check(module, exporter)
        pytest.skip(reason)
    _check(module, exporter)


def test_reasons_are_of_modules_that_are_counted() -> None:
    assert {(module.name, by) for module in MODULES for by in EXPORTERS[module.zoo]} >= REASONS.keys()


def test_there_are_a_hundred_and_fifty_modules() -> None:
    names = [module.name for module in MODULES]
    assert len(set(names)) == len(names) == 150
    assert {module.zoo for module in MODULES} == set(EXPORTERS)
