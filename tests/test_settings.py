"""Settings: bounds and choices that are told once, defaults of a data set, and what a subclass changes."""

from __future__ import annotations

import dataclasses
from typing import Literal

import pytest

from onnx_ghn.errors import OptionError
from onnx_ghn.settings import Settings, made, required, setting, settings_of, values


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rate(Settings):
    rate: float = setting(0.5, "A rate.", above=0, most=1)
    seed: int | None = setting(None, "A seed.", "-s", least=0)
    plain: int = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind(Rate):
    dataset: str = setting("cifar10", "Images.")
    kind: Literal["a", "b"] = setting("a", "A kind.", imagenet="b")
    rate: float = 0.25
    steps: int = required("Steps.", least=1, below=10)


def test_settings_are_listed_with_what_their_fields_say() -> None:
    told = {one.name: one for one in settings_of(Kind)}
    assert list(told) == ["dataset", "kind", "rate", "steps", "seed"]  # its own first; `plain` says nothing
    assert (told["rate"].default, told["rate"].help, told["rate"].above) == (0.25, "A rate.", 0)
    assert (told["kind"].choices, told["seed"].kind, told["seed"].optional) == (("a", "b"), int, True)
    assert told["steps"].needed
    assert {one.name: one.default for one in settings_of(Rate)} == {"rate": 0.5, "seed": None}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rate": 0}, "`rate` 0 must be more than 0"),
        ({"rate": 1.5}, "`rate` 1.5 must be at most 1"),
        ({"rate": float("nan")}, "`rate` nan must be at most 1 and more than 0"),
        ({"seed": -1}, "`seed` -1 must be at least 0"),
        ({"kind": "c"}, "`kind` c must be one of a, b"),
        ({"steps": 10}, "`steps` 10 must be less than 10"),
    ],
)
def test_values_out_of_bounds_are_refused(given: dict[str, object], message: str) -> None:
    assert Kind(**{"steps": 9, "rate": 1, "seed": 0, "kind": "b"}).steps == 9  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=f"^{message}$"):
        Kind(**{"steps": 1} | given)  # type: ignore[arg-type]


def test_defaults_are_those_of_the_data_set() -> None:
    assert made(Kind, {"steps": 1, "seed": None, "other": 5, "plain": 6}) == Kind(steps=1)
    assert made(Kind, {"steps": 1, "dataset": "imagenet"}).kind == "b"
    assert made(Kind, {"steps": 1, "dataset": "imagenet", "kind": "a"}).kind == "a"


def test_what_is_extended_is_taken_out_again() -> None:
    assert Rate(**values(Kind(steps=2, seed=7, plain=4), Rate)) == Rate(rate=0.25, seed=7, plain=4)
